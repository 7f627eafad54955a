//! Tests of the transports, with a small schema of their own.

#![expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    clippy::unused_self,
    reason = "resolvers have the shape that the library asks for"
)]

mod http;
mod load;
mod share;
mod socket;
mod ticks;

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_graphql::{Context, Data, EmptyMutation, ErrorExtensions as _, Object, Schema, Subscription, TypeDirective};
use axum::extract::OriginalUri;
use futures_util::{FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Attach, Endpoint, RequestInfo, Sender, Settings, Transport, Turn};
use crate::api::graphql::guard::{Code, Guard, Limits, Refusal};

struct Query;

fn explode() -> String {
    std::panic::panic_any("a secret")
}

#[Object]
impl Query {
    fn hello(&self, #[graphql(default)] name: String, #[graphql(default)] times: i32) -> String {
        format!("hello {name}{times}")
    }

    fn transport(&self, context: &Context<'_>) -> String {
        format!("{:?}", context.data_unchecked::<Transport>())
    }

    fn boom(&self) -> Option<String> {
        Some(explode())
    }

    fn coded(&self) -> Option<async_graphql::Result<String>> {
        Some(Err(async_graphql::Error::new("no such thing").extend_with(|_, e| e.set("code", "NOT_FOUND"))))
    }

    fn raw(&self) -> Option<async_graphql::Result<String>> {
        Some(Err(async_graphql::Error::new("SELECT secret FROM wallet")))
    }

    fn all_fail(&self) -> async_graphql::Result<String> {
        Err(async_graphql::Error::new("no such thing").extend_with(|_, e| e.set("code", "NOT_FOUND")))
    }

    fn query(&self) -> Query {
        Query
    }

    /// Waits until the test says so.
    async fn slow(&self, context: &Context<'_>) -> bool {
        let gate = context.data_unchecked::<Gate>();
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        gate.open.cancelled().await;
        true
    }

    /// The same, at a price.
    #[graphql(directive = cost::apply(3_000))]
    async fn dear(&self, context: &Context<'_>) -> bool {
        self.slow(context).await.unwrap_or_default()
    }
}

/// As the one of the schema.
#[TypeDirective(location = "FieldDefinition")]
fn cost(weight: i32) {}

/// Holds fields back.
#[derive(Clone, Default)]
struct Gate {
    waiting: Arc<AtomicUsize>,
    open: CancellationToken,
}

#[derive(Clone, Default)]
struct Writes(Arc<AtomicUsize>);

struct Mutation(Writes);

