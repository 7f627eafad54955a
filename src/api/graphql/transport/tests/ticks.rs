//! A subscription that can be shared, with those who follow it over real connections.

use std::{
    future::ready,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_graphql::{Context, Data, EmptyMutation, ErrorExtensions as _, InputObject, Object, Schema, Subscription};
use axum::{body::BodyDataStream, http::HeaderName};
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    Alive, Life,
    http::{accepting, post, with},
    socket::{Socket, hear, listen, ready_with, say},
    until,
};
use crate::api::graphql::{
    guard::{Guard, Limits, Listed, Refusal},
    transport::{
        Attach, Audience, Course, Endpoint, RequestInfo, Resumable, Sender, Settings, Turn, router, share::RING,
    },
};

pub(super) const TICKS: &str =
    "subscription ($after: Int, $filter: TickFilter) { ticks(after: $after, filter: $filter) { number } }";
/// With what depends on who asks.
pub(super) const VIEWED: &str =
    "subscription ($after: Int) { ticks(after: $after) { number ...own } } fragment own on Tick { viewer }";
pub(super) const LARGE: &str = "subscription ($after: Int) { ticks(after: $after) { number text } }";

/// All but the viewer.
const IMPARTIAL: &Listed = &[
    ("Subscriptions", &["ticks"]),
    ("Subscriptions.ticks", &["after", "filter"]),
    ("TickFilter", &["least", "handle"]),
    ("Tick", &["number", "text"]),
];

/// A log of numbers from 1 on, and what was done for its readers.
#[derive(Clone)]
pub(super) struct Log {
    length: watch::Sender<i64>,
    /// Events that were executed.
    executed: Arc<AtomicUsize>,
    alive: Alive,
}

impl Log {
    pub(super) fn grow(&self, by: i64) {
        self.length.send_modify(|length| *length += by);
    }

    pub(super) fn executed(&self) -> usize {
        self.executed.load(Ordering::SeqCst)
    }
}

struct Query;

#[Object]
impl Query {
    fn ok(&self) -> bool {
        true
    }
}

#[derive(InputObject)]
struct TickFilter {
    #[graphql(default)]
    least: i32,
    handle: Option<String>,
}

struct Tick(i64, Log);

#[Object]
impl Tick {
    fn number(&self) -> i64 {
        self.1.executed.fetch_add(1, Ordering::SeqCst);
        self.0
    }

    fn text(&self) -> String {
        "x".repeat(32 * 1024)
    }

    /// Whoever asks.
    fn viewer(&self, context: &Context<'_>) -> String {
        context.data_opt().map_or("nobody", |Viewer(name)| name).to_owned()
    }
}

struct Viewer(String);

struct Subscriptions(Log);

#[Subscription]
impl Subscriptions {
    async fn ticks(
        &self,
        context: &Context<'_>,
        after: Option<i64>,
        filter: Option<TickFilter>,
    ) -> async_graphql::Result<impl Stream<Item = async_graphql::Result<Tick>> + use<>> {
        let life = Life::begin(&self.0.alive).await;
        if filter.is_some_and(|filter| filter.least < 0) {
            return Err(async_graphql::Error::new("no").extend_with(|_, e| e.set("code", "BAD_USER_INPUT")));
        }
        let course = context.data_opt::<Course>();
        let plan = Course::plan(course, after);
        let (log, length) = (self.0.clone(), self.0.length.subscribe());
        let start = plan.after.unwrap_or_else(|| *length.borrow());
        let end = if plan.ends { *length.borrow() } else { i64::MAX };
        let items = stream::unfold((start + 1, length, life), move |(number, mut length, life)| async move {
            if number > end {
                return None;
            }
            length.wait_for(|length| *length >= number).await.ok()?;
            Some((Ok(number), (number + 1, length, life)))
        });
        let paced = Course::pace(course, context.data_opt::<Turn>(), plan, items, |number| *number);
        Ok(paced.map(move |number| number.map(|number| Tick(number, log.clone()))))
    }
}

/// Knows tenants by the payload of `connection_init`, and who somebody is by a token there or in a header.
struct Doorkeeper {
    /// When the token `passing` opens no more.
    withdrawn: CancellationToken,
}

fn said<'a>(info: &'a RequestInfo, name: &str) -> Option<&'a Value> {
    info.init.as_ref()?.get(name)
}

fn token(info: &RequestInfo) -> Option<&str> {
    said(info, "token").and_then(Value::as_str).or_else(|| info.headers.get("token")?.to_str().ok())
}

