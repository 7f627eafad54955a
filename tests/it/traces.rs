//! Traces, as a collector gets them: over OTLP, from processes of their own.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::State, routing::post};
use gateway::infra::queue::BrokerSettings;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value},
    trace::v1::Span,
};
use prost::Message;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
    task::AbortHandle,
};

use crate::{
    queue::broker::{self, TestBroker},
    support::{
        database::{databases, sqlite},
        feed::Feed,
        jetstream,
        process::Program,
        records::network,
    },
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A span with the roles of the process that it is of.
#[derive(Clone, Debug)]
struct Told {
    roles: String,
    span: Span,
}

impl Told {
    fn field(&self, name: &str) -> String {
        text(&self.span.attributes, name)
    }

    /// What it says of each message: these fields.
    fn messages(&self, fields: [&str; 3]) -> Vec<[String; 3]> {
        let events = self.span.events.iter().filter(|event| event.name == "message");
        events.map(|event| fields.map(|field| text(&event.attributes, field))).collect()
    }
}

fn text(attributes: &[KeyValue], name: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == name).and_then(|found| found.value.clone());
    match value.and_then(|value| value.value) {
        Some(any_value::Value::StringValue(text)) => text,
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// A collector of the test's own; it goes with the value.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Told>>>,
    task: AbortHandle,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let spans = Arc::new(Mutex::new(Vec::new()));
        let routes = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&spans));
        let task = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }).abort_handle();
        Self { address, spans, task }
    }

    /// All of this name, when there is one.
    async fn named(&self, name: &str) -> Vec<Told> {
        self.until(name, |found| !found.is_empty()).await
    }

    /// All of this name, when they are enough.
    async fn until(&self, name: &str, is_enough: impl Fn(&[Told]) -> bool) -> Vec<Told> {
        let begun = Instant::now();
        loop {
            let found: Vec<Told> =
                self.spans.lock().unwrap().iter().filter(|told| told.span.name == name).cloned().collect();
            if is_enough(&found) {
                return found;
            }
            let names: Vec<String> = self.spans.lock().unwrap().iter().map(|told| told.span.name.clone()).collect();
            assert!(begun.elapsed() < PATIENCE, "no {name}, or too few, among {names:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(State(spans): State<Arc<Mutex<Vec<Told>>>>, body: Bytes) -> Vec<u8> {
    let request = ExportTraceServiceRequest::decode(body).expect("what is sent is protobuf");
    for resource in request.resource_spans {
        let attributes = resource.resource.unwrap_or_default().attributes;
        assert_eq!(text(&attributes, "service.name"), "openmeet-gateway");
        let roles = text(&attributes, "gateway.roles");
        let all = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        spans.lock().unwrap().extend(all.map(|span| Told { roles: roles.clone(), span }));
    }
    ExportTraceServiceResponse::default().encode_to_vec()
}

fn traced(program: Program, collector: SocketAddr) -> Program {
    program
        .with("GATEWAY_TELEMETRY__OTLP_ENDPOINT", &format!("http://{collector}"))
        .with("OTEL_BSP_SCHEDULE_DELAY", "50")
}

fn client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Tells it to end and waits; how long it took.
async fn stop(mut child: Child) -> Duration {
    let begun = Instant::now();
    let told = Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status().await.unwrap();
    assert!(told.success());
    let ended = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert!(ended.success(), "{ended}");
    begun.elapsed()
}

/// Repository, address and revision of the record in a line of a stream.
fn address(line: &str) -> [String; 3] {
    let line: Value = serde_json::from_str(line).unwrap();
    let of = |place: &Value, name: &str| place[name].as_str().unwrap().to_owned();
    let (did, commit) = (of(&line, "did"), &line["commit"]);
    let uri = format!("at://{did}/{}/{}", of(commit, "collection"), of(commit, "rkey"));
    [did, uri, of(commit, "rev")]
}

/// A record's way through two processes.
async fn way(program: Program) {
    let collector = Collector::start().await;
    let lines = network(3, 4, 3).lines;
    let records: BTreeSet<[String; 3]> = lines.iter().map(|line| address(line)).collect();
    let stream = jetstream::serve(lines).await;
    let program = traced(program, collector.address)
        .with("GATEWAY_STREAMS__ENDPOINTS", &format!("jetstream+ws://{}/subscribe", stream.address))
        .with("GATEWAY_STREAMS__START", "oldest");
    let reader = program.start(&["serve", "--roles", "firehose"]);
    let processor = program.start(&["serve", "--roles", "process"]);
    let persisted = collector.named("batch.persist").await;
    // Not all need be in the first batch.
    let told =
        |told: &[Told], fields| -> Vec<[String; 3]> { told.iter().flat_map(|told| told.messages(fields)).collect() };
    collector.until("batch.apply", |applied| told(applied, ["did", "uri", "rev"]).len() >= records.len()).await;
    stop(reader).await;
    stop(processor).await;
    let published = collector.named("stream.publish").await;
    assert!(published.iter().all(|told| told.roles == "firehose"), "{published:?}");
    let applied = collector.named("batch.apply").await;
    for told in &applied {
        assert_eq!((told.roles.as_str(), told.field("topic").as_str()), ("process", "records"));
        let is_child = published.iter().any(|before| {
            before.span.trace_id == told.span.trace_id && before.span.span_id == told.span.parent_span_id
        });
        let is_linked = !told.span.links.is_empty()
            && told.span.links.iter().all(|link| published.iter().any(|before| before.span.span_id == link.span_id));
        assert!(is_child || is_linked, "{told:?} is of none of {published:?}");
    }
    for spans in [&published, &applied] {
        let found: BTreeSet<_> = told(spans, ["did", "uri", "rev"]).into_iter().collect();
        assert_eq!(found, records, "each record can be found");
    }
    let outcomes = told(&applied, ["uri", "rev", "outcome"]);
    for [_, uri, rev] in records {
        let applied = [uri, rev, "applied".to_owned()];
        assert!(outcomes.contains(&applied), "{applied:?} is none of {outcomes:?}");
    }
    for told in &persisted {
        assert!(applied.iter().any(|before| before.span.span_id == told.span.parent_span_id), "{told:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_of_a_record_is_one_trace_through_the_table() {
    for test in databases().await {
        way(Program::over(&test.url)).await;
        test.discard().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_of_a_record_is_one_trace_through_the_broker() {
    let test = sqlite().await;
    let mut own = TestBroker::new(broker::url()).await;
    own.settings.rungs = BrokerSettings::default().rungs;
    let program = Program::over(&test.url)
        .with("AMQP_URL", &broker::url())
        .with("GATEWAY_QUEUE__PREFIX", &own.settings.prefix)
        .with("GATEWAY_QUEUE__PARTITIONS", &own.settings.partitions.to_string());
    way(program).await;
    own.discard().await;
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callers_trace_goes_on_here() {
    let test = sqlite().await;
    let collector = Collector::start().await;
    let program = traced(Program::over(&test.url), collector.address);
    let (child, address) = program.serve_api().await;
    let client = client();
    let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let ask = |traceparent: String| {
        let body = json!({ "query": "query Version { serviceInfo { version } }" }).to_string();
        let request = client.post(format!("http://{address}/graphql")).header("content-type", "application/json");
        request.header("traceparent", traceparent).body(body).send()
    };
    assert!(ask("rubbish".to_owned()).await.unwrap().status().is_success());
    let answer = ask(format!("00-{trace}-{parent}-01")).await.unwrap();
    assert!(answer.status().is_success());
    let refused = client
        .post(format!("http://{address}/api/integration/events"))
        .header("traceparent", format!("00-{trace}-{parent}-01"))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status().as_u16(), 401);
    // The last spans leave when it ends.
    stop(child).await;
    let executed = collector.named("graphql.execute").await;
    assert_eq!(executed.len(), 2);
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let ours = executed.iter().find(|told| hex(&told.span.trace_id) == trace).expect("it is part of the caller's");
    assert_eq!(hex(&ours.span.parent_span_id), parent);
    assert_eq!((ours.field("operation"), ours.field("code")), ("Version".to_owned(), "OK".to_owned()));
    let other = executed.iter().find(|told| hex(&told.span.trace_id) != trace).expect("rubbish begins a new one");
    assert!(other.span.parent_span_id.is_empty());
    let served = collector.named("request.serve").await;
    assert_eq!(hex(&served[0].span.parent_span_id), parent);
    assert_eq!(served[0].field("route"), "/api/integration/events");
    assert_eq!(served[0].field("status"), "401");
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_says_whose_it_is_and_a_subscription_how_long_it_lasts() {
    let test = sqlite().await;
    let collector = Collector::start().await;
    let program = traced(Program::over(&test.url), collector.address);
    program.replay(&program.file(network(3, 4, 3).lines)).await;
    let made = program.run(&["keys", "create", "Ada", "--admin"]).await;
    let key = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let (child, address) = program.serve_api().await;

    let mut feed = Feed::open(&address, None).await.unwrap();
    for _ in 0..3 {
        feed.next().await.unwrap().unwrap();
    }
    assert!(collector.spans.lock().unwrap().iter().all(|told| told.span.name != "graphql.subscribe"), "it is open");
    drop(feed);
    let subscribed = collector.named("graphql.subscribe").await;
    assert_eq!(subscribed.len(), 1);
    let told = ["operation", "transport", "tenant", "code"].map(|field| subscribed[0].field(field));
    assert_eq!(told, ["anonymous", "events", "1", "OK"]);
    assert!(subscribed[0].field("results").parse::<u64>().unwrap() >= 3, "{subscribed:?}");

    for shown in [None, Some(&key)] {
        let body = json!({ "query": "query Stranger { serviceInfo { version } }" }).to_string();
        let request = client().post(format!("http://{address}/graphql")).header("content-type", "application/json");
        let request = shown.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        assert!(request.body(body).send().await.unwrap().status().is_success());
    }
    let request = client().post(format!("http://{address}/api/integration/events")).bearer_auth(&key);
    assert!(request.body("{}").send().await.unwrap().status().is_client_error());
    let figures = client().get(format!("http://{address}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(figures.contains(r#"operation="other""#) && !figures.contains("Stranger"), "{figures}");
    stop(child).await;
    let executed = collector.named("graphql.execute").await;
    assert!(executed.iter().all(|told| told.field("operation") == "Stranger" && told.field("tenant") == "1"));
    let callers: Vec<_> = executed.iter().map(|told| told.field("caller")).collect();
    assert_eq!(callers[0], "None", "nobody in particular");
    let served = collector.named("request.serve").await;
    assert_eq!((served[0].field("tenant"), served[0].field("caller")), ("1".to_owned(), callers[1].clone()));
    assert!(key.contains(&callers[1]) && key != callers[1], "the public part of {key}, and not {callers:?}");
    test.discard().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up() {
    let test = sqlite().await;
    // No port of the machine is lower, and nothing listens there.
    let program = traced(Program::over(&test.url), "127.0.0.1:1".parse().unwrap());
    let (child, address) = program.serve_api().await;
    let client = client();
    for _ in 0..20 {
        let body = json!({ "query": "{ serviceInfo { version } }" }).to_string();
        let request = client.post(format!("http://{address}/graphql")).header("content-type", "application/json");
        assert!(request.body(body).send().await.unwrap().status().is_success());
    }
    assert!(stop(child).await < Duration::from_secs(20));
    test.discard().await;
}
