//! Stage 8: the only one that writes. One transaction takes ledger, projections, counts, change log and parked messages.
//!
//! The projections are functions of the ledger: an event is what its newest record says, an answer is the newest of a
//! person's records for that event, a count is the number of shown answers. So the stage first brings the ledger up to
//! date ([`ledger`]) and then projects again whatever depends on what changed ([`events`], [`answers`]); no order of
//! arrival can leave a trace.
//!
//! Batches are written beside each other as far as they are about different accounts and events ([`locks`]).

mod answers;
mod claims;
mod events;
mod items;
mod ledger;
mod locks;
mod touched;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use sea_orm::DatabaseTransaction;

pub use self::locks::{LOCK, hold_account};
use self::{items::Items, ledger::Ledger, locks::Locks, touched::Touched};
use super::{
    parked::{Parked, Stage, park},
    s4_map::{Mapped, RecordChange},
    s5_dedupe::{Deduped, Novelty},
    s7_validate::Validated,
};
use crate::{
    app::App,
    domain::{
        account::{
            identity::{self, Standing},
            shadow,
        },
        source::{Draft, bluesky},
        tenant::Tenant,
    },
    error::Result,
};

/// Metric label of what was known before the transaction began.
const KNOWN: &str = "known";

/// What a message did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It changed something; whether of a record that was not held, or only as deleted.
    Applied {
        is_new: bool,
    },
    Unchanged,
    Parked(Parked),
}

/// What a batch did.
#[derive(Debug, Default)]
pub(super) struct Persisted {
    /// For each message.
    pub(super) effects: Vec<Effect>,
    /// Rows in the change log.
    pub(super) changes: u64,
    /// Shadow accounts made.
    pub(super) shadows: u64,
    /// How often which judgement was passed.
    pub(super) novelties: BTreeMap<&'static str, u64>,
    /// How often an event was known already, by how that was found.
    pub(super) matches: BTreeMap<&'static str, u64>,
    /// What became of how many answers.
    pub(super) answers: BTreeMap<&'static str, u64>,
}

impl Persisted {
    /// Takes in what a part of the batch did, and its effects at their places.
    fn add(&mut self, part: Self, places: &[usize]) {
        for (effect, place) in part.effects.into_iter().zip(places) {
            if let Some(slot) = self.effects.get_mut(*place) {
                *slot = effect;
            }
        }
        self.changes += part.changes;
        self.shadows += part.shadows;
        let counts = [
            (&mut self.novelties, part.novelties),
            (&mut self.matches, part.matches),
            (&mut self.answers, part.answers),
        ];
        for (sum, counted) in counts {
            for (label, count) in counted {
                *sum.entry(label).or_default() += count;
            }
        }
    }
}

/// Writes a batch, in parts by tenant, in one transaction.
pub(super) async fn persist(app: &App, bodies: &[String], parts: Vec<Validated>) -> Result<Persisted> {
    let known = Persisted {
        effects: vec![Effect::Unchanged; bodies.len()],
        novelties: BTreeMap::from([(KNOWN, bodies.len() as u64)]),
        ..Persisted::default()
    };
    if parts.iter().flat_map(|part| &part.messages).all(|message| matches!(message, Deduped::Known)) {
        return Ok(known);
    }
    let parts = &parts;
    app.db.transact(|tx| async move { run(&tx, app, bodies, parts).await }).await
}

async fn run(tx: &DatabaseTransaction, app: &App, bodies: &[String], parts: &[Validated]) -> Result<Persisted> {
    let locks = Locks::take(tx, app, parts).await?;
    // Asked under the lock: what is written later of an account is dated later.
    let now = app.clock.now();
    let mut persisted = Persisted { effects: vec![Effect::Unchanged; bodies.len()], ..Persisted::default() };
    for part in parts {
        let mut work = Work::begin(tx, part, (now, app.config.ingest.max_record_bytes)).await?;
        work.persisted.effects = part.messages.iter().map(|message| work.take(message)).collect();
        work.write(tx, locks).await?;
        persisted.add(work.persisted, &part.places);
    }
    let refused: Vec<(&String, &Parked)> = bodies
        .iter()
        .zip(&persisted.effects)
        .filter_map(|(body, effect)| if let Effect::Parked(parked) = effect { Some((body, parked)) } else { None })
        .collect();
    park(tx, now, &refused).await?;
    Ok(persisted)
}

