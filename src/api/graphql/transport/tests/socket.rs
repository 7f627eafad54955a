//! WebSockets, over a real connection.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use async_graphql::Executor;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use super::{Bench, Settings, bench, until};
use crate::api::graphql::transport::{Endpoint, PATH, router};

pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const PROTOCOL: Option<&str> = Some("graphql-transport-ws");

pub(super) async fn serve(bench: &Bench) -> SocketAddr {
    listen(bench.endpoint.clone()).await
}

pub(super) async fn listen<E: Executor>(endpoint: Endpoint<E>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(endpoint, |methods| methods);
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn open(address: SocketAddr, protocol: Option<&str>, origin: Option<&str>) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}{PATH}").into_client_request()?;
    for (name, value) in [("sec-websocket-protocol", protocol), ("origin", origin)] {
        if let Some(value) = value {
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
    }
    Ok(connect_async(request).await?.0)
}

pub(super) async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// The next message of the protocol.
pub(super) async fn hear(socket: &mut Socket) -> Value {
    let wait = async {
        loop {
            match socket.next().await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
}

/// The code that the socket is closed with, skipping what comes before.
pub(super) async fn closed(socket: &mut Socket) -> u16 {
    let wait = async {
        loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                return frame.unwrap().code.into();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
}

/// A socket that was admitted.
pub(super) async fn ready(address: SocketAddr) -> Socket {
    ready_with(address, json!({})).await
}

/// The same with this payload at the beginning.
pub(super) async fn ready_with(address: SocketAddr, payload: Value) -> Socket {
    let mut socket = open(address, PROTOCOL, None).await.unwrap();
    say(&mut socket, json!({"type": "connection_init", "payload": payload})).await;
    assert_eq!(hear(&mut socket).await, json!({"type": "connection_ack"}));
    socket
}

pub(super) fn subscribe(id: &str, query: &str) -> Value {
    json!({"id": id, "type": "subscribe", "payload": {"query": query}})
}

#[tokio::test]
async fn all_kinds_of_operations_run() {
    let bench = bench(Settings::default());
    let mut socket = ready(serve(&bench).await).await;
    say(&mut socket, subscribe("q", "{transport}")).await;
    assert_eq!(
        hear(&mut socket).await,
        json!({"id": "q", "type": "next", "payload": {"data": {"transport": "Socket"}}})
    );
    assert_eq!(hear(&mut socket).await, json!({"id": "q", "type": "complete"}));
    say(&mut socket, subscribe("q", "mutation{write}")).await;
    assert_eq!(hear(&mut socket).await["payload"], json!({"data": {"write": 1}}));
    assert_eq!(hear(&mut socket).await["type"], "complete");
    say(&mut socket, subscribe("s", "subscription{count(to:3)}")).await;
    for number in 0..3 {
        assert_eq!(hear(&mut socket).await, json!({"id": "s", "type": "next", "payload": {"data": {"count": number}}}));
    }
    assert_eq!(hear(&mut socket).await, json!({"id": "s", "type": "complete"}));
    say(&mut socket, json!({"type": "ping", "payload": {"a": 1}})).await;
    assert_eq!(hear(&mut socket).await, json!({"type": "pong", "payload": {"a": 1}}));
    say(&mut socket, json!({"type": "pong"})).await;
    say(&mut socket, json!({"type": "ping"})).await;
    assert_eq!(hear(&mut socket).await, json!({"type": "pong"}));
    socket.close(None).await.unwrap();
    until("the place is free", || bench.endpoint.inner.streams.available_permits() == 10_000).await;
}

#[tokio::test]
async fn what_does_not_start_is_an_error_and_the_socket_lives_on() {
    let bench = bench(Settings::default());
    let mut socket = ready(serve(&bench).await).await;
    for (query, code) in [
        ("{", "GRAPHQL_PARSE_FAILED"),
        ("{unknown}", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription{unknown}", "GRAPHQL_VALIDATION_FAILED"),
        ("query A{transport} query B{transport}", "OPERATION_NOT_FOUND"),
        (&format!("{}hello{}", "{query".repeat(20), "}".repeat(20)), "QUERY_TOO_DEEP"),
    ] {
        say(&mut socket, subscribe("e", query)).await;
        let error = hear(&mut socket).await;
        assert_eq!((&error["type"], &error["id"]), (&json!("error"), &json!("e")), "{error}");
        assert_eq!(error["payload"][0]["extensions"]["code"], code, "{error}");
    }
    say(&mut socket, subscribe("e", "{boom}")).await;
    assert!(hear(&mut socket).await.to_string().contains("INTERNAL"));
    say(&mut socket, subscribe("b", "subscription{burst}")).await;
    let all = [hear(&mut socket).await, hear(&mut socket).await, hear(&mut socket).await, hear(&mut socket).await];
    assert!(all[2].to_string().contains("INTERNAL") && all[3]["type"] == "complete", "{all:?}");
}

#[tokio::test]
async fn stopped_operations_end_and_free_their_id() {
    let bench = bench(Settings { socket_operations: 2, ..Settings::default() });
    let alive = || bench.alive.0.load(Ordering::SeqCst);
    let mut socket = ready(serve(&bench).await).await;
    for id in ["a", "b"] {
        say(&mut socket, subscribe(id, "subscription{never}")).await;
    }
    until("both run", || alive() == 2).await;
    say(&mut socket, subscribe("c", "{transport}")).await;
    let refused = hear(&mut socket).await;
    assert_eq!((&refused["id"], &refused["payload"][0]["extensions"]["code"]), (&json!("c"), &json!("RATE_LIMITED")));
    say(&mut socket, json!({"id": "a", "type": "complete"})).await;
    say(&mut socket, json!({"id": "unknown", "type": "complete"})).await;
    until("one was stopped", || alive() == 1).await;
    say(&mut socket, subscribe("a", "{transport}")).await;
    assert_eq!(hear(&mut socket).await["type"], "next");
    drop(socket);
    until("the others end with the socket", || alive() == 0).await;
}

#[tokio::test]
async fn each_breach_has_its_close_code() {
    let bench = bench(Settings::default());
    let address = serve(&bench).await;
    let init = |token: &str| json!({"type": "connection_init", "payload": {"token": token}}).to_string();
    let never = subscribe("1", "subscription{never}").to_string();
    let bad_query = json!({"id": "1", "type": "subscribe", "payload": {"query": 1}}).to_string();
    let plain = init("fine");
    for (messages, code) in [
        (vec![Message::text("{")], 4400),
        (vec![Message::text(r#"{"type":"start"}"#)], 4400),
        (vec![Message::binary(plain.clone())], 4400),
        (vec![Message::text(r#"{"type":"connection_init","payload":[]}"#)], 4400),
        (vec![Message::text(&*plain), Message::text(bad_query)], 4400),
        (vec![Message::text(&*never)], 4401),
        (vec![Message::text(init("stolen"))], 4403),
        (vec![Message::text(init("unknowable"))], 1013),
        (vec![Message::text(init("short"))], 4401),
        (vec![Message::text(init("short")), Message::text(&*never)], 4401),
        (vec![Message::text(&*plain), Message::text(&*never), Message::text(&*never)], 4409),
        (vec![Message::text(&*plain), Message::text(&*plain)], 4429),
        (vec![Message::text(init("broken"))], 4500),
        (vec![Message::text("x".repeat(300_000))], 1009),
    ] {
        let mut socket = open(address, PROTOCOL, None).await.unwrap();
        let shown = format!("{messages:.100?}");
        for message in messages {
            socket.send(message).await.unwrap();
        }
        assert_eq!(closed(&mut socket).await, code, "{shown:.300}");
    }
    let mut silent = open(address, None, None).await.unwrap();
    assert_eq!(closed(&mut silent).await, 4406);
    until("all places are free", || bench.endpoint.inner.streams.available_permits() == 10_000).await;
}

#[tokio::test]
async fn a_socket_that_does_not_begin_is_closed() {
    let bench = bench(Settings { init_timeout: Duration::from_millis(50), ..Settings::default() });
    let mut socket = open(serve(&bench).await, PROTOCOL, None).await.unwrap();
    assert_eq!(closed(&mut socket).await, 4408);
}

#[tokio::test]
async fn shutdown_closes_sockets_so_that_clients_come_back() {
    let bench = bench(Settings::default());
    let mut socket = ready(serve(&bench).await).await;
    say(&mut socket, subscribe("1", "subscription{never}")).await;
    until("it runs", || bench.alive.0.load(Ordering::SeqCst) == 1).await;
    bench.shutdown.cancel();
    assert_eq!(closed(&mut socket).await, 1012);
    until("it ended", || bench.alive.0.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn foreign_origins_protocols_and_crowds_are_refused_before_the_upgrade() {
    let bench = bench(Settings { max_sockets: 1, ..Settings::default() });
    let address = serve(&bench).await;
    let own = format!("http://{address}");
    let status = |opened: Result<Socket, Error>| match opened {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    assert_eq!(status(open(address, PROTOCOL, Some("https://evil.example")).await), 403);
    assert_eq!(status(open(address, PROTOCOL, Some("null")).await), 403);
    for protocol in ["graphql-ws", "soap", "soap, graphql-ws"] {
        assert_eq!(status(open(address, Some(protocol), None).await), 400, "{protocol}");
    }
    let socket = open(address, Some("graphql-ws, graphql-transport-ws"), Some(&own)).await.unwrap();
    assert_eq!(status(open(address, PROTOCOL, None).await), 503);
    drop(socket);
    until("the place is free", || bench.endpoint.inner.streams.available_permits() == 1).await;
    ready(address).await;
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_cut_off() {
    let bench = bench(Settings { write_timeout: Duration::from_millis(200), ..Settings::default() });
    let mut socket = ready(serve(&bench).await).await;
    say(&mut socket, subscribe("1", "subscription{flood}")).await;
    until("it runs", || bench.alive.0.load(Ordering::SeqCst) == 1).await;
    until("it was cut off", || bench.alive.0.load(Ordering::SeqCst) == 0).await;
    until("the place is free", || bench.endpoint.inner.streams.available_permits() == 10_000).await;
    drop(socket);
}

#[tokio::test]
async fn signs_of_life_are_sent_and_their_absence_noticed() {
    let bench = bench(Settings { keepalive: Duration::from_millis(30), ..Settings::default() });
    let mut socket = ready(serve(&bench).await).await;
    assert!(matches!(socket.next().await.unwrap().unwrap(), Message::Ping(_)));
    // A client that no longer reads doesn't answer pings either.
    until("the silent socket is dropped", || bench.endpoint.inner.streams.available_permits() == 10_000).await;
}
