//! Service keys: what opens, what does not, and what is kept of them.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta};
use entities::{service_key, sets::SourceType};
use gateway::{
    domain::{
        actor::Actor,
        key::{self, Named, SOURCES, Wanted},
    },
    error::Error,
    infra::clock::Clock,
};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::support::{
    app::{TestApp, make_key},
    database::{on_each_database, sqlite},
    process::Program,
};

/// The same key with one character changed.
fn forged(text: &str, at: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_key_opens_for_its_sources_until_it_is_revoked() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let text = make_key(&app, " a scraper\u{7} ", &[SourceType::Web, SourceType::Web], false).await;
        let other = make_key(&app, "another", &SOURCES, false).await;
        assert_ne!(text, other);
        let shown = key::verify(&app, &text).await.unwrap().unwrap();
        assert_eq!(shown.tenant, app.tenant);
        assert!(text.starts_with(&format!("{}_", shown.prefix)));
        let speaks = [SourceType::Openmeet, SourceType::Bluesky, SourceType::Web, SourceType::Other]
            .map(|source| shown.speaks_for(source));
        assert_eq!(speaks, [false, false, true, false]);

        // The prefix of one with the secret of the other.
        let crossed = format!("{}{}", shown.prefix, other.get(shown.prefix.len()..).unwrap());
        let cut = text.get(..text.len() - 1).unwrap().to_owned();
        let wrong = [forged(&text, 6), forged(&text, 30), forged(&text, text.len() - 1), text.to_uppercase(), crossed];
        let wrong =
            wrong.into_iter().chain([cut, format!("{text}a"), shown.prefix.clone(), String::new(), "\0".into()]);
        for wrong in wrong {
            assert_eq!(key::verify(&app, &wrong).await.unwrap(), None, "{wrong}");
        }

        key::revoke(&app, &Actor::Operator, Named::Text(&shown.prefix)).await.unwrap();
        assert_eq!(key::verify(&app, &text).await.unwrap(), None);
        assert!(key::verify(&app, &other).await.unwrap().is_some());
        let revoked = key::list(&app, &Actor::Operator).await.unwrap();
        assert_eq!(revoked.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["a scraper", "another"]);
        assert_eq!(revoked.iter().map(|row| row.revoked_at.is_some()).collect::<Vec<_>>(), [true, false]);
        // Once more, by the whole key: it stays revoked since the first time.
        key::revoke(&app, &Actor::Operator, Named::Text(&text)).await.unwrap();
        assert_eq!(key::list(&app, &Actor::Operator).await.unwrap(), revoked);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_kept_as_its_hash_alone() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let text = make_key(&app, "a processor", &[SourceType::Bluesky], false).await;
        let secret = text.rsplit('_').next().unwrap();
        // 256 bits in base 32.
        assert_eq!(secret.len(), 52);
        let row = service_key::Entity::find().one(app.db.read()).await.unwrap().unwrap();
        assert_eq!(row.hash.len(), 32);
        assert!(!format!("{row:?}").contains(secret));
        let raw = String::from_utf8_lossy(&row.hash).into_owned();
        assert!(!raw.contains(secret) && !text.contains(&raw));
    })
    .await;
}

