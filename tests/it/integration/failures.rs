//! Servers that are away, and a door that is killed: what was accepted is there, and what was not can be sent again.

use std::time::{Duration, Instant};

use axum::{
    body::Body,
    http::{Method, StatusCode},
};
use entities::{event, source_record};
use fastrand::Rng;
use reqwest::Url;
use sea_orm::{EntityTrait, PaginatorTrait};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{Bench, EVENTS, of_web};
use crate::support::{
    app::TestApp,
    database::{TestDb, on_each_database, postgres, sqlite},
    devnet::HTTP,
    process::{Program, kill},
    proxy::Proxy,
};

/// Within this time everything goes on when a server is back.
const SOON: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);
/// Batches, and items of each.
const BATCHES: usize = 60;
const SIZE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_nothing_is_accepted_and_soon_after_all_is() {
    let Some(database) = postgres().await else { return };
    let way = Proxy::before(&database.url).await;
    let bench = Bench::of(TestApp::over(&way.url(), "").await).await;
    bench.bring(EVENTS, &of_web("before")).await;
    let address = way.address;
    drop(way);

    let (path, batch) = (format!("{EVENTS}:batch"), json!([of_web("1"), of_web("2")]));
    let headers = [("authorization", &*bench.bearer())];
    let (status, told, problem) = bench.send(Method::POST, &path, &headers, batch.to_string()).await;
    assert_eq!((status, &problem["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"SERVICE_UNAVAILABLE".into()));
    let wait: u64 = told["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(wait > 0 && problem["retryAfter"] == wait, "{problem}");

    let _way = Proxy::at(address, &database.url).await;
    let back = Instant::now();
    loop {
        let (status, answer) = bench.post(&path, &batch).await;
        if status == StatusCode::ACCEPTED {
            assert_eq!(answer["success"], true, "{answer}");
            break;
        }
        assert!(back.elapsed() < SOON, "{answer}");
        sleep(LOOK * 50).await;
    }
    let names: Vec<String> = bench.events().await.into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["Event before", "Event 1", "Event 2"]);
    database.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_everything_is_accepted_and_nothing_doubled() {
    let database = sqlite().await;
    // No port of the machine is lower, and nothing listens there.
    let bench = Bench::of(TestApp::over(&database.url, "kv = { url = 'redis://127.0.0.1:1' }").await).await;
    let bearer = bench.bearer();
    let headers = [("authorization", &*bearer), ("idempotency-key", "one")];
    for outcome in ["created", "unchanged"] {
        let (status, _, answer) = bench.send(Method::POST, EVENTS, &headers, of_web("1").to_string()).await;
        assert_eq!((status, &answer["outcome"]), (StatusCode::ACCEPTED, &outcome.into()), "{answer}");
    }
    let (status, _, answer) =
        bench.send(Method::DELETE, &format!("{EVENTS}?sourceId=1&sourceType=web"), &headers[..1], Body::empty()).await;
    assert_eq!((status, &answer["outcome"]), (StatusCode::ACCEPTED, &"deleted".into()), "{answer}");
    database.discard().await;
}

fn batch(number: usize) -> Value {
    (0..SIZE).map(|item| of_web(&format!("{number}-{item}"))).collect()
}

/// Posts one batch after the other until nobody answers any more; tells how many were accepted.
fn post(address: &str, key: &str, accepted: watch::Sender<usize>) -> JoinHandle<()> {
    let url: Url = format!("http://{address}{EVENTS}:batch").parse().unwrap();
    let key = key.to_owned();
    tokio::spawn(async move {
        loop {
            let next = *accepted.borrow();
            if next == BATCHES {
                return;
            }
            let Ok(answer) = HTTP.post(url.clone()).bearer_auth(&key).json(&batch(next)).send().await else { return };
            assert_eq!(answer.status(), 202);
            let Ok(answer) = answer.json::<Value>().await else { return };
            assert_eq!(answer["success"], true, "{answer}");
            accepted.send_replace(next + 1);
        }
    })
}

async fn kept(database: &TestDb) -> usize {
    source_record::Entity::find().count(database.db.read()).await.unwrap().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_door_accepted_is_there_once() {
    on_each_database(async |database| {
        let program = Program::over(&database.url).with("GATEWAY_INGEST__ITEMS_PER_MINUTE", "1000000");
        let made = program.run(&["keys", "create", "scraper", "--source", "web"]).await;
        let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let (accepted, mut told) = watch::channel(0);
        let mut random = Rng::with_seed(3);
        let (mut child, mut address) = program.serve_api().await;
        for kills in 1..=5 {
            let posting = post(&address, &key, accepted.clone());
            // Somewhere in a batch, or after it and before its answer.
            let threshold = SIZE * (BATCHES * kills / 7 + random.usize(..BATCHES / 7));
            while kept(database).await < threshold && !posting.is_finished() {
                sleep(LOOK).await;
            }
            assert!(kill(child).await, "it ended before it could be killed");
            posting.await.unwrap();
            assert!(kept(database).await >= SIZE * *told.borrow(), "what was accepted is not there");
            (child, address) = program.serve_api().await;
        }
        let posting = post(&address, &key, accepted);
        told.wait_for(|accepted| *accepted == BATCHES).await.unwrap();
        posting.await.unwrap();
        assert!(kill(child).await);
        assert_eq!(kept(database).await, BATCHES * SIZE);
        let events = event::Entity::find().count(database.db.read()).await.unwrap();
        assert_eq!(events, (BATCHES * SIZE) as u64);
    })
    .await;
}
