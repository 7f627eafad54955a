//! What profiles of the network cost their AppView: a thousand people, asked for in one page of queries, and what it is told
//! again for those that are kept.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    rest::Running,
    support::{appview::AppView, database, graphql::GraphQl, process::Program, records},
    table::Table,
};

/// Whose profiles are asked for, and how many are asked for by one query.
const PEOPLE: usize = 1_000;
const QUERY: usize = 25;

const PROFILES: &str = "query ($actors: [ActorRef!]!) { blueskyProfiles(actors: $actors) {
    did handle displayName avatarUrl followersCount source
} }";
const ONE: &str = "query ($actor: ActorRef!) { blueskyProfile(actor: $actor) { did displayName source } }";

/// Asks for all of them in three ways, each of a program that knows nobody yet, and prints the requests.
pub(crate) async fn run() -> Result<()> {
    println!("\n{PEOPLE} profiles of a stand-in for the AppView; the gateway on SQLite");
    let mut table = Table::new(["queries", "requests cold", "warm", "aim", "time cold", "warm"]);
    for (name, aim, is_at_once, size) in [
        ("40 of 25, one after the other", "≤ 40, 0", false, QUERY),
        ("40 of 25 at once", "≤ 40, 0", true, QUERY),
        ("1000 of 1, 50 at once", "≤ 40, 0", true, 1),
    ] {
        let (test, appview) = (database::sqlite().await, AppView::start().await);
        appview.knows_all();
        let program = Program::over(&test.url).with("GATEWAY_NETWORK__APPVIEW_URL", &appview.url);
        let running = Running::start(&program).await?;
        let graphql = GraphQl::new(SocketAddr::from(([127, 0, 0, 1], running.port)));
        let mut seen = Vec::new();
        for _ in 0..2 {
            let before = appview.requests();
            let took = ask(graphql, is_at_once, size).await?;
            seen.push((appview.requests() - before, took));
        }
        if let [(cold, slow), (warm, fast)] = seen[..] {
            let shown = |took: Duration| format!("{:.0} ms", took.as_secs_f64() * 1e3);
            let row = [name.to_owned(), cold.to_string(), warm.to_string(), aim.to_owned(), shown(slow), shown(fast)];
            table.row(row);
        }
        running.kill().await?;
        test.discard().await;
    }
    table.print();
    Ok(())
}

/// How long it took until everybody's profile was there.
async fn ask(graphql: GraphQl, is_at_once: bool, size: usize) -> Result<Duration> {
    let actors: Vec<Value> = (0..PEOPLE).map(|number| json!({ "did": records::did(1, number) })).collect();
    let begun = Instant::now();
    let mut answers = Vec::new();
    // As many at once as a program gives places to.
    let wave = match size {
        1 => 50,
        _ if is_at_once => PEOPLE,
        size => size,
    };
    for wave in actors.chunks(wave) {
        let queries = wave.chunks(size).map(|actors| async move {
            if size == 1 {
                let found = graphql.query(ONE, &json!({ "actor": actors.first() })).await;
                return vec![found.get("blueskyProfile").cloned().unwrap_or_default()];
            }
            let found = graphql.query(PROFILES, &json!({ "actors": actors })).await;
            found.get("blueskyProfiles").and_then(Value::as_array).cloned().unwrap_or_default()
        });
        answers.extend(join_all(queries).await.into_iter().flatten());
    }
    let took = begun.elapsed();
    let found = answers.iter().filter(|profile| profile.get("source") == Some(&json!("APP_VIEW"))).count();
    ensure!(found == PEOPLE, "only {found} of {PEOPLE} profiles came");
    Ok(took)
}