#[tokio::test]
async fn the_latest_use_is_known_to_about_an_hour() {
    on_each_database(async |test| {
        let mut app = TestApp::open(test).await.app;
        let at = |minutes: i64| DateTime::from_timestamp(1_780_000_000, 0).unwrap() + TimeDelta::minutes(minutes);
        let minutes = Arc::new(AtomicI64::new(0));
        let steered = Arc::clone(&minutes);
        app.clock = Clock::steered(move || at(steered.load(Ordering::SeqCst)));
        let text = make_key(&app, "a processor", &[SourceType::Bluesky], false).await;
        assert_eq!(key::list(&app, &Actor::Operator).await.unwrap()[0].last_used_at, None);
        for (now, noted) in [(1, 1), (2, 1), (60, 1), (61, 61), (500, 500)] {
            minutes.store(now, Ordering::SeqCst);
            let before = app.db.statement_count();
            key::verify(&app, &text).await.unwrap().unwrap();
            let listed = key::list(&app, &Actor::Operator).await.unwrap();
            assert_eq!(listed[0].last_used_at, Some(at(noted)), "after {now} minutes");
            // The look-up, the three of the list, and nothing more while there is nothing to note.
            assert!(now == noted || app.db.statement_count() == before + 4);
        }
        key::verify(&app, &forged(&text, text.len() - 1)).await.unwrap();
        assert_eq!(key::list(&app, &Actor::Operator).await.unwrap()[0].last_used_at, Some(at(500)));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_a_key_is_refused_with_its_reason() {
    on_each_database(async |test| {
        let app = TestApp::open(test).await.app;
        let long = "x".repeat(101);
        let cases = [
            ("default", "", &SOURCES[..], "KEY_NAME_INVALID"),
            ("default", "two\nlines", &SOURCES[..], "KEY_NAME_INVALID"),
            ("default", long.as_str(), &SOURCES[..], "KEY_NAME_INVALID"),
            ("default", "name", &[][..], "KEY_SOURCES_INVALID"),
            ("default", "name", &[SourceType::Web, SourceType::Openmeet][..], "KEY_SOURCES_INVALID"),
            ("nowhere", "name", &SOURCES[..], "NOT_FOUND"),
        ];
        for (tenant, name, sources, reason) in cases {
            let tenants = vec![tenant.to_owned()];
            let wanted = Wanted { name: name.into(), tenants, sources: sources.to_vec(), is_admin: false };
            let error = key::create(&app, &Actor::Operator, &wanted).await.unwrap_err();
            assert_eq!(error.reason(), reason, "{tenant} {name} {sources:?}");
        }
        let stranger = format!("omk_{}_{}", "a".repeat(16), "b".repeat(52));
        let error = key::revoke(&app, &Actor::Operator, Named::Text(&stranger)).await.unwrap_err();
        assert!(matches!(&error, Error::NotFound { key, .. } if !key.contains("bb")), "{error}");
        assert!(key::list(&app, &Actor::Operator).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_operator_makes_lists_and_revokes_keys() {
    let test = sqlite().await;
    let program = Program::over(&test.url);
    let run = async |arguments: &[&str]| {
        let ended = program.run(arguments).await;
        let decoded = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.code(), decoded(ended.stdout), decoded(ended.stderr))
    };
    let list = async || {
        let (code, printed, _) = run(&["keys", "list"]).await;
        assert_eq!(code, Some(0));
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    assert!(list().await.is_empty());
    let (code, made, said) = run(&["keys", "create", "processor", "--source", "bluesky,web"]).await;
    assert_eq!(code, Some(0), "{said}");
    let app = TestApp::open(&test).await.app;
    // The key and nothing else, so that a script can keep it.
    assert!(key::verify(&app, made.trim_end()).await.unwrap().is_some(), "{made}");
    let listed = list().await;
    assert_eq!(
        (listed.len(), &listed[0]["name"], &listed[0]["tenants"]),
        (1, &"processor".into(), &json!(["default"]))
    );
    assert_eq!(listed[0]["sources"], json!(["bluesky", "web"]));
    assert!(listed[0]["lastUsedAt"].is_string() && listed[0]["revokedAt"].is_null());
    assert!(!listed[0].to_string().contains(made.trim_end()));

    let prefix = listed[0]["prefix"].as_str().unwrap();
    let (code, printed, _) = run(&["keys", "revoke", prefix]).await;
    assert_eq!((code, printed.as_str()), (Some(0), "revoked 1\n"));
    assert!(list().await[0]["revokedAt"].is_string());
    assert_eq!(key::verify(&app, made.trim_end()).await.unwrap(), None);

    let (code, _, said) = run(&["keys", "revoke", "omk_nothing"]).await;
    assert_eq!((code, said.contains("service key omk_nothing")), (Some(1), true), "{said}");
    let (code, _, said) = run(&["keys", "create", "x", "--source", "openmeet"]).await;
    assert_eq!((code, said.contains("bluesky, web, other")), (Some(2), true), "{said}");
    test.discard().await;
}
