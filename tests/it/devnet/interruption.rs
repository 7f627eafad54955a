//! Streams that break, hosts that go away, and a gateway that dies: nothing that was written is lost.

use std::{collections::HashSet, net::SocketAddr};

use entities::stream_cursor;
use sea_orm::{EntityTrait, sea_query::Expr};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{CHANGES, LISTS, ONE, changes_of, end_of_log, event, life::is_there};
use crate::support::{
    database::{TestDb, on_each_database, sqlite},
    devnet::{Account, Devnet, EVENT},
    gateway::Launch,
    graphql::GraphQl,
};

/// Records that are written while something goes wrong; a page of a list holds them all.
const RECORDS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_stream_is_read_on_where_it_was_cut() {
    let devnet = Devnet::start().await;
    let author = devnet.account("author", "pds1").await;
    let databases = [sqlite().await, sqlite().await];
    let endpoints = [devnet.network.jetstream(), devnet.network.relay()];
    let mut gateways = Vec::new();
    for (database, endpoint) in databases.iter().zip(&endpoints) {
        gateways.push(Launch::new(&database.url, devnet.network.settings(endpoint)).start().await);
    }
    let mut subscribers = Vec::new();
    for gateway in &gateways {
        subscribers.push(changes_of(GraphQl::new(gateway.address), &author.did).await);
    }
    let mut written = vec![author.create(&event("First")).await.uri];
    for changes in &mut subscribers {
        changes.expect("CREATED", &written[0], &[]).await;
    }
    let mut dropped = 0;
    for number in 1..RECORDS {
        written.push(author.create(&event(&format!("Event {number}"))).await.uri);
        if number % 15 == 7 {
            dropped += devnet.drop_streams().await;
        }
    }
    assert!(dropped >= 2, "both streams were open and were cut");
    for (gateway, changes) in gateways.iter().zip(&mut subscribers) {
        for uri in &written[1..] {
            changes.expect("CREATED", uri, &[]).await;
        }
        all_are_listed(GraphQl::new(gateway.address), &author, &written).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pds_that_was_away_is_followed_again() {
    let devnet = Devnet::start().await;
    let author = devnet.account("author", "pds2").await;
    let database = sqlite().await;
    let endpoint = devnet.network.firehose("pds2");
    let gateway = Launch::new(&database.url, devnet.network.settings(&endpoint)).start().await;
    let graphql = GraphQl::new(gateway.address);
    let mut changes = changes_of(graphql, &author.did).await;
    let before = author.create(&event("Before")).await;
    changes.expect("CREATED", &before.uri, &[]).await;

    devnet.stop_pds("pds2").await;
    assert!(is_there(&graphql.query(ONE, &json!({ "uri": before.uri })).await), "what is known is served all the same");
    devnet.start_pds("pds2").await;
    let after = author.create(&event("After")).await;
    changes.expect("CREATED", &after.uri, &[]).await;
    all_are_listed(graphql, &author, &[before.uri, after.uri]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_misses_nothing_and_its_subscriber_resumes() {
    let devnet = Devnet::start().await;
    on_each_database(async |test| {
        let author = devnet.account("author", "pds1").await;
        let launch = Launch::new(&test.url, devnet.network.settings(&devnet.network.jetstream()));
        let mut gateway = launch.start().await;
        let begin = end_of_log(GraphQl::new(gateway.address)).await;
        let (moved, address) = watch::channel(gateway.address);
        let subscriber = tokio::spawn(follow(address, author.did.clone(), begin, RECORDS));
        let mut written = Vec::new();
        for number in 0..RECORDS {
            written.push(author.create(&event(&format!("Event {number}"))).await.uri);
            if number % 15 == 7 {
                gateway.kill().await;
                // Some are written while nobody reads.
                written.push(author.create(&event(&format!("Unseen {number}"))).await.uri);
                gateway = launch.start().await;
                moved.send_replace(gateway.address);
            }
        }
        let seen = subscriber.await.expect("the subscriber sees them all");
        assert_eq!(seen, written[..RECORDS], "each in order, and none twice");
        all_are_listed(GraphQl::new(gateway.address), &author, &written).await;
    })
    .await;
}

/// Subscribes again, after the last cursor, whenever the gateway dies, until so many events were seen for the first
/// time; their URIs in the order of appearance.
async fn follow(mut address: watch::Receiver<SocketAddr>, did: String, begin: String, count: usize) -> Vec<String> {
    let (mut after, mut seen, mut cursors) = (begin, Vec::new(), HashSet::new());
    loop {
        let now = *address.borrow_and_update();
        let graphql = GraphQl::new(now);
        let mut live = graphql.try_subscribe(CHANGES, &json!({ "did": did, "after": after })).await;
        while let Some(live) = &mut live
            && let Some(mut data) = live.next_or_end().await
        {
            let change = data["eventIngested"].take();
            change["cursor"].as_str().unwrap().clone_into(&mut after);
            assert!(cursors.insert(after.clone()), "what was seen before the cursor came again: {change:#}");
            if change["operation"] == "CREATED" {
                seen.push(change["uri"].as_str().unwrap().to_owned());
            }
            if seen.len() == count {
                return seen;
            }
        }
        address.changed().await.expect("the gateway comes back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_gap_the_known_repositories_are_read_again() {
    let devnet = Devnet::start().await;
    // One knows the cursor for one of the future, the other begins with the present.
    for endpoint in [devnet.network.firehose("pds1"), devnet.network.relay()] {
        on_each_database(async |test| Box::pin(a_gap(&devnet, &endpoint, test)).await).await;
    }
}

async fn a_gap(devnet: &Devnet, endpoint: &str, test: &TestDb) {
    let author = devnet.account("author", "pds1").await;
    let launch = Launch::new(&test.url, devnet.network.settings(endpoint));
    let gateway = launch.start().await;
    let graphql = GraphQl::new(gateway.address);
    let mut changes = changes_of(graphql, &author.did).await;
    let mut made = Vec::new();
    for name in ["Stays", "Goes", "Changes"] {
        made.push(author.create(&event(name)).await);
        changes.expect("CREATED", &made.last().unwrap().uri, &[]).await;
    }
    assert!(gateway.stop().await.success());

    author.delete(&made[1].uri).await;
    author.put(&made[2].uri, &event("Changed")).await;
    author.create(&event("New")).await;
    let future =
        stream_cursor::Entity::update_many().col_expr(stream_cursor::Column::Position, Expr::value(1_i64 << 40));
    let moved = test.db.transact(async |tx| Ok(future.clone().exec(&*tx).await?.rows_affected)).await.unwrap();
    assert_eq!(moved, 1);

    let gateway = launch.start().await;
    let graphql = GraphQl::new(gateway.address);
    let actor = json!({ "actor": { "did": author.did } });
    let mut expected = ["Changed", "New", "Stays"].map(str::to_owned);
    expected.sort();
    let is_so = |data: &Value| {
        let mut names = super::life::names(data);
        names.sort();
        names == expected
    };
    graphql.eventually("what the stream passed over is there", LISTS, &actor, is_so).await;
    // The stream goes on from the present.
    let mut changes = changes_of(graphql, &author.did).await;
    let live = author.put(&author.uri(EVENT, "live"), &event("Live")).await;
    changes.expect("CREATED", &live.uri, &[]).await;
}

/// Waits until lists show exactly these events of the author.
async fn all_are_listed(graphql: GraphQl, author: &Account, uris: &[String]) {
    let expected: HashSet<&str> = uris.iter().map(String::as_str).collect();
    let is_so = |data: &Value| {
        let nodes = data["events"]["nodes"].as_array().unwrap();
        let listed: HashSet<&str> = nodes.iter().map(|event| event["atproto"]["uri"].as_str().unwrap()).collect();
        listed == expected && nodes.len() == expected.len()
    };
    let actor = json!({ "actor": { "did": author.did } });
    graphql.eventually("all are listed, once", LISTS, &actor, is_so).await;
}
