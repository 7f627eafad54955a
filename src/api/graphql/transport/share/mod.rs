//! Subscriptions that mean the same run once: one execution and one serialisation of each event, for all their members.
//!
//! Members of a run are of one [audience](Audience), show the same document and name the same operation with the same
//! variables. It is executed for nobody in particular, whoever its members are, and so is what is executed for one of them
//! alone; who is somebody is a member only where the operation answers the same to everybody. What each has of its own is its
//! place: who begins with a position, or falls behind the ring, runs [alone](Follower) up to now and then joins, without a gap
//! and without a double; and its end, when what it showed opens no more. The run goes at the pace of the
//! faster members: before the ring turns over it waits a moment until a quarter of them are through, and for nobody longer.
//! It ends with its last member.

mod follower;
mod key;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_graphql::Executor;
use futures_util::FutureExt as _;
use metrics::gauge;
use tokio::{
    sync::broadcast,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use self::key::{Audience, Resumable};
use self::{follower::Member, key::Key};
pub(super) use self::{
    follower::{Alone, Follower, Told},
    key::{Asked, Wish},
};
use super::{Endpoint, SHARED_RUNS, course::Course, frame::Frame, run::Recipe};

/// Results that a run keeps for members who have not taken them yet.
pub(super) const RING: usize = 128;
/// Results that may wait for the faster members.
const AHEAD: usize = RING / 2;
/// How long a run waits for them at one result.
const PATIENCE: Duration = Duration::from_millis(100);

/// Results that are handed out together: with those that wait, fewer than the ring holds.
const BURST: usize = RING / 4;
/// How long the first of them waits for the others, which are being executed meanwhile.
const GATHERING: Duration = Duration::from_millis(20);

/// The position of a run that has told nothing.
const NOWHERE: i64 = i64::MIN;

/// The runs of one endpoint.
#[derive(Clone, Default)]
pub(super) struct Runs(Arc<Mutex<HashMap<Key, Entry>>>);

struct Entry {
    number: u64,
    run: Weak<Run>,
}

/// A run, as its members hold it. It ends when the last one lets go.
pub(super) struct Run {
    key: Key,
    recipe: Arc<Recipe>,
    audience: Audience,
    /// Gone when the run has ended: a ring that members held would never close.
    ring: broadcast::WeakSender<Arc<Frame>>,
    told: Arc<Positions>,
    course: Course,
    _stop: DropGuard,
}

/// What a run has told, as far as it goes.
struct Positions {
    first: AtomicI64,
    last: AtomicI64,
}

impl Run {
    /// Before everything that the run has told.
    fn before_first(&self) -> Option<i64> {
        known(&self.told.first).map(|first| first.saturating_sub(1))
    }

    /// A place in the ring, and the position that it follows on.
    fn enter(&self) -> Option<(broadcast::Receiver<Arc<Frame>>, Option<i64>)> {
        let last = known(&self.told.last);
        Some((self.ring.upgrade()?.subscribe(), last))
    }
}

fn known(position: &AtomicI64) -> Option<i64> {
    Some(position.load(Ordering::Acquire)).filter(|position| *position != NOWHERE)
}

impl Runs {
    fn kept(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many members each run has, the smallest first.
    #[cfg(test)]
    pub(super) fn members(&self) -> Vec<usize> {
        let mut members: Vec<usize> = self.kept().values().map(|entry| entry.run.strong_count()).collect();
        members.retain(|members| *members > 0);
        members.sort_unstable();
        members
    }

    /// Takes the run of this number out, so that nobody joins it any more.
    fn close(&self, key: &Key, number: u64) {
        let mut kept = self.kept();
        if kept.get(key).is_some_and(|entry| entry.number == number) {
            kept.remove(key);
        }
    }
}

impl<E: Executor> Endpoint<E> {
    /// Makes a member of the run of this key, which begins with the first one.
    fn join(&self, key: Key, recipe: &Arc<Recipe>, audience: &Audience) -> Member {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let runs = &self.inner.runs;
        let mut kept = runs.kept();
        let found = kept.get(&key).and_then(|entry| entry.run.upgrade());
        if let Some(run) = &found
            && let Some((frames, position)) = run.enter()
        {
            return Member::new(Arc::clone(run), frames, position, false);
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (ring, frames) = broadcast::channel(RING);
        let told = Arc::new(Positions { first: AtomicI64::new(NOWHERE), last: AtomicI64::new(NOWHERE) });
        let (stop, course) = (CancellationToken::new(), Course::from_now());
        let run = Arc::new(Run {
            key: key.clone(),
            recipe: Arc::clone(recipe),
            audience: audience.clone(),
            ring: ring.downgrade(),
            told: Arc::clone(&told),
            course: course.clone(),
            _stop: stop.clone().drop_guard(),
        });
        kept.insert(key.clone(), Entry { number, run: Arc::downgrade(&run) });
        drop(kept);
        gauge!(SHARED_RUNS).increment(1);
        let (endpoint, recipe, audience) = (self.clone(), Arc::clone(recipe), audience.clone());
        tokio::spawn(async move {
            let work = async {
                let alone = endpoint.for_nobody(&recipe, &audience, course.clone());
                drop((recipe, audience));
                drive(alone, &ring, &told).await;
            };
            stop.run_until_cancelled(work.boxed()).await;
            // In this order: whoever joins before is told how it ended, and whoever comes after begins anew.
            endpoint.inner.runs.close(&key, number);
            course.begun().cancel();
            drop(ring);
            gauge!(SHARED_RUNS).decrement(1);
        });
        Member::new(run, frames, None, true)
    }

    /// The operation once more, as nobody in particular sees it: for all members, or for one that is behind.
    fn for_nobody(&self, recipe: &Recipe, audience: &Audience, course: Course) -> Alone {
        self.alone(recipe.request(audience.nobody()), Some(course))
    }
}

/// Executes events and hands them out, at the pace of the faster members. What comes in one go is handed out in one go:
/// members that are woken for the first find the others beside it.
async fn drive(mut alone: Alone, ring: &broadcast::Sender<Arc<Frame>>, told: &Positions) {
    let mut ahead: VecDeque<Arc<Frame>> = VecDeque::new();
    while let Some(frame) = alone.next().await {
        let mut burst = vec![frame];
        let deadline = Instant::now() + GATHERING;
        while burst.len() < BURST
            && let Ok(Some(frame)) = timeout_at(deadline, alone.next_under_way()).await
        {
            burst.push(frame);
        }
        for frame in burst {
            if let Some(position) = frame.position {
                told.first.compare_exchange(NOWHERE, position, Ordering::AcqRel, Ordering::Acquire).ok();
                told.last.store(position, Ordering::Release);
            }
            let frame = Arc::new(frame.shared_by(ring.receiver_count()));
            // Fails only without members, and then this ends too.
            let _ = ring.send(Arc::clone(&frame));
            ahead.push_back(frame);
        }
        while ahead.len() > AHEAD
            && let Some(frame) = ahead.pop_front()
        {
            timeout(PATIENCE, frame.passed()).await.ok();
        }
    }
}
