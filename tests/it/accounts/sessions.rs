//! Sessions: what opens, for how long, and what is kept.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::TimeDelta;
use entities::{session, user};
use gateway::{
    app::App,
    domain::{
        account::sign_in,
        actor::{Actor, Credential, Shown, identify, look},
        key::{self, Wanted},
        session::{self as sessions, Kind},
    },
    error::Code,
    infra::clock::Clock,
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};

use super::signed_in;
use crate::support::{app::TestApp, database::on_each_database};

/// The same program at a time that the test sets.
fn steered(mut app: App) -> (App, impl Fn(TimeDelta)) {
    let start = app.clock.now();
    let passed = Arc::new(AtomicI64::new(0));
    let seen = Arc::clone(&passed);
    app.clock = Clock::steered(move || start + TimeDelta::seconds(seen.load(Ordering::SeqCst)));
    let pass = move |time: TimeDelta| {
        passed.fetch_add(time.num_seconds(), Ordering::SeqCst);
    };
    (app, pass)
}

#[tokio::test]
async fn a_session_opens_until_it_is_ended() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let user = sign_in(&app, &signed_in(1)).await.unwrap();
        let stranger = sign_in(&app, &signed_in(2)).await.unwrap();
        let one = sessions::open(&app, user.id, Kind::Cookie, Some("a browser\n\u{7}")).await.unwrap();
        let two = sessions::open(&app, user.id, Kind::Bearer, None).await.unwrap();
        let theirs = sessions::open(&app, stranger.id, Kind::Bearer, None).await.unwrap();
        let found = sessions::find(&app, &one.token).await.unwrap().unwrap();
        assert_eq!((found.user.id, found.tenant()), (user.id, app.tenant));
        assert_eq!(found.session.user_agent.as_deref(), Some("a browser"));
        // 256 random bits, of which the table holds nothing.
        assert_eq!(one.token.rsplit('_').next().unwrap().len(), 52);
        let kept = format!("{:?}", session::Entity::find().all(test.db.read()).await.unwrap());
        assert!(!kept.contains(one.token.rsplit('_').next().unwrap()));

        let (prefix, secret) = (&found.session.prefix, two.token.rsplit('_').next().unwrap());
        let crossed = format!("{prefix}_{secret}");
        for wrong in [crossed.as_str(), prefix, "", "oms_", &one.token.to_uppercase(), &format!("{}a", one.token)] {
            assert_eq!(sessions::find(&app, wrong).await.unwrap(), None, "{wrong}");
        }

        let listed = sessions::list(&app, user.id).await.unwrap();
        assert_eq!(listed.len(), 2);
        let id = found.session.id;
        let refused = sessions::revoke(&app, stranger.id, id).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "another's session");
        let revoked = sessions::revoke(&app, user.id, id).await.unwrap();
        assert_eq!(sessions::find(&app, &one.token).await.unwrap(), None);
        assert_eq!(sessions::revoke(&app, user.id, id).await.unwrap(), revoked, "once more changes nothing");
        assert!(sessions::find(&app, &two.token).await.unwrap().is_some());
        assert_eq!(sessions::revoke_all(&app, user.id).await.unwrap(), 1);
        assert_eq!(sessions::find(&app, &two.token).await.unwrap(), None);
        assert!(sessions::list(&app, user.id).await.unwrap().is_empty());
        assert!(sessions::find(&app, &theirs.token).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test]
