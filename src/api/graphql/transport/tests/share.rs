//! Subscriptions that share one execution, over real connections.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    socket::{closed, hear, ready_with, say},
    ticks::{LARGE, TICKS, VIEWED, World, ask, hear_ticks, read_until, ring},
    until,
};
use crate::api::graphql::transport::Settings;

#[tokio::test]
async fn those_who_mean_the_same_share_one_execution() {
    let world = World::open(Settings::default()).await;
    let mut first = world.subscribe("a", TICKS, json!({})).await;
    let mut second = world.subscribe("b\"", TICKS, json!({"after": null})).await;
    ask(&mut second, "c", TICKS, json!({})).await;
    let mut events = world.events(None).await;
    world.until_members(&[4]).await;
    until("it runs", || world.alive() == 1).await;

    // One by one, then fifty at once.
    for number in 1..=3 {
        world.log.grow(1);
        hear_ticks(&mut first, "a", std::iter::once(number)).await;
    }
    world.log.grow(50);
    hear_ticks(&mut first, "a", 4..=53).await;
    let mut next = [1, 1];
    for _ in 0..2 * 53 {
        let message = hear(&mut second).await;
        let which = usize::from(message["id"] == "c");
        assert_eq!(message["payload"]["data"]["ticks"]["number"], next[which], "{message}");
        next[which] += 1;
    }
    let text = read_until(&mut events, r#"{"number":53}"#).await;
    let event = |number| format!("event: next\ndata: {{\"data\":{{\"ticks\":{{\"number\":{number}}}}}}}\n\n");
    let expected = (1..=53).map(event).collect::<Vec<_>>().concat();
    assert_eq!(text, expected);
    assert_eq!(world.log.executed(), 53, "each event was executed once");

    // Who leaves takes nobody along, and its name is free at once; the last one ends the run.
    say(&mut second, json!({"id": "c", "type": "complete"})).await;
    ask(&mut second, "c", LARGE, json!({})).await;
    drop(events);
    drop(first);
    world.until_members(&[1, 1]).await;
    until("both run", || world.alive() == 2).await;
    world.log.grow(1);
    let mut heard = Vec::new();
    for _ in 0..2 {
        let message = hear(&mut second).await;
        let tick = &message["payload"]["data"]["ticks"];
        heard.push((message["id"].to_string(), tick["number"].clone(), tick["text"].is_string()));
    }
    heard.sort_by_key(|(id, ..)| id.clone());
    assert_eq!(heard, [(r#""b\"""#.to_owned(), json!(54), false), (r#""c""#.to_owned(), json!(54), true)]);
    drop(second);
    world.until_quiet().await;
}

#[tokio::test]
async fn who_means_something_else_runs_apart() {
    let world = World::open(Settings::default()).await;
    let literal = "subscription { ticks(filter: { handle: \"a\" }) { number } }";
    let named = "subscription A { ticks { number } } subscription B { ticks { number } }";
    let mut sockets = Vec::new();
    for (payload, query, name, variables) in [
        (json!({}), TICKS, None, json!({})),
        (json!({}), TICKS, None, json!({"after": 0})),
        (json!({"tenant": 2}), TICKS, None, json!({})),
        (json!({}), TICKS, None, json!({"filter": {"least": 0}})),
        (json!({}), TICKS, None, json!({"filter": {"least": 1}})),
        (json!({}), "subscription { ticks { number } }", None, json!({})),
        (json!({}), named, Some("A"), json!({})),
        (json!({}), named, Some("B"), json!({})),
        (json!({"token": "ada"}), TICKS, None, json!({})),
        (json!({"token": "ada", "tenant": 2}), TICKS, None, json!({"after": 0})),
        // These are members of nothing.
        (json!({"token": "ada"}), TICKS, None, json!({"filter": {"handle": "a"}})),
        (json!({"token": "ada"}), VIEWED, None, json!({})),
        (json!({}), TICKS, None, json!({"filter": {"handle": "a"}})),
        (json!({}), literal, None, json!({})),
    ] {
        let mut socket = ready_with(world.address, payload).await;
        let payload = json!({"query": query, "operationName": name, "variables": variables});
        say(&mut socket, json!({"id": "1", "type": "subscribe", "payload": payload})).await;
        sockets.push(socket);
    }
    world.until_members(&[1, 1, 1, 1, 1, 2, 3]).await;
    until("they run", || world.alive() == 7 + 4).await;
    world.log.grow(1);
    for socket in &mut sockets {
        hear_ticks(socket, "1", std::iter::once(1)).await;
    }
    assert_eq!(world.log.executed(), 7 + 4);
    drop(sockets);
    world.until_quiet().await;
}

/// Everybody is shown their own: somebody shares only what answers the same to everybody.
#[tokio::test]
async fn what_depends_on_who_asks_is_shared_by_nobody_who_is_somebody() {
    let world = World::open(Settings::default()).await;
    let mut sockets = vec![
        ("nobody", world.subscribe("nobody", VIEWED, json!({})).await),
        ("nobody", world.subscribe("nobody", VIEWED, json!({"after": null})).await),
        ("ada", world.subscribe_as("ada", VIEWED, json!({})).await),
        ("ada", world.subscribe_as("ada", VIEWED, json!({})).await),
        ("bob", world.subscribe_as("bob", VIEWED, json!({"after": 0})).await),
    ];
    world.until_members(&[2]).await;
    until("they run", || world.alive() == 4).await;
    world.log.grow(ring());
    for (name, socket) in &mut sockets {
        for number in 1..=ring() {
            let tick = hear(socket).await["payload"]["data"]["ticks"].take();
            assert_eq!(tick, json!({ "number": number, "viewer": *name }));
        }
    }
    assert_eq!(world.log.executed(), 4 * usize::try_from(ring()).unwrap());
    drop(sockets);
    world.until_quiet().await;
}

/// What one of them showed opens no more: that is nothing to the others.
#[tokio::test]
async fn a_member_whose_token_is_withdrawn_ends_alone() {
    let world = World::open(Settings::default()).await;
    // The run is begun by one who leaves it.
    let mut passing = world.subscribe_as("passing", TICKS, json!({})).await;
    world.until_members(&[1]).await;
    let mut nobody = world.subscribe("nobody", TICKS, json!({})).await;
    let mut ada = world.subscribe_as("ada", TICKS, json!({})).await;
    let (mut ended, mut events) = (world.events(Some("passing")).await, world.events(Some("ada")).await);
    world.until_members(&[5]).await;
    until("it runs", || world.alive() == 1).await;
    world.log.grow(1);
    for (id, socket) in [("passing", &mut passing), ("nobody", &mut nobody), ("ada", &mut ada)] {
        hear_ticks(socket, id, std::iter::once(1)).await;
    }
    read_until(&mut ended, r#"{"number":1}"#).await;
    world.withdrawn.cancel();
    assert_eq!(closed(&mut passing).await, 4401);
    let last = read_until(&mut ended, "event: complete").await;
    assert!(last.contains("UNAUTHENTICATED") && !last.contains("number"), "{last}");
    world.until_members(&[3]).await;
    world.log.grow(1);
    for (id, socket) in [("nobody", &mut nobody), ("ada", &mut ada)] {
        hear_ticks(socket, id, std::iter::once(2)).await;
    }
    read_until(&mut events, r#"{"number":2}"#).await;
    assert_eq!(world.log.executed(), 2, "each event was executed once");
    drop((nobody, ada, events));
    world.until_quiet().await;
}

#[tokio::test]
async fn who_resumes_joins_without_a_gap_and_without_a_double() {
    const END: i64 = 400;
    let world = World::open(Settings::default()).await;
    world.log.grow(10);
    let mut early = world.subscribe("e", TICKS, json!({})).await;
    until("it runs", || world.alive() == 1).await;
    let reader = tokio::spawn(async move { hear_ticks(&mut early, "e", 11..=END).await });
    let log = world.log.clone();
    let writer = tokio::spawn(async move {
        let mut length = 10;
        while length < END - 1 {
            let by = fastrand::i64(1..=3).min(END - 1 - length);
            log.grow(by);
            length += by;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    let resumed: Vec<_> = (0..40)
        .map(|_| {
            let address = world.address;
            async move {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..200))).await;
                let payload = || if fastrand::bool() { json!({"token": "ada"}) } else { json!({}) };
                let mut socket = ready_with(address, payload()).await;
                let mut at = fastrand::i64(0..10);
                // Some come back a second time.
                for stop in [fastrand::i64(20..200), END - 1] {
                    ask(&mut socket, "r", TICKS, json!({"after": at})).await;
                    hear_ticks(&mut socket, "r", at + 1..=stop).await;
                    at = stop;
                    if stop < END - 1 {
                        drop(socket);
                        socket = ready_with(address, payload()).await;
                    }
                }
                socket
            }
        })
        .map(tokio::spawn)
        .collect();
    writer.await.unwrap();
    let mut sockets = Vec::new();
    for socket in resumed {
        sockets.push(socket.await.unwrap());
    }
    world.until_members(&[41]).await;
    until("all are members", || world.alive() == 1).await;
    let before = world.log.executed();
    world.log.grow(1);
    for socket in &mut sockets {
        hear_ticks(socket, "r", std::iter::once(END)).await;
    }
    reader.await.unwrap();
    assert_eq!(world.log.executed(), before + 1, "the others have joined");
    drop(sockets);
    world.until_quiet().await;
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_alone() {
    let settings = Settings { write_timeout: Duration::from_millis(500), ..Settings::default() };
    let world = World::open(settings).await;
    let silent = world.subscribe("s", LARGE, json!({})).await;
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(world.subscribe("1", LARGE, json!({})).await);
    }
    world.until_members(&[5]).await;
    until("it runs", || world.alive() == 1).await;
    let end = 4 * ring();
    let readers: Vec<_> = sockets
        .into_iter()
        .map(|mut socket| async move {
            hear_ticks(&mut socket, "1", 1..=end).await;
            socket
        })
        .map(tokio::spawn)
        .collect();
    world.log.grow(end);
    let mut sockets = Vec::new();
    for reader in readers {
        sockets.push(reader.await.unwrap());
    }
    world.until_members(&[4]).await;
    drop((silent, sockets));
    world.until_quiet().await;
}

#[tokio::test]
async fn who_falls_behind_catches_up() {
    let world = World::open(Settings::default()).await;
    let mut events = world.events(None).await;
    let mut slow = world.subscribe_as("slow", LARGE, json!({})).await;
    let mut quick = world.subscribe("q", TICKS, json!({})).await;
    let mut large = world.subscribe("l", LARGE, json!({})).await;
    world.until_members(&[2, 2]).await;
    until("both run", || world.alive() == 2).await;
    let end = 3 * ring();
    let done = Arc::new(AtomicI64::new(0));
    let readers = [("q", &mut quick), ("l", &mut large)].map(|(id, socket)| {
        let (log, done) = (world.log.clone(), Arc::clone(&done));
        async move {
            for number in 1..=end {
                if id == "q" {
                    log.grow(1);
                }
                hear_ticks(socket, id, std::iter::once(number)).await;
            }
            done.fetch_add(1, Ordering::SeqCst);
        }
    });
    futures_util::future::join_all(readers).await;
    assert_eq!(done.load(Ordering::SeqCst), 2, "nobody waited for those who read nothing");
    // They were members of rings that have turned over since, and read all of it.
    hear_ticks(&mut slow, "slow", 1..=end).await;
    let text = read_until(&mut events, &format!("{{\"number\":{end}}}")).await;
    let numbers: Vec<i64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["ticks"]["number"].as_i64().unwrap())
        .collect();
    assert_eq!(numbers, (1..=end).collect::<Vec<_>>());
    // And are members again.
    world.log.grow(1);
    hear_ticks(&mut slow, "slow", std::iter::once(end + 1)).await;
    drop((slow, quick, large, events));
    world.until_quiet().await;
}

#[tokio::test]
async fn what_cannot_begin_is_told_to_each() {
    let world = World::open(Settings::default()).await;
    for _ in 0..2 {
        let mut sockets = Vec::new();
        for variables in [json!({}), json!({}), json!({"after": 0})] {
            let mut variables = variables;
            variables["filter"] = json!({"least": -1});
            sockets.push(world.subscribe("1", TICKS, variables).await);
        }
        for socket in &mut sockets {
            let refused = hear(socket).await;
            assert!(refused.to_string().contains("BAD_USER_INPUT"), "{refused}");
            let last = if refused["type"] == "error" { refused } else { hear(socket).await };
            assert!(last["type"] == "complete" || last["type"] == "error", "{last}");
            // The id is free.
            ask(socket, "1", "{ ok }", json!({})).await;
            assert_eq!(hear(socket).await["payload"], json!({"data": {"ok": true}}));
        }
        world.until_quiet().await;
    }
}
