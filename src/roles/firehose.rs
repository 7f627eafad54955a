//! Reads the streams and fills the queue. The cursor of a stream moves only when the queue has everything before it.

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    future::pending,
    sync::Arc,
};

use metrics::{counter, gauge};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field::Empty, info, info_span, warn};

use super::{Queues, backfill, needs};
use crate::{
    app::App,
    config::Start as First,
    domain::{
        account::identity,
        ingest::{accepts, cursor, handed_on, is_oversized, line, resync, submit},
        source::{COLLECTIONS, WATCHED},
    },
    error::Result,
    infra::{
        atproto::stream::{Endpoint, Frame, Item, Start, StreamSettings, Wanted, follow},
        queue::{Message, Queue},
        resilience::Recovery,
    },
    telemetry::caused,
};

/// Items that wait to be gathered, each of which may be as large as a message of a stream (8 MB): few, since they are gathered
/// all the time. A full buffer stops reading, which the server then notices.
const BUFFER: usize = 8;
/// Items of one publication, and their bytes but for the last item: what has come while the one before was under way.
const BATCH: usize = 500;
const BYTES: usize = 4 << 20;
/// DIDs that are remembered as known.
const KNOWN: usize = 100_000;

/// Runs until the token is cancelled.
pub(super) async fn run(app: App, queues: Queues, shutdown: CancellationToken) -> Result<()> {
    let mut starts = Vec::new();
    for endpoint in &app.config.streams.endpoints {
        let endpoint: Endpoint = endpoint.parse()?;
        let stored = cursor::load(app.db.read(), &endpoint.to_string()).await?;
        // Nought asks for everything that a stream still has.
        let first = (app.config.streams.start == First::Oldest).then_some(0);
        starts.push(Start { endpoint, cursor: stored.or(first) });
    }
    if starts.is_empty() {
        info!("no stream is configured: nothing is read from the network");
        shutdown.cancelled().await;
        return Ok(());
    }
    let names = starts.iter().map(|start| start.endpoint.to_string()).collect();
    let (sender, receiver) = mpsc::channel(BUFFER);
    let settings = StreamSettings { stall_after: app.config.streams.stall(), ..StreamSettings::default() };
    let (connected, gap) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let publisher = Publisher {
        connected: Arc::clone(&connected),
        gap: Arc::clone(&gap),
        app: app.clone(),
        queues: queues.clone(),
        names,
        known: HashSet::new(),
    };
    // When reading ends, the sender is dropped and the publisher ends after the last item.
    let reading = follow(starts, Wanted::new(COLLECTIONS).watching(WATCHED), settings, sender, shutdown.clone());
    let filling = backfill::run(&app, &queues, (&connected, &gap), &shutdown);
    let (read, (), ()) = tokio::join!(reading, publisher.run(receiver, &shutdown), filling);
    read
}

struct Publisher {
    /// Told when a stream has answered.
    connected: Arc<Notify>,
    /// Told when a stream has a gap.
    gap: Arc<Notify>,
    app: App,
    queues: Queues,
    /// Addresses of the endpoints, as keys of their cursors.
    names: Vec<String>,
    /// DIDs that the database knows, so that not every record asks again.
    known: HashSet<String>,
}

/// What of a batch is not safe yet. Whatever is gets out of it at once, so that a failure of what comes after does not have it
/// published once more.
#[derive(Default)]
struct Load {
    /// As they came; nobody has asked yet which of their DIDs are known.
    items: Vec<Item>,
    records: Vec<Message>,
    /// Those that no consumer could do anything with: they are parked here, and take no room in the queue.
    oversized: Vec<String>,
    resyncs: Vec<Message>,
    /// Endpoints that have a gap.
    gaps: Vec<usize>,
    /// Where the streams are, by endpoint.
    positions: BTreeMap<usize, i64>,
}