#[Object]
impl Mutation {
    fn write(&self) -> usize {
        self.0.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// How many streams of the schema are alive.
#[derive(Clone, Default)]
struct Alive(Arc<AtomicUsize>);

struct Life(Alive);

impl Life {
    /// Waits a moment, as real subscriptions do before they start.
    async fn begin(alive: &Alive) -> Self {
        tokio::task::yield_now().await;
        alive.0.fetch_add(1, Ordering::SeqCst);
        Self(alive.clone())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Subscriptions(Alive);

#[Subscription]
impl Subscriptions {
    async fn count(&self, to: u32) -> impl Stream<Item = u32> + use<> {
        let life = Life::begin(&self.0).await;
        stream::iter(0..to).inspect(move |_| _ = &life)
    }

    async fn never(&self, context: &Context<'_>) -> impl Stream<Item = u32> + use<> {
        let life = Life::begin(&self.0).await;
        Turn::pace(context.data_opt(), stream::pending().inspect(move |_: &u32| _ = &life))
    }

    /// Events that take until the test says so.
    async fn queries(&self, context: &Context<'_>) -> impl Stream<Item = Query> + use<> {
        let life = Life::begin(&self.0).await;
        let events = stream::iter([(), ()]).chain(stream::pending());
        Turn::pace(context.data_opt(), events.map(|()| Query).inspect(move |_| _ = &life))
    }

    async fn flood(&self) -> impl Stream<Item = String> + use<> {
        let life = Life::begin(&self.0).await;
        stream::repeat_with(|| "x".repeat(64 * 1024)).inspect(move |_| _ = &life)
    }

    async fn burst(&self) -> impl Stream<Item = u32> + use<> {
        let life = Life::begin(&self.0).await;
        stream::iter(0..3)
            .inspect(move |_| _ = &life)
            .map(|n| if n == 2 { std::panic::panic_any("a secret") } else { n })
    }
}

type TestSchema = Schema<Query, Mutation, Subscriptions>;

/// An endpoint with what a test wants to look at.
struct Bench {
    endpoint: Endpoint<TestSchema>,
    writes: Writes,
    alive: Alive,
    gate: Gate,
    shutdown: CancellationToken,
}

/// How long a short token opens.
const MOMENT: Duration = Duration::from_millis(100);

/// Knows senders by a token, and tells resolvers their transport.
struct Doorkeeper;

/// From the payload of `connection_init`, else from a header.
fn token(info: &RequestInfo) -> Option<&str> {
    let said = info.init.as_ref().and_then(|payload| payload.get("token")).and_then(|token| token.as_str());
    said.or_else(|| info.headers.get("token")?.to_str().ok())
}

impl Attach for Doorkeeper {
    fn attach<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<Sender, Refusal>> {
        let holds_its_request = info.transport == Transport::Socket && info.extensions.get::<OriginalUri>().is_some();
        assert!(!holds_its_request, "a socket that keeps the buffer that its request was read into");
        let mut data = Data::default();
        data.insert(info.transport);
        let refused = || Refusal::new(Code::Unauthenticated, "a stolen token");
        let sender = Sender { data, audience: None, is_somebody: true };
        ready(if token(info) == Some("stolen") { Err(refused()) } else { Ok(sender) }).boxed()
    }

    fn admits<'a>(&'a self, info: &'a mut RequestInfo) -> BoxFuture<'a, Result<bool, Refusal>> {
        assert!(token(info) != Some("broken"), "a doorkeeper that fails");
        let refused = |code| Err(Refusal::new(code, "no"));
        ready(match token(info) {
            Some("stolen") => refused(Code::Unauthenticated),
            Some("unknowable") => refused(Code::Unavailable),
            _ => Ok(true),
        })
        .boxed()
    }

    fn expires(&self, info: &RequestInfo) -> Option<BoxFuture<'static, ()>> {
        (token(info) == Some("short")).then(|| tokio::time::sleep(MOMENT).boxed())
    }
}

fn bench(settings: Settings) -> Bench {
    let (writes, alive, shutdown) = (Writes::default(), Alive::default(), CancellationToken::new());
    let gate = Gate::default();
    let schema =
        Schema::build(Query, Mutation(writes.clone()), Subscriptions(alive.clone())).data(gate.clone()).finish();
    let guard = Guard::new(&schema.sdl(), &[], Limits::default()).unwrap();
    Bench {
        endpoint: Endpoint::new(schema, guard, Doorkeeper, settings, (shutdown.clone(), TaskTracker::new())),
        writes,
        alive,
        gate,
        shutdown,
    }
}

/// Waits for a condition; a test that waits for ever hangs, so there is an end.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok(), "{what}");
}

/// A closure is enough where nothing is decided.
#[tokio::test]
async fn a_closure_attaches() {
    struct Root;
    #[Object]
    impl Root {
        fn answer(&self, context: &Context<'_>) -> u32 {
            *context.data_unchecked::<u32>()
        }
    }
    let schema = Schema::new(Root, EmptyMutation, async_graphql::EmptySubscription);
    let guard = Guard::new(&schema.sdl(), &[], Limits::default()).unwrap();
    let attach = |_: &RequestInfo| {
        let mut data = Data::default();
        data.insert(42_u32);
        data
    };
    let endpoint =
        Endpoint::new(schema, guard, attach, Settings::default(), (CancellationToken::new(), TaskTracker::new()));
    let (_, _, body) = http::send(endpoint, http::post(r#"{"query":"{answer}"}"#)).await;
    assert_eq!(body, r#"{"data":{"answer":42}}"#);
}
