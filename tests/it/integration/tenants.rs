//! Tenants: whose keys open them, and that nothing of one is seen or touched from another.

use axum::{body::Body, http::Method};
use entities::{event, event_attendee, ingest_failure};
use futures_util::StreamExt;
use gateway::{
    domain::{
        actor::Actor,
        change::Filter,
        ingest::{Outcome, line},
        key::{self, SOURCES},
        tenant,
    },
    error::Error,
};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Bench, EVENTS, RSVPS, account, of_fields, of_web, to_web};
use crate::support::{
    app::{TestApp, make_key_of},
    database::{on_each_database, sqlite},
    process::Program,
    records::BEGINNING,
};

#[tokio::test]
async fn nothing_of_one_tenant_is_touched_from_another() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let app = &bench.test.app;
        for slug in ["second", "third"] {
            tenant::create(app, slug, slug).await.unwrap();
        }
        let key = make_key_of(app, &["second", "third"], &SOURCES, false).await;
        let (second, third) = (bench.by(&key, None), bench.by(&key, Some("third")));
        let mut made = Vec::new();
        for (bench, name) in [(&bench, "of the first"), (&second, "of the second"), (&third, "of the third")] {
            let mut item = of_web("1");
            item["name"] = name.into();
            // The same identifier, page and start, and each is new.
            let answer = bench.bring(EVENTS, &item).await;
            assert_eq!(answer["outcome"], "created", "{name}");
            made.push(answer["slug"].clone());
            bench.bring(RSVPS, &to_web("1", 2, "going")).await;
        }
        let events = event::Entity::find().all(app.db.read()).await.unwrap();
        assert_eq!(events.iter().map(|event| event.confirmed_count).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(events.iter().map(|event| event.user_id).collect::<std::collections::BTreeSet<_>>().len(), 3);
        // A delete takes away its tenant's alone.
        third.take_away(&format!("{EVENTS}?sourceType=web&sourceId=1")).await;
        assert_eq!(third.delete(&format!("{EVENTS}?sourceType=web&sourceId=1")).await.0.as_u16(), 404);
        assert_eq!(bench.events().await.len(), 2);
        // An account is the same person in all of them.
        bench.test.submit(&[account(2, BEGINNING, Some("deactivated"))]).await;
        let counts = bench.events().await.iter().map(|event| event.confirmed_count).collect::<Vec<_>>();
        assert_eq!(counts, [0, 0]);
        bench.test.submit(&[account(2, BEGINNING + 1, None)]).await;
        let counts = bench.events().await.iter().map(|event| event.confirmed_count).collect::<Vec<_>>();
        assert_eq!(counts, [1, 1]);
        // The network is the first tenant's.
        let (status, problem) = second.post(EVENTS, &of_fields(1, 1)).await;
        assert_eq!((status.as_u16(), &problem["code"]), (403, &"FORBIDDEN".into()), "{problem}");
        assert_eq!(bench.bring(EVENTS, &of_fields(1, 1)).await["outcome"], "created");
        let answers = event_attendee::Entity::find().all(app.db.read()).await.unwrap();
        assert_eq!(answers.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_key_opens_its_tenants_and_no_others() {
    let database = sqlite().await;
    let bench = Bench::open(&database).await;
    tenant::create(&bench.test.app, "second", "Second").await.unwrap();
    for (tenant, expected) in [(Some("default"), 202), (Some("second"), 403), (Some("elsewhere"), 403), (Some(""), 403)]
    {
        let (status, answer) = bench.by(&bench.key, tenant).post(EVENTS, &of_web("1")).await;
        assert_eq!(status.as_u16(), expected, "{tenant:?} {answer}");
    }
    // A name that is no text is not taken for none.
    let request = axum::http::Request::post(EVENTS).header("authorization", bench.bearer());
    let request = request.header("x-tenant-id", axum::http::HeaderValue::from_bytes(b"\xff").unwrap());
    let request = request.body(Body::from(of_web("1").to_string())).unwrap();
    let response = tower::ServiceExt::oneshot(bench.doors.clone(), request).await.unwrap();
    assert_eq!(response.status().as_u16(), 403);
    // The same request to another tenant is another request.
    let key = make_key_of(&bench.test.app, &["default", "second"], &SOURCES, false).await;
    for tenant in ["default", "second"] {
        let headers = [("authorization", format!("Bearer {key}")), ("idempotency-key", "one".to_owned())];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (_, _, answer) =
            bench.by(&key, Some(tenant)).send(Method::POST, EVENTS, &headers, of_web("9").to_string()).await;
        assert_eq!(answer["outcome"], "created", "{tenant}");
    }
    database.discard().await;
}

#[tokio::test]
async fn what_is_brought_to_no_tenant_is_parked() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let record = serde_json::value::RawValue::from_string(of_web("1").to_string()).unwrap();
        let claim = |tenant: i64| {
            let claim = line::Claim {
                operation: "merge".into(),
                collection: format!("web://{tenant}/event").into(),
                rkey: "1".into(),
                rev: None,
                record: Some(&record),
                cid: None,
            };
            line::of_claim("web", None, &claim)
        };
        let own = bench.test.app.tenant.id();
        let outcomes = bench.test.submit(&[claim(own), claim(99), claim(own)]).await;
        assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Applied { is_new: true }, &Outcome::Unchanged));
        assert!(matches!(&outcomes[1], Outcome::Parked(parked) if parked.code == "TENANT_UNKNOWN"), "{outcomes:?}");
        let parked = ingest_failure::Entity::find().all(bench.test.app.db.read()).await.unwrap();
        assert_eq!((parked.len(), parked[0].uri.as_deref()), (1, Some("web://99/event/1")));
        assert_eq!(bench.events().await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_operator_makes_and_lists_tenants() {
    let test = sqlite().await;
    let program = Program::over(&test.url);
    let run = async |arguments: &[&str]| {
        let ended = program.run(arguments).await;
        let decoded = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ended.status.code(), decoded(ended.stdout), decoded(ended.stderr))
    };
    assert_eq!(run(&["tenants", "create", "second", "--name", "Second Life"]).await.1, "created second\n");
    let (_, listed, _) = run(&["tenants", "list"]).await;
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = listed.iter().map(|row| (&row["slug"], &row["name"])).collect();
    assert_eq!(names, [(&json!("default"), &json!("Default")), (&json!("second"), &json!("Second Life"))]);
    assert_eq!(run(&["keys", "create", "both", "--source", "web", "--tenant", "second,default"]).await.0, Some(0));
    let app = TestApp::open(&test).await.app;
    assert_eq!(key::list(&app, &Actor::Operator).await.unwrap()[0].tenants, ["second", "default"]);
    let long = "x".repeat(64);
    for (slug, reason) in [
        ("second", "TENANT_EXISTS"),
        ("", "TENANT_SLUG_INVALID"),
        ("Two", "TENANT_SLUG_INVALID"),
        ("-a", "TENANT_SLUG_INVALID"),
        (long.as_str(), "TENANT_SLUG_INVALID"),
    ] {
        let error = tenant::create(&app, slug, "name").await.unwrap_err();
        assert!(matches!(&error, Error::Invalid { code, .. } if *code == reason), "{slug}: {error}");
    }
    assert_eq!(run(&["tenants", "create", "second"]).await.0, Some(1));
    test.discard().await;
}

