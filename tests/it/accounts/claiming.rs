//! Shadow accounts that become somebody's: nothing is lost, whatever both had, however often it is said.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use entities::{
    audit_entry, change, event, event_attendee as attendee,
    sets::{AuditAction, RsvpStatus, SourceType, UserRole},
    user,
};
use fastrand::Rng;
use gateway::{
    app::App,
    domain::{
        account::{self, Choice, care},
        actor::Actor,
        person::Person,
        session::{self, Kind},
    },
    error::Code,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, PaginatorTrait};
use serde_json::json;

use super::signed_in;
use crate::support::{
    app::TestApp,
    database::{TestDb, on_each_database},
    records::{BEGINNING, EVENT, RSVP, cid_of, commit, did, tid, uri},
};

/// A member who has shown no DID, as OpenMeet makes them.
pub(crate) async fn member(app: &App) -> user::Model {
    let now = app.clock.now();
    let row = &user::ActiveModel {
        tenant_id: Set(app.tenant.id()),
        is_shadow_account: Set(false),
        provider: Set(SourceType::Openmeet),
        role: Set(Some(UserRole::Member)),
        created_at: Set(now),
        updated_at: Set(now),
        ..Default::default()
    };
    app.db.transact(|tx| async move { Ok(row.clone().insert(&*tx).await?) }).await.unwrap()
}

/// The member, signed in.
pub(crate) async fn person(app: &App, user: i64) -> Actor {
    let opened = session::open(app, user, Kind::Bearer, None).await.unwrap();
    let found = session::find(app, &opened.token).await.unwrap().unwrap();
    Actor::Person(Person::of_session(app, &found).await.unwrap())
}

/// An event of a person, as a stream tells it.
pub(super) fn event_of(person: usize, number: i64, revision: i64) -> String {
    let record = json!({
        "$type": EVENT, "createdAt": "2026-01-01T00:00:00Z", "name": format!("event {number}, {revision}"),
    });
    let at = BEGINNING + 1_000 * revision;
    let cid = cid_of(&record.to_string());
    commit(&did(7, person), at, &tid(at, 1), EVENT, &format!("e{number}"), Some((&cid, &record)))
}

/// A person's answer to an event of another one.
fn answer_of(person: usize, (organizer, number): (usize, i64), status: &str, revision: i64) -> String {
    let subject = uri(&did(7, organizer), EVENT, &format!("e{number}"));
    let record = json!({
        "$type": RSVP, "subject": { "uri": subject, "cid": cid_of("one") }, "status": format!("{RSVP}#{status}"),
    });
    let at = BEGINNING + 1_000 * revision;
    let cid = cid_of(&record.to_string());
    commit(&did(7, person), at, &tid(at, 1), RSVP, &format!("to{organizer}x{number}"), Some((&cid, &record)))
}

type Answers = BTreeMap<(i64, i64), (RsvpStatus, DateTime<Utc>)>;

/// Who organises what, who answered what and when, and what each event counts.
async fn state(test: &TestDb) -> (BTreeMap<i64, i64>, Answers, BTreeMap<i64, [i32; 3]>) {
    let events = event::Entity::find().all(test.db.read()).await.unwrap();
    let answers = attendee::Entity::find().all(test.db.read()).await.unwrap();
    (
        events.iter().map(|row| (row.id, row.user_id)).collect(),
        answers.iter().map(|row| ((row.event_id, row.user_id), (row.status, row.updated_at))).collect(),
        events.iter().map(|row| (row.id, [row.confirmed_count, row.maybe_count, row.cancelled_count])).collect(),
    )
}

fn counted(answers: &Answers) -> BTreeMap<i64, [i32; 3]> {
    let mut counts: BTreeMap<i64, [i32; 3]> = BTreeMap::new();
    for ((event, _), (status, _)) in answers {
        let place = match status {
            RsvpStatus::Confirmed => 0,
            RsvpStatus::Maybe => 1,
            RsvpStatus::Cancelled => 2,
        };
        counts.entry(*event).or_default()[place] += 1;
    }
    counts
}