impl Attach for Doorkeeper {
    fn attach<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<Sender, Refusal>> {
        let mut data = Data::default();
        let token = token(info);
        if let Some(token) = token {
            data.insert(Viewer(token.to_owned()));
        }
        let audience = Audience::new(said(info, "tenant").and_then(Value::as_i64).unwrap_or(1), Data::default);
        ready(Ok(Sender { data, audience: Some(audience), is_somebody: token.is_some() })).boxed()
    }

    fn expires(&self, info: &RequestInfo) -> Option<BoxFuture<'static, ()>> {
        (token(info) == Some("passing")).then(|| self.withdrawn.clone().cancelled_owned().boxed())
    }
}

type TestSchema = Schema<Query, EmptyMutation, Subscriptions>;

pub(super) struct World {
    endpoint: Endpoint<TestSchema>,
    pub(super) log: Log,
    pub(super) address: SocketAddr,
    /// When the token `passing` opens no more.
    pub(super) withdrawn: CancellationToken,
}

impl World {
    pub(super) async fn open(settings: Settings) -> Self {
        let log = Log { length: watch::channel(0).0, executed: Arc::default(), alive: Alive::default() };
        let schema = Schema::build(Query, EmptyMutation, Subscriptions(log.clone())).finish();
        let guard = Guard::new(&schema.sdl(), &[], Limits::default()).unwrap().with_impartial(IMPARTIAL);
        let shared = &[Resumable { field: "ticks", after: "after", momentary: "handle" }];
        let settings = Settings { shared, connections: 16, ..settings };
        let ending = (CancellationToken::new(), TaskTracker::new());
        let withdrawn = CancellationToken::new();
        let doorkeeper = Doorkeeper { withdrawn: withdrawn.clone() };
        let endpoint = Endpoint::new(schema, guard, doorkeeper, settings, ending);
        let address = listen(endpoint.clone()).await;
        Self { endpoint, log, address, withdrawn }
    }

    pub(super) async fn ready(&self) -> Socket {
        ready_with(self.address, json!({})).await
    }

    /// A socket with one subscription.
    pub(super) async fn subscribe(&self, id: &str, query: &str, variables: Value) -> Socket {
        let mut socket = self.ready().await;
        ask(&mut socket, id, query, variables).await;
        socket
    }

    /// The same of somebody.
    pub(super) async fn subscribe_as(&self, token: &str, query: &str, variables: Value) -> Socket {
        let mut socket = ready_with(self.address, json!({ "token": token })).await;
        ask(&mut socket, token, query, variables).await;
        socket
    }

    /// An event stream.
    pub(super) async fn events(&self, token: Option<&str>) -> BodyDataStream {
        let request = accepting(post(json!({ "query": TICKS }).to_string()), "text/event-stream");
        let request = match token {
            Some(token) => with(request, HeaderName::from_static("token"), token),
            None => request,
        };
        let response = router(self.endpoint.clone(), |methods| methods).oneshot(request).await.unwrap();
        response.into_body().into_data_stream()
    }

    pub(super) async fn until_members(&self, expected: &[usize]) {
        let runs = &self.endpoint.inner.runs;
        until(&format!("{expected:?} members, not {:?}", runs.members()), || runs.members() == expected).await;
    }

    /// Nobody is served any more.
    pub(super) async fn until_quiet(&self) {
        self.until_members(&[]).await;
        until("nothing is left", || self.log.alive.0.load(Ordering::SeqCst) == 0).await;
    }

    pub(super) fn alive(&self) -> usize {
        self.log.alive.0.load(Ordering::SeqCst)
    }
}

pub(super) fn ring() -> i64 {
    i64::try_from(RING).unwrap()
}

pub(super) async fn ask(socket: &mut Socket, id: &str, query: &str, variables: Value) {
    let payload = json!({"query": query, "variables": variables});
    say(socket, json!({"id": id, "type": "subscribe", "payload": payload})).await;
}

/// What an event stream says, as far as this.
pub(super) async fn read_until(events: &mut BodyDataStream, last: &str) -> String {
    let mut text = String::new();
    while !text.contains(last) {
        text.push_str(std::str::from_utf8(&events.next().await.unwrap().unwrap()).unwrap());
    }
    text
}

/// The next ticks of a subscription are these, each once.
pub(super) async fn hear_ticks(socket: &mut Socket, id: &str, numbers: impl Iterator<Item = i64>) {
    for number in numbers {
        let message = hear(socket).await;
        let heard = (&message["type"], &message["id"], &message["payload"]["data"]["ticks"]["number"]);
        assert_eq!(heard, (&json!("next"), &json!(id), &json!(number)));
    }
}
