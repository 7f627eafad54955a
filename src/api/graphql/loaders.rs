//! Batched look-ups, one for each edge of the graph: what many objects of one level ask for becomes one statement.
//!
//! Loaders remember what they loaded, so a set of them lives as long as one request and no longer. A failed batch fails
//! each of its keys with the same [`Failure`], which is logged once.

use std::{collections::HashMap, fmt, hash::Hash, sync::Arc};

use dataloader::{BatchFn, cached::Loader};
use entities::{event, event_attendee, sets::RsvpStatus, source_record};
use futures_util::{FutureExt, future::BoxFuture};

use super::error::Failure;
use crate::{
    app::App,
    domain::{
        account::{self, Account},
        event as events,
        ingest::failure,
        page::{Page, Slice},
        record, rsvp,
        tenant::Tenant,
    },
    error::{Error, Result},
    infra::db::Db,
};

/// Most keys of one batch. They are bound as one list, so that only memory bounds them.
const MAX_BATCH: usize = 5_000;

/// The loaders of one request. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Loaders(Arc<Edges>);

struct Edges {
    events: Edge<i64, Option<Arc<event::Model>>>,
    rsvps: Edge<i64, Option<Arc<event_attendee::Model>>>,
    accounts: Edge<i64, Option<Arc<Account>>>,
    rsvps_of: Edge<RsvpsOf, Arc<Page<event_attendee::Model>>>,
    events_of: Edge<(i64, Slice), Arc<Page<event::Model>>>,
    event_counts: Edge<i64, u64>,
    records: Edge<String, Option<Arc<source_record::Model>>>,
    failures: Edge<i64, Option<Arc<failure::Model>>>,
    payloads: Edge<i64, Option<Arc<failure::Payload>>>,
    histories: Edge<i64, Vec<Arc<failure::Entry>>>,
}

/// A page of the answers to one event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RsvpsOf {
    /// Id of the event.
    pub(crate) event: i64,
    /// Only these answers; all when empty. Sorted, without doubles.
    pub(crate) status: Vec<RsvpStatus>,
    /// Which page.
    pub(crate) slice: Slice,
}

impl Loaders {
    /// Loaders that have loaded nothing yet.
    pub(crate) fn new(app: &App) -> Self {
        Self::over(&app.db, app.tenant)
    }

    fn over(db: &Db, tenant: Tenant) -> Self {
        let source = Source { db: db.clone(), tenant };
        Self(Arc::new(Edges {
            events: edge(&source, |from, ids| {
                async move { Ok(optional(events::by_ids(from.db.read(), from.tenant, ids).await?)) }.boxed()
            }),
            rsvps: edge(&source, |from, ids| {
                async move { Ok(optional(rsvp::by_ids(from.db.read(), from.tenant, ids).await?)) }.boxed()
            }),
            accounts: edge(&source, |from, ids| {
                async move { Ok(optional(account::by_ids(from.db.read(), from.tenant, ids).await?)) }.boxed()
            }),
            rsvps_of: edge(&source, |from, keys| load_rsvps_of(from, keys).boxed()),
            events_of: edge(&source, |from, keys| load_events_of(from, keys).boxed()),
            event_counts: edge(&source, |from, ids| {
                async move { events::count_of_organizers(from.db.read(), from.tenant, ids).await }.boxed()
            }),
            records: edge(&source, |from, uris| {
                async move { Ok(optional(record::by_uris(from.db.read(), uris).await?)) }.boxed()
            }),
            failures: edge(&source, |from, ids| {
                async move { Ok(optional(failure::by_ids(from.db.read(), ids).await?)) }.boxed()
            }),
            payloads: edge(&source, |from, ids| {
                async move { Ok(optional(failure::payloads(from.db.read(), ids).await?)) }.boxed()
            }),
            histories: edge(&source, |from, ids| async move { failure::histories(from.db.read(), ids).await }.boxed()),
        }))
    }

    /// The event with this id, if it can be reached.
    pub(crate) async fn event(&self, id: i64) -> Result<Option<Arc<event::Model>>, Failure> {
        load(&self.0.events, id).await
    }

    /// The answer with this id, if it is visible.
    pub(crate) async fn rsvp(&self, id: i64) -> Result<Option<Arc<event_attendee::Model>>, Failure> {
        load(&self.0.rsvps, id).await
    }

    /// The account with this id, visible or not.
    pub(crate) async fn account(&self, id: i64) -> Result<Option<Arc<Account>>, Failure> {
        load(&self.0.accounts, id).await
    }

    /// Answers to an event that the caller may see.
    pub(crate) async fn rsvps_of(&self, key: RsvpsOf) -> Result<Arc<Page<event_attendee::Model>>, Failure> {
        load(&self.0.rsvps_of, key).await
    }