/// Person 0 has a shadow with events and answers; a member without a DID has answered some of the same events.
async fn world(test: &TestDb, gateway: &TestApp, rng: &mut Rng) -> user::Model {
    let mut lines = Vec::new();
    for person in 0..3 {
        lines.extend((0..rng.i64(0..4)).map(|number| event_of(person, number, number + 1)));
    }
    for person in 0..3 {
        for organizer in 0..3 {
            for number in 0..4 {
                if rng.bool() {
                    let status = ["going", "interested", "notgoing"][rng.usize(..3)];
                    lines.push(answer_of(person, (organizer, number), status, 100 + rng.i64(0..50)));
                }
            }
        }
    }
    // The shadow is there whatever else it has.
    lines.push(event_of(0, 9, 1));
    gateway.submit(&lines).await;
    let member = member(&gateway.app).await;
    for row in event::Entity::find().all(test.db.read()).await.unwrap() {
        if rng.bool() {
            continue;
        }
        let statuses = [RsvpStatus::Confirmed, RsvpStatus::Maybe, RsvpStatus::Cancelled];
        // Some before the shadow's answers, some after them.
        let at = gateway.app.clock.now() + TimeDelta::hours(if rng.bool() { 1 } else { -1 });
        let answer = &attendee::ActiveModel {
            tenant_id: Set(row.tenant_id),
            event_id: Set(row.id),
            user_id: Set(member.id),
            status: Set(statuses[rng.usize(..3)]),
            source_type: Set(SourceType::Openmeet),
            is_hidden: Set(false),
            created_at: Set(at),
            updated_at: Set(at),
            ..Default::default()
        };
        let count = gateway.app.db.transact(|tx| async move {
            answer.clone().insert(&*tx).await?;
            gateway::domain::rsvp::write::recount(&*tx, &[row.id]).await
        });
        count.await.unwrap();
    }
    member
}

#[tokio::test(flavor = "multi_thread")]
async fn linking_transfers_everything_and_loses_nothing() {
    // Boxed: it is large.
    Box::pin(on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        let (app, mut rng) = (&gateway.app, Rng::with_seed(11));
        for round in 0..12 {
            let member = world(test, &gateway, &mut rng).await;
            let shadows = user::Entity::find().all(test.db.read()).await.unwrap();
            let shadow = shadows.iter().find(|row| row.did.as_deref() == Some(&did(7, 0))).unwrap().clone();
            let (organizers, answers, _) = state(test).await;
            let changes = change::Entity::find().count(test.db.read()).await.unwrap();

            // What a plain model says.
            let organized: BTreeSet<i64> =
                organizers.iter().filter(|(_, user)| **user == shadow.id).map(|(event, _)| *event).collect();
            let answered: BTreeSet<i64> =
                answers.keys().filter(|(_, user)| *user == shadow.id).map(|(event, _)| *event).collect();
            let expected_organizers: BTreeMap<i64, i64> = organizers
                .iter()
                .map(|(event, user)| (*event, if *user == shadow.id { member.id } else { *user }))
                .collect();
            let mut expected = Answers::new();
            for ((event, user), answer) in &answers {
                let user = if *user == shadow.id { member.id } else { *user };
                let held = expected.entry((*event, user)).or_insert(*answer);
                if answer.1 > held.1 {
                    *held = *answer;
                }
            }

            // Both processes at once, and again.
            let other = TestApp::open(test).await;
            let shown = signed_in(0);
            let links =
                tokio::join!(account::link(app, member.id, &shown), account::link(&other.app, member.id, &shown));
            let (one, two) = (links.0.unwrap().transferred, links.1.unwrap().transferred);
            assert_eq!(one.events + two.events, organized.len() as u64, "round {round}");
            let won = |event: &&i64| expected[&(**event, member.id)] == answers[&(**event, shadow.id)];
            assert_eq!(one.answers + two.answers, answered.iter().filter(won).count() as u64, "round {round}");
            let (organizers, answers, counts) = state(test).await;
            assert_eq!(organizers, expected_organizers, "round {round}");
            assert_eq!(answers, expected, "round {round}");
            let counted = counted(&answers);
            for (event, counts) in &counts {
                assert_eq!(*counts, counted.get(event).copied().unwrap_or_default(), "round {round}, event {event}");
            }
            assert!(user::Entity::find_by_id(shadow.id).one(test.db.read()).await.unwrap().is_none());
            let told = change::Entity::find().count(test.db.read()).await.unwrap() - changes;
            assert_eq!(told, organized.union(&answered).count() as u64, "round {round}: each event once");
            let again = account::link(app, member.id, &signed_in(0)).await.unwrap();
            assert_eq!(again.transferred, account::Transferred::default());
            let claimed = account::claim(app, &person(app, member.id).await, shadow.id).await.unwrap();
            assert_eq!(claimed.transferred, account::Transferred::default(), "claimed with the link");

            // What comes later is the member's.
            let before = user::Entity::find().count(test.db.read()).await.unwrap();
            gateway.submit(&[event_of(0, 9, 200 + round), event_of(0, 50, 200 + round)]).await;
            gateway.submit(&[answer_of(0, (0, 9), "going", 900 + round)]).await;
            assert_eq!(user::Entity::find().count(test.db.read()).await.unwrap(), before, "no new shadow");
            let (organizers, answers, _) = state(test).await;
            assert!(organized.iter().all(|event| organizers[event] == member.id));
            let mine = event::Entity::find().all(test.db.read()).await.unwrap();
            let mine =
                mine.iter().find(|row| row.record_uri.as_deref() == Some(&uri(&did(7, 0), EVENT, "e9"))).unwrap();
            assert_eq!(answers[&(mine.id, member.id)].0, RsvpStatus::Confirmed);

            // A new world: the member's records go with the accounts.
            let wipe = app.db.transact(|tx| async move {
                attendee::Entity::delete_many().exec(&*tx).await?;
                event::Entity::delete_many().exec(&*tx).await?;
                entities::source_record::Entity::delete_many().exec(&*tx).await?;
                user::Entity::delete_many().exec(&*tx).await?;
                Ok(())
            });
            wipe.await.unwrap();
        }
    }))
    .await;
}

