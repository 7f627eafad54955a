//! The API as its clients use it: queries over HTTP, subscriptions over a WebSocket.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::devnet::HTTP;

/// Far more than anything that is waited for takes.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks at something that will come about.
const LOOK: Duration = Duration::from_millis(25);

/// One running program's API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GraphQl {
    address: SocketAddr,
}

impl GraphQl {
    /// The API at an address.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// The data that a query gives; an error fails the test.
    pub(crate) async fn query(&self, document: &str, variables: &Value) -> Value {
        self.query_as(None, document, variables).await
    }

    /// The same with a service key.
    pub(crate) async fn query_as(&self, key: Option<&str>, document: &str, variables: &Value) -> Value {
        let body = json!({ "query": document, "variables": variables });
        let mut request = HTTP.post(format!("http://{}/graphql", self.address)).json(&body);
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await.expect("the gateway answers").json().await.expect("the answer is JSON");
        data(answer)
    }

    /// Asks until the data are as they should be, and gives them; fails the test when that takes too long.
    pub(crate) async fn eventually(
        &self,
        what: &str,
        document: &str,
        variables: &Value,
        is_so: impl Fn(&Value) -> bool,
    ) -> Value {
        let began = Instant::now();
        loop {
            let data = self.query(document, variables).await;
            if is_so(&data) {
                return data;
            }
            assert!(began.elapsed() < PATIENCE, "{what}: not so within {PATIENCE:?}, but {data:#}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Starts a subscription on a socket of its own.
    pub(crate) async fn subscribe(&self, document: &str, variables: &Value) -> Subscription {
        self.try_subscribe(document, variables).await.expect("a WebSocket opens and stays open")
    }

    /// The same with a service key, or a session's token.
    pub(crate) async fn subscribe_as(&self, key: &str, document: &str, variables: &Value) -> Subscription {
        self.subscribe_with(json!({ "authorization": format!("Bearer {key}") }), document, variables).await
    }

    /// The same with this payload of `connection_init`.
    pub(crate) async fn subscribe_with(&self, init: Value, document: &str, variables: &Value) -> Subscription {
        self.open(&[], Some(init), document, variables).await.expect("a WebSocket opens and stays open")
    }

    /// The same of a tenant.
    pub(crate) async fn subscribe_of(&self, tenant: &str, document: &str, variables: &Value) -> Subscription {
        let header = [("x-tenant-id", tenant)];
        self.open(&header, None, document, variables).await.expect("a WebSocket opens and stays open")
    }

    /// The same of a page of the gateway's own host, in a browser that has this cookie.
    pub(crate) async fn subscribe_in_page(&self, cookie: &str, document: &str, variables: &Value) -> Subscription {
        let headers = [("origin", &*format!("http://{}", self.address)), ("cookie", cookie)];
        self.open(&headers, None, document, variables).await.expect("a WebSocket opens and stays open")
    }

    /// The same where the gateway may be gone at any moment: then there is nothing.
    pub(crate) async fn try_subscribe(&self, document: &str, variables: &Value) -> Option<Subscription> {
        self.open(&[], None, document, variables).await
    }

    async fn open(
        &self,
        headers: &[(&'static str, &str)],
        init: Option<Value>,
        document: &str,
        variables: &Value,
    ) -> Option<Subscription> {
        let mut subscription = self.greet(headers, init).await.ok()?;
        subscription.start(document, variables).await?;
        Some(subscription)
    }

    /// Opens a socket, perhaps with headers, and introduces itself. Where the gateway wants nothing of it, the code with which it
    /// closed the socket, if there was one.
    pub(crate) async fn greet(
        &self,
        headers: &[(&'static str, &str)],
        init: Option<Value>,
    ) -> Result<Subscription, Option<u16>> {
        let mut request = format!("ws://{}/graphql", self.address).into_client_request().unwrap();
        for (name, value) in [("sec-websocket-protocol", "graphql-transport-ws")].iter().chain(headers) {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        let (socket, _) = connect_async(request).await.map_err(|_| None)?;
        let mut subscription = Subscription { socket, closed: None };
        subscription.say(&json!({ "type": "connection_init", "payload": init })).await.ok_or(None)?;
        let Some(answer) = subscription.hear().await else { return Err(subscription.closed) };
        assert_eq!(answer["type"], "connection_ack");
        Ok(subscription)
    }
}

/// One subscription, alone on its socket.
#[derive(Debug)]
pub(crate) struct Subscription {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The code with which the gateway closed it.
    pub(crate) closed: Option<u16>,
}

impl Subscription {
    /// Starts the operation.
    pub(crate) async fn start(&mut self, document: &str, variables: &Value) -> Option<()> {
        let payload = json!({ "query": document, "variables": variables });
        self.say(&json!({ "type": "subscribe", "id": "1", "payload": payload })).await
    }

    /// The next data; fails the test when none come.
    pub(crate) async fn next(&mut self) -> Value {
        self.next_or_end().await.expect("the subscription goes on")
    }

    /// The next data, or nothing when the connection is gone; fails the test when neither comes about.
    pub(crate) async fn next_or_end(&mut self) -> Option<Value> {
        let mut message = self.hear().await?;
        assert_eq!(message["type"], "next", "the subscription ended with {message}");
        Some(data(message["payload"].take()))
    }

    async fn say(&mut self, message: &Value) -> Option<()> {
        self.socket.send(Message::text(message.to_string())).await.ok()
    }

    /// The next message that says something.
    async fn hear(&mut self) -> Option<Value> {
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("something comes in time");
            match message {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).expect("messages are JSON");
                    if message["type"] == "ping" {
                        self.say(&json!({ "type": "pong" })).await?;
                    } else {
                        return Some(message);
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(frame))) => {
                    self.closed = frame.map(|frame| frame.code.into());
                    return None;
                }
                Some(Ok(_) | Err(_)) | None => return None,
            }
        }
    }
}

fn data(mut answer: Value) -> Value {
    assert!(answer.get("errors").is_none(), "{answer:#}");
    answer["data"].take()
}