/// The part of a batch that goes to one tenant, on its way into the tables.
struct Work {
    tenant: Tenant,
    now: DateTime<Utc>,
    /// Bytes that a record may have.
    limit: usize,
    /// How the accounts stand, those of the batch and those found on the way.
    standings: HashMap<String, Standing>,
    /// Accounts about which a host said something new.
    changed_standings: BTreeSet<String>,
    /// Accounts that went from active to inactive or back.
    flipped: BTreeSet<String>,
    /// Accounts that the directory is to be asked about.
    ask: BTreeSet<String>,
    ledger: Ledger,
    items: Items,
    /// `user.id` by DID, of those that were looked up so far; `None` for those without an account.
    users: HashMap<String, Option<i64>>,
    touched: Touched,
    persisted: Persisted,
}

impl Work {
    async fn begin(tx: &DatabaseTransaction, batch: &Validated, (now, limit): (DateTime<Utc>, usize)) -> Result<Self> {
        let mut authors = BTreeSet::new();
        let mut uris = Vec::new();
        let mut claims = Vec::new();
        for message in &batch.messages {
            let Deduped::Candidate(mapped) = message else { continue };
            match mapped {
                Mapped::Record(change) => {
                    authors.insert(change.did.clone());
                    uris.push(change.uri.as_str());
                }
                Mapped::Claim(claim) => {
                    if claim.is_of_account() {
                        authors.insert(claim.author.clone());
                    }
                    uris.push(claim.uri.as_str());
                    claims.push(&**claim);
                }
                Mapped::Account(account) => {
                    authors.insert(account.did.clone());
                }
                Mapped::Identity { did } => {
                    authors.insert(did.clone());
                }
                Mapped::Profile { .. } | Mapped::Nothing => {}
            }
        }
        let authors: Vec<String> = authors.into_iter().collect();
        let mut standings = identity::standings(tx, authors.clone()).await?;
        let new: Vec<String> = authors.into_iter().filter(|did| !standings.contains_key(did)).collect();
        identity::note(tx, &new, now).await?;
        standings.extend(new.into_iter().map(|did| (did, Standing::default())));
        let mut ledger = Ledger::load(tx, uris.into_iter(), now).await?;
        claims::find_unnamed(tx, &batch.messages, &mut ledger).await?;
        let items = Items::load(tx, batch.tenant, &claims, &mut ledger).await?;
        Ok(Self {
            tenant: batch.tenant,
            now,
            limit,
            standings,
            changed_standings: BTreeSet::new(),
            flipped: BTreeSet::new(),
            ask: BTreeSet::new(),
            ledger,
            items,
            users: HashMap::new(),
            touched: Touched::default(),
            persisted: Persisted::default(),
        })
    }

    /// Decides about one message; nothing is written yet.
    fn take(&mut self, message: &Deduped) -> Effect {
        let mapped = match message {
            Deduped::Known => {
                *self.persisted.novelties.entry(KNOWN).or_default() += 1;
                return Effect::Unchanged;
            }
            Deduped::Refused(parked) => return Effect::Parked(parked.clone()),
            Deduped::Candidate(mapped) => mapped,
        };
        match mapped {
            Mapped::Nothing => Effect::Unchanged,
            Mapped::Identity { did } => {
                self.ask.insert(did.clone());
                Effect::Applied { is_new: false }
            }
            Mapped::Profile { did } => {
                self.ask.insert(did.clone());
                Effect::Unchanged
            }
            Mapped::Account(account) => {
                // A new status may mean a new host; and even a word that comes too late may be right.
                self.ask.insert(account.did.clone());
                let standing = self.standings.entry(account.did.clone()).or_default();
                let was_active = standing.is_active();
                if !standing.take(account.status, account.at) {
                    return Effect::Unchanged;
                }
                // Twice flipped is not flipped.
                if was_active != standing.is_active() && !self.flipped.remove(&account.did) {
                    self.flipped.insert(account.did.clone());
                }
                self.changed_standings.insert(account.did.clone());
                Effect::Applied { is_new: false }
            }
            Mapped::Record(change) => self.take_record(change),
            Mapped::Claim(claim) => self.take_claim(claim),
        }
    }

    fn take_record(&mut self, change: &RecordChange) -> Effect {
        if self.standings.get(&change.did).is_some_and(|standing| standing.is_purged(&change.rev)) {
            *self.persisted.novelties.entry("purged").or_default() += 1;
            return Effect::Unchanged;
        }
        let novelty: Novelty = self.ledger.judge(change);
        *self.persisted.novelties.entry(novelty.as_str()).or_default() += 1;
        let refusal = change.version.as_ref().and_then(|version| version.reading.draft.as_ref().err());
        if !novelty.is_news() {
            // As when it is judged early.
            return match refusal.filter(|_| novelty == Novelty::Unreadable) {
                Some(refusal) => Effect::Parked(Parked::at(Stage::Map, refusal.code, refusal.why.clone())),
                None => Effect::Unchanged,
            };
        }
        if novelty != Novelty::New && is_event(&change.collection) {
            *self.persisted.matches.entry("at_uri").or_default() += 1;
        }
        let is_new = !self.ledger.lives(&change.uri);
        let is_answer = change.collection == bluesky::RSVP;
        let answered = self.ledger.answered(&change.uri).filter(|_| is_answer).map(str::to_owned);
        self.ledger.take(change);
        if let Some(event) = answered.filter(|event| subject_of(change) != Some(event)) {
            self.retire_unnamed(change, &event);
        }
        match refusal {
            // What it says is known; and what cannot be read was parked when it came for the first time.
            _ if novelty == Novelty::Echo => Effect::Unchanged,
            Some(refusal) => Effect::Parked(Parked::at(Stage::Map, refusal.code, refusal.why.clone())),
            None => Effect::Applied { is_new },
        }
    }