impl Publisher {
    async fn run(mut self, mut items: mpsc::Receiver<Item>, shutdown: &CancellationToken) {
        let mut next = Vec::new();
        let mut recovery = Recovery::new("hand messages to the queue", needs(&self.app, &self.queues));
        loop {
            if next.is_empty() {
                let Some(item) = items.recv().await else { return };
                next.push(item);
            }
            let load = Load { items: std::mem::take(&mut next), ..Load::default() };
            // A full buffer holds the stream back.
            let goes_on = tokio::select! {
                goes_on = self.insist(load, &mut recovery, shutdown) => goes_on,
                never = gather(&mut items, &mut next) => match never {},
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Publishes, again and again until it succeeds; `false` when it is time to stop.
    async fn insist(&mut self, mut load: Load, recovery: &mut Recovery, shutdown: &CancellationToken) -> bool {
        while let Err(error) = self.ship(&mut load).await {
            // What was not published is read again: the cursor has not moved.
            if shutdown.run_until_cancelled(recovery.pause(&error)).await.is_none() {
                return false;
            }
        }
        recovery.works();
        true
    }

    async fn ship(&mut self, load: &mut Load) -> Result<()> {
        if !load.items.is_empty() {
            self.learn(&load.items).await?;
            self.sort(load);
        }
        while let Some(endpoint) = load.gaps.last() {
            let dids = identity::all(self.app.db.read()).await?;
            let (endpoint, repositories) = (self.name(*endpoint), dids.len());
            warn!(endpoint, repositories, "the stream has a gap: all known repositories are read again");
            let now = self.app.clock.now();
            load.resyncs.extend(dids.into_iter().map(|did| {
                let body = line::of_resync(&did, now);
                Message { key: did, body }
            }));
            load.gaps.pop();
            self.gap.notify_one();
        }
        if !load.oversized.is_empty() {
            submit(&self.app, &load.oversized).await?;
            load.oversized.clear();
        }
        publish(&self.queues.records, &mut load.records).await?;
        publish(&self.queues.resyncs, &mut load.resyncs).await?;
        while let Some((&endpoint, &position)) = load.positions.first_key_value() {
            let (name, now) = (&self.name(endpoint).to_owned(), self.app.clock.now());
            self.app.db.transact(|tx| async move { cursor::save(&*tx, name, position, now).await }).await?;
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; the lag shows in its upper digits")]
            gauge!("gateway_stream_cursor", "endpoint" => name.clone()).set(position as f64);
            load.positions.pop_first();
        }
        Ok(())
    }

    /// Decides what is to become of each item.
    fn sort(&self, load: &mut Load) {
        for item in std::mem::take(&mut load.items) {
            match item {
                Item::Frame(frame) => {
                    load.positions.insert(frame.endpoint, frame.cursor);
                    if frame.commit_collection.is_none() && !self.known.contains(&frame.did) {
                        continue;
                    }
                    if is_oversized(&frame.json, self.app.config.ingest.max_record_bytes) {
                        load.oversized.push(frame.json);
                        continue;
                    }
                    // What cannot be a DID cannot be a key either; the pipeline parks it.
                    let key = if accepts(&frame.did) { frame.did } else { "malformed".to_owned() };
                    let message = Message { key, body: frame.json };
                    let is_request = resync::is_request(&message.body);
                    let queued = if is_request { &mut load.resyncs } else { &mut load.records };
                    queued.push(message);
                }
                Item::Connected { .. } => self.connected.notify_one(),
                Item::Passed { endpoint, cursor } => {
                    load.positions.insert(endpoint, cursor);
                }
                Item::Gap { endpoint } => load.gaps.push(endpoint),
            }
        }
    }

    fn name(&self, endpoint: usize) -> &str {
        self.names.get(endpoint).map_or("", String::as_str)
    }

    /// Finds out which DIDs are known. The author of a wanted record is known from now on, before the record is in the
    /// queue: an account event that follows at once is then not taken for a stranger's.
    async fn learn(&mut self, batch: &[Item]) -> Result<()> {
        if self.known.len() > KNOWN {
            self.known.clear();
        }
        let frames = || batch.iter().filter_map(|item| if let Item::Frame(frame) = item { Some(frame) } else { None });
        let unknown = |wanted: fn(&Frame) -> bool| {
            let dids: HashSet<&String> =
                frames().filter(|f| wanted(f)).map(|f| &f.did).filter(|did| !self.known.contains(*did)).collect();
            dids.into_iter().cloned().collect::<Vec<String>>()
        };
        let mut authors = unknown(|frame| frame.commit_collection.is_some() && accepts(&frame.did));
        let others = unknown(|frame| frame.commit_collection.is_none() && accepts(&frame.did));
        if !authors.is_empty() {
            authors.sort_unstable();
            let now = self.app.clock.now();
            self.app
                .db
                .transact(|tx| {
                    let authors = &authors;
                    async move { identity::note(&*tx, authors, now).await }
                })
                .await?;
        }
        let others = if others.is_empty() { Vec::new() } else { identity::known(self.app.db.read(), others).await? };
        self.known.extend(authors.into_iter().chain(others));
        Ok(())
    }
}

/// Hands messages to a queue; none are left when it has them.
async fn publish(queue: &Queue, messages: &mut Vec<Message>) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let (topic, count) = (queue.topic().as_str(), messages.len());
    let span = caused(info_span!("stream.publish", trace_id = Empty, topic, messages = count), None);
    span.in_scope(|| handed_on(messages.iter().map(|message| message.body.as_str())));
    queue.publish(messages).instrument(span).await?;
    counter!("gateway_queue_published_total", "topic" => topic).increment(count as u64);
    messages.clear();
    Ok(())
}

/// Takes in what comes, up to a full batch, for as long as anybody waits for it.
async fn gather(items: &mut mpsc::Receiver<Item>, batch: &mut Vec<Item>) -> Infallible {
    let mut bytes = 0;
    while batch.len() < BATCH && bytes < BYTES {
        let Some(item) = items.recv().await else { break };
        bytes += if let Item::Frame(frame) = &item { frame.json.len() } else { 0 };
        batch.push(item);
    }
    pending().await
}
