//! What one consumer holds of the broker's messages: those that wait to be handed out, and those that were. Knows nothing of
//! the network, so that its rules can be tested without one.
//!
//! A lane is the consumption of one queue. Each time its channel is opened begins a generation, and a tag counts only within
//! its generation: a delivery from before a reconnect finds nothing to acknowledge. (The broker delivers it again.)

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use crate::infra::queue::{Delivery, Receipt};

/// By what the broker knows a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::infra::queue) struct Tag {
    lane: usize,
    generation: u64,
    spot: Spot,
}

/// The broker's number of what a message came in, and its place in there.
type Spot = (u64, usize);

/// A message that waits to be handed out.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) key: String,
    pub(super) body: String,
    pub(super) attempts: u32,
    /// Unix seconds.
    pub(super) published: u64,
    /// When the broker handed it to us.
    pub(super) arrived: Instant,
    pub(super) cause: Option<String>,
}

/// An acknowledgement to be sent, `multiple` for everything up to the number.
#[derive(Debug)]
pub(super) struct Acknowledgement<C> {
    pub(super) channel: C,
    pub(super) number: u64,
    pub(super) multiple: bool,
}

/// What is known of a message that was handed out.
#[derive(Clone, Debug)]
pub(super) struct Out {
    pub(super) published: u64,
    pub(super) arrived: Instant,
    key: String,
    since: Instant,
}

#[derive(Debug)]
struct Lane<C> {
    /// The generation with its channel, while one is open.
    open: Option<(u64, C)>,
    /// By number, which is the broker's order: what came under it and waits, with its place in there.
    waiting: BTreeMap<u64, BTreeMap<usize, Held>>,
    /// Those of this generation that are handed out, or about to be refused. No acknowledgement may cover them.
    out: BTreeSet<Spot>,
    /// Those of them that nobody waits for any more.
    lost: BTreeSet<Spot>,
    /// Whether the broker has delivered anything to this generation.
    is_active: bool,
    /// Whether it hands nothing out any more, since its channel is to be closed.
    is_leaving: bool,
    /// Whether another consumer may have it instead.
    is_shared: bool,
    leave: Arc<Notify>,
}

/// All that one consumer holds. `C` is a channel.
#[derive(Debug)]
pub(super) struct Shelf<C> {
    lanes: Vec<Lane<C>>,
    out: HashMap<Tag, Out>,
    /// Keys that are being worked on, with the number of their deliveries.
    busy: HashMap<String, usize>,
    generations: u64,
    /// Lane that comes first next time.
    turn: usize,
}

impl<C> Default for Shelf<C> {
    fn default() -> Self {
        Self { lanes: Vec::new(), out: HashMap::new(), busy: HashMap::new(), generations: 0, turn: 0 }
    }
}

impl<C: Clone> Shelf<C> {
    /// Adds a lane; returns its number, and what tells it to close its channel.
    pub(super) fn add(&mut self, is_shared: bool) -> (usize, Arc<Notify>) {
        let leave = Arc::new(Notify::new());
        self.lanes.push(Lane {
            open: None,
            waiting: BTreeMap::new(),
            out: BTreeSet::new(),
            lost: BTreeSet::new(),
            is_active: false,
            is_leaving: false,
            is_shared,
            leave: Arc::clone(&leave),
        });
        (self.lanes.len() - 1, leave)
    }