    async fn write(&mut self, tx: &DatabaseTransaction, locks: Locks) -> Result<()> {
        for did in &self.changed_standings {
            let Some(standing) = self.standings.get(did) else { continue };
            identity::save(tx, did, standing, self.now).await?;
            if let Some(rev) = standing.purged_rev() {
                self.ledger.purge(tx, did, rev).await?;
            }
        }
        if !self.ask.is_empty() {
            identity::ask_again(tx, self.ask.iter().cloned().collect(), self.now).await?;
        }
        self.ledger.write(tx).await?;
        self.flip(tx).await?;
        // Nobody else knows of those that are new.
        self.project_events(tx, false).await?;
        locks.take_events(tx, self.ledger.concerned()).await?;
        // Whoever was waited for may have made accounts of people whose answers came before the event.
        self.users.retain(|_, user| user.is_some());
        self.project_events(tx, true).await?;
        self.project_items(tx).await?;
        self.project_answers(tx).await?;
        self.persisted.changes = self.touched.write(tx, self.now).await?;
        self.write_elsewhere(tx).await
    }

    /// What a host says of an account holds in every tenant that the person has answered in.
    async fn write_elsewhere(&mut self, tx: &DatabaseTransaction) -> Result<()> {
        if self.changed_standings.is_empty() {
            return Ok(());
        }
        let dids = self.changed_standings.iter().cloned().collect();
        for tenant in Tenant::others_with(tx, self.tenant, dids).await? {
            self.tenant = tenant;
            self.users.clear();
            self.touched = Touched::default();
            self.flip(tx).await?;
            self.project_answers(tx).await?;
            self.persisted.changes += self.touched.write(tx, self.now).await?;
        }
        Ok(())
    }

    fn is_active(&self, did: &str) -> bool {
        self.standings.get(did).is_none_or(Standing::is_active)
    }

    fn user(&self, did: &str) -> Option<i64> {
        self.users.get(did).copied().flatten()
    }

    /// Looks up the accounts of those people that were not looked up before.
    async fn meet<'a>(&mut self, tx: &DatabaseTransaction, dids: impl IntoIterator<Item = &'a String>) -> Result<()> {
        let new: BTreeSet<&String> = dids.into_iter().filter(|did| !self.users.contains_key(*did)).collect();
        let new: Vec<String> = new.into_iter().cloned().collect();
        let found = shadow::find(tx, self.tenant, new.clone()).await?;
        self.users.extend(new.into_iter().map(|did| {
            let id = found.get(&did).copied();
            (did, id)
        }));
        Ok(())
    }

    /// Sees to it that these authors have an account.
    async fn join(&mut self, tx: &DatabaseTransaction, dids: &BTreeSet<String>) -> Result<()> {
        self.meet(tx, dids).await?;
        let new = dids.iter().filter(|did| self.user(did).is_none()).cloned().collect();
        let accounts = shadow::create(tx, self.tenant, new, self.now).await?;
        self.persisted.shadows += accounts.created;
        self.users.extend(accounts.ids.into_iter().map(|(did, id)| (did, Some(id))));
        Ok(())
    }

    /// Learns how more accounts stand.
    async fn learn(&mut self, tx: &DatabaseTransaction, dids: &BTreeSet<String>) -> Result<()> {
        let new: Vec<String> = dids.iter().filter(|did| !self.standings.contains_key(*did)).cloned().collect();
        if !new.is_empty() {
            self.standings.extend(identity::standings(tx, new).await?);
        }
        Ok(())
    }
}

/// The event that a change's record answers.
fn subject_of(change: &RecordChange) -> Option<&str> {
    match change.version.as_ref().map(|version| &version.reading.draft) {
        Some(Ok(Draft::Rsvp(rsvp))) => Some(&rsvp.event_uri),
        _ => None,
    }
}

fn is_event(collection: &str) -> bool {
    collection == bluesky::EVENT
}