#[tokio::test]
async fn nobody_gets_what_is_somebody_elses() {
    on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        let app = &gateway.app;
        gateway.submit(&[event_of(1, 1, 1)]).await;
        let shadow = user::Entity::find().one(test.db.read()).await.unwrap().unwrap();
        let stranger = account::sign_in(app, &signed_in(2)).await.unwrap();
        let actor = person(app, stranger.id).await;
        let refused = account::claim(app, &actor, shadow.id).await.unwrap_err();
        assert_eq!(refused.reason(), "NOT_YOURS");
        assert_eq!(account::claim(app, &actor, 4711).await.unwrap_err().code(), Code::NotFound);
        assert_eq!(account::claim(app, &Actor::Anonymous, shadow.id).await.unwrap_err().code(), Code::Unauthenticated);
        let refused = account::claim_for(app, &actor, shadow.id, stranger.id).await.unwrap_err();
        assert_eq!(refused.code(), Code::Forbidden);
        // One account, one DID; one DID, one member.
        let refused = account::link(app, stranger.id, &signed_in(1)).await.unwrap_err();
        assert_eq!(refused.reason(), "ALREADY_LINKED");
        let nameless = member(app).await;
        let refused = account::link(app, nameless.id, &signed_in(2)).await.unwrap_err();
        assert_eq!(refused.reason(), "DID_TAKEN");
        assert_eq!(user::Entity::find().count(test.db.read()).await.unwrap(), 3);
        let row = event::Entity::find().one(test.db.read()).await.unwrap().unwrap();
        assert_eq!(row.user_id, shadow.id);
    })
    .await;
}

#[tokio::test]
async fn a_link_is_cut_and_made_again() {
    on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        let app = &gateway.app;
        let user = account::sign_in(app, &signed_in(1)).await.unwrap();
        let actor = person(app, user.id).await;
        let chosen = account::choose(app, &actor, Choice { auto_post: Some(true), connected: None }).await.unwrap();
        assert!(chosen.auto_post && chosen.connected);
        let cut = account::disconnect(app, &actor).await.unwrap();
        assert!(!cut.connected && cut.disconnected_at.is_some() && cut.auto_post);
        assert_eq!(account::disconnect(app, &actor).await.unwrap(), cut, "once more changes nothing");
        let again = account::choose(app, &actor, Choice { connected: Some(true), ..Choice::default() }).await;
        assert_eq!(again.unwrap_err().reason(), "SIGN_IN_NEEDED");
        // Its records still come to it.
        gateway.submit(&[event_of(1, 1, 1)]).await;
        assert_eq!(event::Entity::find().one(test.db.read()).await.unwrap().unwrap().user_id, user.id);
        let back = account::sign_in(app, &signed_in(1)).await.unwrap().preferences_bluesky.unwrap();
        assert!(back.connected && back.auto_post && back.disconnected_at.is_none());
        let actions = audit_entry::Entity::find().all(test.db.read()).await.unwrap();
        let actions: Vec<AuditAction> = actions.iter().map(|entry| entry.action).collect();
        assert_eq!(actions, [AuditAction::Joined, AuditAction::Disconnected]);
        let nameless = member(app).await;
        let none = account::disconnect(app, &person(app, nameless.id).await).await.unwrap_err();
        assert_eq!(none.reason(), "NOT_LINKED");
    })
    .await;
}