#[tokio::test]
async fn readers_see_the_tenant_that_they_name() {
    on_each_database(async |database| {
        let bench = Bench::open(database).await;
        let app = &bench.test.app;
        let tenant = tenant::create(app, "second", "Second").await.unwrap();
        let key = make_key_of(app, &["second"], &SOURCES, false).await;
        let second = bench.by(&key, Some("second"));
        // Both follow one tail, and each is told of its own.
        let shutdown = CancellationToken::new();
        let tail = tokio::spawn(app.changes.clone().run(shutdown.clone()));
        let mut here = Box::pin(app.changes.subscribe(Filter::default(), None).await.unwrap());
        let mut there = Box::pin(app.of(tenant).changes.subscribe(Filter::default(), None).await.unwrap());
        for number in 0..3 {
            bench.bring(EVENTS, &of_web(&format!("here{number}"))).await;
            second.bring(EVENTS, &of_web(&format!("there{number}"))).await;
        }
        for number in 0..3 {
            let (a, b) = (here.next().await.unwrap().unwrap(), there.next().await.unwrap().unwrap());
            let names = [&a, &b].map(|change| change.event.as_ref().unwrap().name.clone());
            assert_eq!(names, [format!("Event here{number}"), format!("Event there{number}")]);
        }
        shutdown.cancel();
        tail.await.unwrap();
        // Whoever comes back goes on in its own tenant, wherever the log stands by then.
        let list = "{ events { nodes { id name } } eventChanges { changes { event { name } } endCursor hasMore } }";
        let (first, other) = (bench.query(list).await, second.query(list).await);
        for (seen, word) in [(&first, "here"), (&other, "there")] {
            let names: Vec<_> =
                seen["events"]["nodes"].as_array().unwrap().iter().map(|event| event["name"].to_string()).collect();
            assert!(names.len() == 3 && names.iter().all(|name| name.contains(word)), "{seen}");
            assert_eq!(seen["eventChanges"]["changes"].as_array().unwrap().len(), 3);
            assert_eq!(seen["eventChanges"]["hasMore"], false);
        }
        assert_eq!(first["eventChanges"]["endCursor"], other["eventChanges"]["endCursor"]);
        // An identifier of one says nothing in the other.
        let node = format!("{{ node(id: {}) {{ id }} }}", first["events"]["nodes"][0]["id"]);
        assert_eq!(
            (&bench.query(&node).await["node"]["id"], &second.query(&node).await["node"]),
            (&first["events"]["nodes"][0]["id"], &Value::Null)
        );
        let body = json!({ "query": list }).to_string();
        for tenant in ["elsewhere", ""] {
            let headers = [("content-type", "application/json"), ("x-tenant-id", tenant)];
            let (status, _, answer) = bench.send(Method::POST, "/graphql", &headers, body.clone()).await;
            assert_eq!(
                (status.as_u16(), &answer["errors"][0]["extensions"]["code"]),
                (404, &"NOT_FOUND".into()),
                "{answer}"
            );
        }
    })
    .await;
}