    /// Listed events of an organiser, soonest first.
    pub(crate) async fn events_of(&self, user: i64, slice: Slice) -> Result<Arc<Page<event::Model>>, Failure> {
        load(&self.0.events_of, (user, slice)).await
    }

    /// How many listed events an organiser has.
    pub(crate) async fn event_count(&self, user: i64) -> Result<u64, Failure> {
        load(&self.0.event_counts, user).await
    }

    /// The ledger's row of a record.
    pub(crate) async fn record(&self, uri: String) -> Result<Option<Arc<source_record::Model>>, Failure> {
        load(&self.0.records, uri).await
    }

    /// A message that could not be applied, without its payload. Asked for by administrators only.
    pub(crate) async fn failure(&self, id: i64) -> Result<Option<Arc<failure::Model>>, Failure> {
        load(&self.0.failures, id).await
    }

    /// The payload of such a message.
    pub(crate) async fn payload(&self, id: i64) -> Result<Option<Arc<failure::Payload>>, Failure> {
        load(&self.0.payloads, id).await
    }

    /// The history of such a message.
    pub(crate) async fn history(&self, id: i64) -> Result<Vec<Arc<failure::Entry>>, Failure> {
        load(&self.0.histories, id).await
    }
}

impl fmt::Debug for Loaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loaders")
    }
}

/// Where loaders read.
#[derive(Clone)]
struct Source {
    db: Db,
    tenant: Tenant,
}

type Edge<K, V> = Loader<K, Result<V, Failure>, Batch<K, V>>;

type Run<K, V> = fn(Source, Vec<K>) -> BoxFuture<'static, Result<HashMap<K, V>>>;

/// Loads the values of many keys; a key that it leaves out gets the default of `V`.
struct Batch<K, V> {
    source: Source,
    run: Run<K, V>,
}

impl<K: Clone + Eq + Hash, V: Clone + Default> BatchFn<K, Result<V, Failure>> for Batch<K, V> {
    async fn load(&mut self, keys: &[K]) -> HashMap<K, Result<V, Failure>> {
        match (self.run)(self.source.clone(), keys.to_vec()).await {
            Ok(mut values) => {
                keys.iter().map(|key| (key.clone(), Ok(values.remove(key).unwrap_or_default()))).collect()
            }
            Err(error) => {
                let failure = Failure::from(error);
                keys.iter().map(|key| (key.clone(), Err(failure.clone()))).collect()
            }
        }
    }
}

fn edge<K, V>(source: &Source, run: Run<K, V>) -> Edge<K, V>
where
    K: Clone + fmt::Debug + Eq + Hash,
    V: Clone + Default,
{
    Loader::new(Batch { source: source.clone(), run }).with_max_batch_size(MAX_BATCH)
}

async fn load<K, V>(edge: &Edge<K, V>, key: K) -> Result<V, Failure>
where
    K: Clone + fmt::Debug + Eq + Hash,
    V: Clone + Default,
{
    // The library's own error means that a batch left a key out, which `Batch` never does.
    edge.try_load(key).await.unwrap_or_else(|error| Err(Error::bug(error).into()))
}

fn optional<K: Eq + Hash, T>(rows: HashMap<K, T>) -> HashMap<K, Option<T>> {
    rows.into_iter().map(|(key, row)| (key, Some(row))).collect()
}

/// One statement for each kind of page that is asked for: one, unless aliases ask for several.
async fn load_rsvps_of(from: Source, keys: Vec<RsvpsOf>) -> Result<HashMap<RsvpsOf, Arc<Page<event_attendee::Model>>>> {
    let mut kinds: HashMap<(Vec<RsvpStatus>, Slice), Vec<i64>> = HashMap::new();
    for key in keys {
        kinds.entry((key.status, key.slice)).or_default().push(key.event);
    }
    let mut loaded = HashMap::new();
    for ((status, slice), ids) in kinds {
        let pages = rsvp::of_events(from.db.read(), from.tenant, ids, &status, &slice).await?;
        loaded.extend(
            pages.into_iter().map(|(event, page)| (RsvpsOf { event, status: status.clone(), slice }, Arc::new(page))),
        );
    }
    Ok(loaded)
}

async fn load_events_of(
    from: Source,
    keys: Vec<(i64, Slice)>,
) -> Result<HashMap<(i64, Slice), Arc<Page<event::Model>>>> {
    let mut kinds: HashMap<Slice, Vec<i64>> = HashMap::new();
    for (user, slice) in keys {
        kinds.entry(slice).or_default().push(user);
    }
    let mut loaded = HashMap::new();
    for (slice, users) in kinds {
        let pages = events::of_organizers(from.db.read(), from.tenant, users, &slice).await?;
        loaded.extend(pages.into_iter().map(|(user, page)| ((user, slice), Arc::new(page))));
    }
    Ok(loaded)
}