#[tokio::test]
async fn administrators_look_after_shadows() {
    on_each_database(async |test| {
        let gateway = TestApp::open(test).await;
        let (app, by) = (&gateway.app, &Actor::Operator);
        gateway.submit(&[event_of(1, 1, 1), event_of(1, 2, 2), answer_of(2, (1, 1), "going", 9)]).await;
        let find = async |person: usize| {
            let rows = user::Entity::find().all(test.db.read()).await.unwrap();
            rows.into_iter().find(|row| row.did.as_deref() == Some(&did(7, person)))
        };
        let empty = care::create(app, by, &did(7, 3)).await.unwrap();
        assert_eq!(care::create(app, by, &did(7, 3)).await.unwrap(), empty, "once more changes nothing");
        assert_eq!(care::create(app, by, "did:key:z").await.unwrap_err().reason(), "DID_MALFORMED");
        let (one, two) = (find(1).await.unwrap(), find(2).await.unwrap());
        let refused = care::merge(app, by, one.id, two.id).await.unwrap_err();
        assert_eq!(refused.reason(), "BOTH_HAVE_DIDS");
        assert_eq!(care::merge(app, by, one.id, one.id).await.unwrap_err().reason(), "SAME_ACCOUNT");
        assert_eq!(care::delete(app, by, two.id).await.unwrap_err().reason(), "SHADOW_IN_USE");
        care::delete(app, by, empty.id).await.unwrap();
        assert_eq!(care::delete(app, by, empty.id).await.unwrap_err().code(), Code::NotFound);

        // Given to a member without a DID; whoever shows the DID later gets the account alone.
        let nameless = member(app).await;
        let squatter = session::open(app, nameless.id, Kind::Bearer, None).await.unwrap();
        let claimed = account::claim_for(app, by, one.id, nameless.id).await.unwrap();
        assert_eq!((claimed.transferred.events, claimed.user.did), (2, Some(did(7, 1))));
        let again = account::claim_for(app, by, one.id, nameless.id).await.unwrap();
        assert_eq!(again.transferred.events, 0);
        assert!(session::find(app, &squatter.token).await.unwrap().is_some());
        let owner = account::sign_in(app, &signed_in(1)).await.unwrap();
        assert_eq!(owner.id, nameless.id);
        assert_eq!(session::find(app, &squatter.token).await.unwrap(), None);

        let granted = care::set_role(app, by, owner.id, UserRole::Admin).await.unwrap();
        assert_eq!(granted.role, Some(UserRole::Admin));
        let admin = person(app, owner.id).await;
        admin.administers(app.tenant).unwrap();
        assert_eq!(care::set_role(app, &admin, owner.id, UserRole::Member).await.unwrap_err().reason(), "OWN_ROLE");
        assert_eq!(care::set_role(app, &admin, two.id, UserRole::Admin).await.unwrap_err().code(), Code::NotFound);
        let noted = audit_entry::Entity::find().all(test.db.read()).await.unwrap();
        let noted: Vec<(AuditAction, &str)> = noted.iter().map(|entry| (entry.action, entry.actor.as_str())).collect();
        assert_eq!(
            noted,
            [
                (AuditAction::ShadowCreated, "operator"),
                (AuditAction::ShadowDeleted, "operator"),
                (AuditAction::Claimed, "operator"),
                (AuditAction::RoleChanged, "operator"),
            ]
        );
    })
    .await;
}
