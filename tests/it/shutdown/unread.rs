//! A client who asks for much and reads nothing: it cannot keep a process from ending.

use std::time::{Duration, Instant};

use sea_orm::ActiveValue::Set;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
    process::Child,
    time::timeout,
};

use super::stand::{PATIENCE, Stand};
use crate::support::{changes, graphql::GraphQl, process::signal};

/// An answer of three times this is more than the system takes in for somebody who does not read.
const EVENTS: usize = 100;
const DESCRIPTION: usize = 29_000;
/// What a process may take for leaving when it does not wait any more: longer than the 5 s that closing the database may take.
const LEAVING: Duration = Duration::from_secs(15);
/// Longer than the test.
const NEVER: &str = "600";

/// A process with a client that has been sent the first bytes of an answer and takes no more.
async fn with_deaf_client(stand: &Stand, grace: &str) -> (Child, GraphQl, TcpStream) {
    let description = "x".repeat(DESCRIPTION);
    for number in 0..EVENTS {
        let describe = |event: &mut entities::event::ActiveModel| event.description = Set(Some(description.clone()));
        changes::event(&stand.test.db, stand.test.tenant, &format!("event{number}"), describe).await;
    }
    let program = stand
        .program()
        .with("GATEWAY_HTTP__SHUTDOWN_GRACE_SECONDS", grace)
        .with("GATEWAY_HTTP__WRITE_TIMEOUT_SECONDS", NEVER);
    let (child, address) = program.serve("api").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut deaf = socket.connect(address.parse().unwrap()).await.unwrap();
    let part = "events(first: 100) { nodes { description } }";
    let body = json!({ "query": format!("{{ a: {part} b: {part} c: {part} }}") }).to_string();
    let head = format!(
        "POST /graphql HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    deaf.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut begins = [0; 15];
    timeout(PATIENCE, deaf.peek(&mut begins)).await.expect("the answer begins").unwrap();
    assert_eq!(&begins, b"HTTP/1.1 200 OK");
    (child, GraphQl::new(address.parse().unwrap()), deaf)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_waited_for_as_long_as_the_grace_lasts() {
    let Some(stand) = Stand::new().await else { return };
    let (mut child, _, deaf) = with_deaf_client(&stand, "2").await;
    let told = Instant::now();
    signal(&child, "TERM").await;
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "it ended with {status}");
    assert!(told.elapsed() >= Duration::from_secs(2), "it did not wait for the client");
    assert!(told.elapsed() < LEAVING, "it took {:?}", told.elapsed());
    drop(deaf);
    stand.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_is_not_kept_waiting() {
    let Some(stand) = Stand::new().await else { return };
    let (mut child, api, deaf) = with_deaf_client(&stand, NEVER).await;
    let mut socket = api.subscribe("subscription { eventIngested { cursor } }", &json!({})).await;
    signal(&child, "TERM").await;
    // By this one sees that the first one was heard.
    assert_eq!(socket.next_or_end().await, None);
    assert_eq!(socket.closed, Some(1012));
    assert_eq!(child.try_wait().unwrap(), None, "it did not wait for the client");
    let told = Instant::now();
    signal(&child, "TERM").await;
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(status.success(), "it ended with {status}");
    assert!(told.elapsed() < LEAVING, "it took {:?}", told.elapsed());
    drop(deaf);
    stand.discard().await;
}
