//! Projecting answers from the ledger: of a person's records for an event the newest counts; answers that came before
//! their event wait in the ledger until it is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entities::{event, event_attendee as attendee, sets::SourceType, sets::Verdict, source_record as record};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter};

use super::{Work, organizer_of};
use crate::{
    domain::{
        account::shadow,
        event::write::by_uri,
        rsvp::write as rsvp,
        source::{Draft, RsvpDraft, bluesky},
    },
    error::Result,
    infra::db::among,
};

/// A person's newest record for an event.
struct Answer {
    record: record::Model,
    draft: RsvpDraft,
}

impl Work {
    pub(super) async fn project_answers(&mut self, tx: &DatabaseTransaction) -> Result<()> {
        let appeared: BTreeSet<String> = self.touched.appeared().map(str::to_owned).collect();
        let mut subjects: BTreeSet<String> = self.ledger.answers().iter().map(|(subject, _)| subject.clone()).collect();
        subjects.extend(appeared.iter().cloned());
        let organizers: BTreeSet<String> = subjects.iter().filter_map(|subject| organizer_of(subject)).collect();
        self.hold(tx, organizers).await?;
        let events = by_uri(tx, self.tenant, subjects.into_iter().collect()).await?;
        if events.is_empty() {
            return Ok(());
        }
        let changed: BTreeSet<(String, String)> =
            self.ledger.answers().iter().filter(|(subject, _)| events.contains_key(subject)).cloned().collect();
        let mut newest = newest_answers(tx, &changed, &appeared).await?;

        let people: BTreeSet<String> = newest.keys().chain(&changed).map(|(_, did)| did.clone()).collect();
        if self.learn(tx, &people).await? {
            // Those who answered early may have taken it back until they were held. Nobody can have joined them: that
            // takes the organiser's lock, which is held.
            newest = newest_answers(tx, &changed, &appeared).await?;
        }
        let answering: BTreeSet<String> = newest.keys().map(|(_, did)| did.clone()).collect();
        let mut accounts = shadow::find_or_create(tx, self.tenant, answering.into_iter().collect(), self.now).await?;
        self.persisted.shadows += accounts.created;
        let rest: Vec<String> = people.into_iter().filter(|did| !accounts.ids.contains_key(did)).collect();
        accounts.ids.extend(shadow::find(tx, self.tenant, rest).await?);

        let users: Vec<i64> = accounts.ids.values().copied().collect();
        let held = rsvp::of(tx, self.tenant, events.values().map(|event| event.id).collect(), users).await?;
        let mut held: HashMap<(i64, i64), attendee::Model> =
            held.into_iter().map(|row| ((row.event_id, row.user_id), row)).collect();

        let pairs: BTreeSet<&(String, String)> = newest.keys().chain(&changed).collect();
        let mut written = Vec::new();
        let mut removed = Vec::new();
        for pair in pairs {
            let (Some(event), Some(user_id)) = (events.get(&pair.0), accounts.ids.get(&pair.1)) else { continue };
            let before = held.remove(&(event.id, *user_id));
            let Some(answer) = newest.get(pair) else {
                removed.extend(before.iter().map(|row| row.id));
                if before.is_some() {
                    self.touched.answers(event.clone());
                }
                continue;
            };
            let after = self.answer(event, *user_id, answer, before.as_ref());
            if before.as_ref() != Some(&after) {
                if before.is_none_or(|before| is_visible_change(&before, &after)) {
                    self.touched.answers(event.clone());
                }
                written.push(after);
            }
        }
        rsvp::delete(tx, removed).await?;
        rsvp::upsert(tx, written).await
    }

    fn answer(
        &self,
        event: &event::Model,
        user_id: i64,
        answer: &Answer,
        before: Option<&attendee::Model>,
    ) -> attendee::Model {
        let Answer { record, draft } = answer;
        let mut after = attendee::Model {
            id: before.map_or(0, |before| before.id),
            tenant_id: self.tenant.id(),
            event_id: event.id,
            user_id,
            status: draft.status,
            source_type: SourceType::Bluesky,
            record_uri: Some(record.uri.clone()),
            record_cid: record.cid.clone(),
            record_rev: Some(record.rev.clone()),
            event_cid: draft.event_cid.clone(),
            is_hidden: !self.is_active(&record.did),
            created_at: before.map_or(self.now, |before| before.created_at),
            updated_at: before.map_or(self.now, |before| before.updated_at),
        };
        if before.is_some_and(|before| *before != after) {
            after.updated_at = self.now;
        }
        after
    }
}

fn is_visible_change(before: &attendee::Model, after: &attendee::Model) -> bool {
    before.status != after.status || before.is_hidden != after.is_hidden
}

/// The newest readable record of each (event, person): of the changed ones, and of everybody for events that appeared.
/// Two records of one revision are told apart by their URI, so that every order of arrival has the same winner.
async fn newest_answers(
    tx: &impl ConnectionTrait,
    changed: &BTreeSet<(String, String)>,
    appeared: &BTreeSet<String>,
) -> Result<BTreeMap<(String, String), Answer>> {
    let backend = tx.get_database_backend();
    let subjects: BTreeSet<&String> = changed.iter().map(|(subject, _)| subject).collect();
    let people: BTreeSet<&String> = changed.iter().map(|(_, did)| did).collect();
    let mut wanted = Condition::any();
    if !changed.is_empty() {
        wanted = wanted.add(
            Condition::all()
                .add(among(backend, record::Column::SubjectUri, subjects.into_iter().cloned().collect()))
                .add(among(backend, record::Column::Did, people.into_iter().cloned().collect())),
        );
    }
    if !appeared.is_empty() {
        wanted = wanted.add(among(backend, record::Column::SubjectUri, appeared.iter().cloned().collect()));
    }
    let rows = record::Entity::find()
        .filter(wanted)
        .filter(record::Column::DeletedAt.is_null())
        .filter(record::Column::Verdict.ne(Verdict::Unreadable))
        .all(tx)
        .await?;
    let mut newest: BTreeMap<(String, String), Answer> = BTreeMap::new();
    for row in rows {
        let Some(subject) = row.subject_uri.clone() else { continue };
        let pair = (subject, row.did.clone());
        if !changed.contains(&pair) && !appeared.contains(&pair.0) {
            continue;
        }
        let is_newer = |held: &Answer| (&held.record.rev, &held.record.uri) < (&row.rev, &row.uri);
        if !newest.get(&pair).is_none_or(is_newer) {
            continue;
        }
        let reading = bluesky::read(bluesky::Kind::Rsvp, row.record.as_deref().unwrap_or_default());
        if let Ok(Draft::Rsvp(draft)) = reading.draft {
            newest.insert(pair, Answer { record: row, draft });
        }
    }
    Ok(newest)
}