async fn use_puts_the_end_off_but_not_for_ever() {
    on_each_database(async |test| {
        let (app, pass) = steered(TestApp::open(test).await.app);
        let begun = app.clock.now();
        let user = sign_in(&app, &signed_in(1)).await.unwrap();
        let (idle, longest) = (TimeDelta::days(14), TimeDelta::days(90));
        let in_use = sessions::open(&app, user.id, Kind::Cookie, None).await.unwrap();
        let unused = sessions::open(&app, user.id, Kind::Cookie, None).await.unwrap();
        assert_eq!(in_use.expires_at, begun + idle);

        // A use is noted once a minute, and no sooner.
        let noted = async || {
            let rows = session::Entity::find().all(test.db.read()).await.unwrap();
            rows.iter().map(|row| row.last_used_at).max().unwrap()
        };
        for (after, is_noted) in [(30, false), (40, true), (10, false)] {
            pass(TimeDelta::seconds(after));
            let before = noted().await;
            assert!(sessions::find(&app, &in_use.token).await.unwrap().is_some());
            assert_eq!(noted().await > before, is_noted, "after {after} s");
        }
        let mut days = 0;
        while sessions::find(&app, &in_use.token).await.unwrap().is_some() {
            pass(TimeDelta::days(10));
            days += 10;
            if days == 20 {
                assert_eq!(sessions::find(&app, &unused.token).await.unwrap(), None);
            }
        }
        assert_eq!(days, longest.num_days());
        assert!(sessions::list(&app, user.id).await.unwrap().is_empty());
        // What has ended is not kept for ever.
        pass(TimeDelta::days(31));
        let now = app.clock.now();
        assert_eq!(app.db.transact(|tx| async move { sessions::clear(&*tx, now).await }).await.unwrap(), 2);
        assert_eq!(session::Entity::find().count(test.db.read()).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn only_members_have_sessions_and_not_without_number() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let refused = sessions::open(&app, 4711, Kind::Cookie, None).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let user = sign_in(&app, &signed_in(1)).await.unwrap();
        let first = sessions::open(&app, user.id, Kind::Bearer, None).await.unwrap();
        for _ in 0..100 {
            sessions::open(&app, user.id, Kind::Bearer, None).await.unwrap();
        }
        assert_eq!(sessions::list(&app, user.id).await.unwrap().len(), 100);
        assert_eq!(sessions::find(&app, &first.token).await.unwrap(), None);
    })
    .await;
}

/// What stays open is looked up all at once, and says the same as each by itself.
#[tokio::test]
async fn many_are_looked_up_at_once_as_each_is_by_itself() {
    on_each_database(async |test| {
        let (app, pass) = steered(TestApp::open(test).await.app);
        let mut shown = Vec::new();
        for number in 0..20 {
            let user = sign_in(&app, &signed_in(number)).await.unwrap();
            let kind = if number % 2 == 0 { Kind::Cookie } else { Kind::Bearer };
            let session = sessions::open(&app, user.id, kind, None).await.unwrap();
            if number % 5 == 4 {
                sessions::revoke_all(&app, user.id).await.unwrap();
            }
            if number % 7 == 6 {
                let shadow = user::ActiveModel { id: Set(user.id), is_shadow_account: Set(true), ..Default::default() };
                let shadow = &shadow;
                app.db.transact(|tx| async move { Ok(shadow.clone().update(&*tx).await?) }).await.unwrap();
            }
            let wanted = Wanted { name: "a key".to_owned(), is_admin: true, ..Wanted::default() };
            let key = key::create(&app, &Actor::Operator, &wanted).await.unwrap();
            if number % 3 == 2 {
                key::revoke(&app, &Actor::Operator, key::Named::Id(key.row.id)).await.unwrap();
            }
            // With the secret of another, and as the other kind of session, they open nothing.
            let crossed =
                |text: &str| format!("{}{}", &text[..text.len() - 1], if text.ends_with('a') { 'b' } else { 'a' });
            for token in [session.token.clone(), crossed(&session.token)] {
                shown.push((Some(format!("Bearer {token}")), None));
                shown.push((None, Some(token)));
            }
            shown.extend([
                (Some(format!("Bearer {}", key.text)), None),
                (Some(format!("Bearer {}", crossed(&key.text))), None),
            ]);
        }
        pass(TimeDelta::minutes(2));
        let shown = || {
            shown.iter().map(|(authorization, cookie)| Shown {
                authorization: authorization.as_deref(),
                cookie: cookie.as_deref(),
            })
        };
        let credentials: Vec<_> = shown().filter_map(|shown| shown.credential()).collect();
        let looked = look(&app, &credentials).await.unwrap();
        looked.note_use(&app).await;
        let open = looked.open;
        let before = app.db.statement_count();
        let looked = look(&app, &credentials).await.unwrap();
        looked.note_use(&app).await;
        assert_eq!(looked.open, open);
        assert_eq!(
            app.db.statement_count() - before,
            2,
            "when their use is noted, a statement for each table is enough"
        );
        let noted = session::Entity::find()
            .filter(session::Column::LastUsedAt.gte(app.clock.now()))
            .count(test.db.read())
            .await
            .unwrap();
        let mut sessions_open = 0;
        for (shown, credential) in shown().zip(&credentials) {
            let opens = identify(&app, shown, None).await.is_ok_and(|actor| actor != Actor::Anonymous);
            assert_eq!(open.contains(credential), opens, "{shown:?}");
            sessions_open += u64::from(opens && matches!(credential, Credential::Session(..)));
        }
        assert!(open.len() > 20 && credentials.len() == 120, "{} of {}", open.len(), credentials.len());
        assert_eq!(noted, sessions_open, "all of them are in use");
    })
    .await;
}