    /// Begins a generation.
    pub(super) fn open(&mut self, lane: usize, channel: C) {
        self.close(lane);
        self.generations += 1;
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.open = Some((self.generations, channel));
        }
    }

    /// Ends the generation: the broker has everything of it back. What was handed out stays busy until it is settled, so
    /// that its second delivery is not worked on beside the first; but not what is lost, which may never be.
    pub(super) fn close(&mut self, at: usize) {
        let Some(lane) = self.lanes.get_mut(at) else { return };
        let (open, lost) = (lane.open.take(), std::mem::take(&mut lane.lost));
        if let Some((generation, _)) = open {
            for spot in lost {
                self.forget(Tag { lane: at, generation, spot });
            }
        }
        if let Some(lane) = self.lanes.get_mut(at) {
            lane.waiting.clear();
            lane.out.clear();
            (lane.is_active, lane.is_leaving) = (false, false);
        }
    }

    /// Takes in what came together under one number of the lane's open channel.
    pub(super) fn arrive(&mut self, lane: usize, number: u64, messages: Vec<Held>) {
        if let Some(lane) = self.lanes.get_mut(lane).filter(|lane| lane.open.is_some()) {
            lane.is_active = true;
            lane.waiting.insert(number, messages.into_iter().enumerate().collect());
        }
    }

    /// Notes a delivery that nobody is handed since it is to be refused: no acknowledgement may cover it until it is.
    pub(super) fn refuse(&mut self, lane: usize, number: u64) {
        if let Some(lane) = self.lanes.get_mut(lane).filter(|lane| lane.open.is_some()) {
            lane.is_active = true;
            lane.out.insert((number, 0));
        }
    }

    /// The broker was told that a delivery is refused.
    pub(super) fn refused(&mut self, lane: usize, number: u64) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.out.remove(&(number, 0));
            lane.nudge();
        }
    }

    /// Hands out messages, at most so many and about so many bytes: none whose key is being worked on already, and of one key
    /// only the first unless `has_series`. What came together goes out together, unless it is more than that: a consumer that
    /// ends after its batch then leaves nothing half-done behind, which would come again as a whole.
    pub(super) fn take(&mut self, limit: usize, bytes: usize, has_series: bool) -> Vec<Delivery> {
        let now = Instant::now();
        let (mut deliveries, mut sum) = (Vec::new(), 0);
        let mut skipped: HashSet<String> = HashSet::new();
        let (turn, count) = (self.turn, self.lanes.len());
        for at in (0..count).map(|step| (turn + step) % count) {
            let Some(lane) = self.lanes.get_mut(at).filter(|lane| !lane.is_leaving) else { continue };
            let Some(generation) = lane.open.as_ref().map(|(generation, _)| *generation) else { continue };
            let mut chosen: Vec<Spot> = Vec::new();
            for (number, together) in &lane.waiting {
                let keys = || together.values().map(|held| &held.key);
                if keys().any(|key| self.busy.contains_key(key) || skipped.contains(key)) {
                    skipped.extend(keys().cloned());
                    continue;
                }
                let taken = deliveries.len() + chosen.len();
                let size: usize = together.values().map(|held| held.body.len()).sum();
                if taken > 0 && (taken + together.len() > limit || sum + size > bytes) {
                    break;
                }
                sum += size;
                chosen.extend(together.keys().take(limit - taken).map(|place| (*number, *place)));
                if !has_series {
                    skipped.extend(keys().cloned());
                }
            }
            for spot in chosen {
                let Some(Held { key, body, attempts, published, arrived, cause }) = lane.take(spot) else { continue };
                let tag = Tag { lane: at, generation, spot };
                lane.out.insert(spot);
                self.out.insert(tag, Out { published, arrived, key: key.clone(), since: now });
                deliveries.push(Delivery { receipt: Receipt::Tag(tag), key, body, attempts, cause });
            }
            if deliveries.len() >= limit || sum > bytes {
                break;
            }
        }
        for delivery in &deliveries {
            *self.busy.entry(delivery.key.clone()).or_default() += 1;
        }
        self.turn = self.turn.wrapping_add(1) % count.max(1);
        deliveries
    }

    /// What is known of a delivery that is not settled yet and whose channel is still open.
    pub(super) fn find(&self, tag: Tag) -> Option<&Out> {
        self.lane_of(tag)?;
        self.out.get(&tag)
    }

    /// Ends deliveries, however they ended: returns what to tell the broker. It is to be told in the order in which this was
    /// called.
    pub(super) fn finish(&mut self, tags: &[Tag]) -> Vec<Acknowledgement<C>> {
        let mut done: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
        for tag in tags {
            let is_open = self.lane_of(*tag).is_some();
            if self.forget(*tag).is_some() && is_open {
                done.entry(tag.lane).or_default().insert(tag.spot.0);
            }
        }
        let mut acknowledgements = Vec::new();
        for (lane, mut numbers) in done {
            let Some(lane) = self.lanes.get(lane) else { continue };
            let Some((_, channel)) = &lane.open else { continue };
            // Of what came together the last one decides.
            numbers.retain(|number| !lane.holds(*number));
            // Up to the first that is not done, one acknowledgement is enough.
            let first =
                lane.waiting.keys().next().into_iter().chain(lane.out.first().map(|(number, _)| number)).min().copied();
            let acknowledgement = |number, multiple| Acknowledgement { channel: channel.clone(), number, multiple };
            let below = |number: &u64| first.is_none_or(|first| *number < first);
            let together = numbers.iter().copied().rfind(below);
            acknowledgements.extend(together.map(|number| acknowledgement(number, true)));
            acknowledgements.extend(numbers.into_iter().filter(|n| !below(n)).map(|n| acknowledgement(n, false)));
            lane.nudge();
        }
        acknowledgements
    }

    /// Takes a delivery back, to be handed out again in its place. The broker is not told: to it each return would be one of
    /// the few deliveries that a message has before it counts as poison, and an outage of the database returns messages
    /// again and again.
    pub(super) fn put_back(&mut self, delivery: Delivery) {
        let Receipt::Tag(tag) = delivery.receipt else { return };
        let is_open = self.lane_of(tag).is_some();
        let Some(Out { published, arrived, .. }) = self.forget(tag) else { return };
        let Some(lane) = self.lanes.get_mut(tag.lane).filter(|_| is_open) else { return };
        let Delivery { key, body, attempts, cause, .. } = delivery;
        let (number, place) = tag.spot;
        let held = Held { key, body, attempts, published, arrived, cause };
        lane.waiting.entry(number).or_default().insert(place, held);
        lane.nudge();
    }

    /// Whether there is something to hand out, as far as can be told cheaply.
    pub(super) fn has_waiting(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.waiting.is_empty())
    }

    /// Has every lane closed that handed out a delivery longer ago than this, which nobody has settled since: it is taken for
    /// lost. Until the lane is closed it may still be settled.
    pub(super) fn give_up(&mut self, hold: Duration) {
        let overdue: Vec<Tag> =
            self.out.iter().filter(|(_, out)| out.since.elapsed() > hold).map(|(tag, _)| *tag).collect();
        for tag in overdue {
            if self.lane_of(tag).is_none() {
                self.forget(tag);
            } else if self.lanes.get_mut(tag.lane).is_some_and(|lane| lane.lost.insert(tag.spot)) {
                self.leave(tag.lane);
            }
        }
    }

    /// Gives up one of its shared lanes if it is active on more than its share, which is rounded up unless somebody wants
    /// more; one at a time. Returns whether it is itself active on less than the share, rounded down.
    pub(super) fn balance(&mut self, consumers: usize, is_wanted: bool) -> bool {
        let shared = || self.lanes.iter().enumerate().filter(|(_, lane)| lane.is_shared);
        let active: Vec<usize> = shared().filter(|(_, lane)| lane.is_active).map(|(at, _)| at).collect();
        let (count, consumers) = (shared().count(), consumers.max(1));
        let least = count / consumers;
        let share = if is_wanted { least.max(1) } else { count.div_ceil(consumers) };
        if active.len() > share && !shared().any(|(_, lane)| lane.is_leaving) {
            let chosen = active.get(fastrand::usize(..active.len())).copied();
            if let Some(lane) = chosen {
                self.leave(lane);
            }
        }
        active.len() < least
    }

    fn leave(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.is_leaving = true;
            lane.leave.notify_one();
        }
    }

    /// Whether the lane's channel can be closed now: it is to be, and nobody works on anything of it.
    pub(super) fn may_leave(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(Lane::may_leave)
    }

    /// How many messages are held, and when the oldest was published, in Unix seconds.
    pub(super) fn census(&self) -> (usize, Option<u64>) {
        let waiting = self.lanes.iter().flat_map(|lane| lane.waiting.values()).flat_map(BTreeMap::values);
        let (mut count, mut oldest) = (0, None::<u64>);
        for published in waiting.map(|held| held.published).chain(self.out.values().map(|out| out.published)) {
            count += 1;
            oldest = Some(oldest.map_or(published, |oldest| oldest.min(published)));
        }
        (count, oldest)
    }

    /// The lane of a tag, if its generation is the open one.
    fn lane_of(&self, tag: Tag) -> Option<&Lane<C>> {
        let lane = self.lanes.get(tag.lane)?;
        lane.open.as_ref().is_some_and(|(generation, _)| *generation == tag.generation).then_some(lane)
    }

    /// Removes a delivery from what is out; none if it was settled already.
    fn forget(&mut self, tag: Tag) -> Option<Out> {
        let is_open = self.lane_of(tag).is_some();
        let out = self.out.remove(&tag)?;
        if let Some(count) = self.busy.get_mut(&out.key) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(&out.key);
            }
        }
        if is_open && let Some(lane) = self.lanes.get_mut(tag.lane) {
            lane.out.remove(&tag.spot);
            lane.lost.remove(&tag.spot);
        }
        Some(out)
    }
}

impl<C> Lane<C> {
    fn take(&mut self, (number, place): Spot) -> Option<Held> {
        let together = self.waiting.get_mut(&number)?;
        let held = together.remove(&place);
        if together.is_empty() {
            self.waiting.remove(&number);
        }
        held
    }

    fn may_leave(&self) -> bool {
        self.is_leaving && self.out.len() == self.lost.len()
    }

    /// Has the lane look whether it may leave.
    fn nudge(&self) {
        if self.may_leave() {
            self.leave.notify_one();
        }
    }

    /// Whether anything that came under this number is not done.
    fn holds(&self, number: u64) -> bool {
        let is_out = self.out.range((number, 0)..=(number, usize::MAX)).next().is_some();
        is_out || self.waiting.contains_key(&number)
    }
}

#[cfg(test)]
mod tests;
