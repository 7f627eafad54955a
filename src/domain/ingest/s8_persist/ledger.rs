//! The ledger's part of the stage: which records are new, and what depends on them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use entities::{location::Texts, sets::Verdict, source_record as record};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
    sea_query::Expr,
};

use super::{is_event, subject_of};
use crate::{
    domain::{
        ingest::{
            s4_map::RecordChange,
            s5_dedupe::{Held, Novelty, find_held, judge},
        },
        source::{Draft, EventDraft},
    },
    error::Result,
    infra::db::{among, insert, replace},
};

/// The rows that a batch looks at and the changes it makes to them.
pub(super) struct Ledger {
    now: DateTime<Utc>,
    held: HashMap<String, Held>,
    /// Which of the records the table held before the batch.
    present: HashSet<String>,
    /// Whole rows, of those that claims look at, as they were before the batch.
    stored: HashMap<String, record::Model>,
    /// New content of rows; the last change of a record stands.
    rows: BTreeMap<String, record::Model>,
    /// What became of the events whose record changed: the draft, or nothing to show.
    events: BTreeMap<String, Option<Arc<EventDraft>>>,
    /// People whose answer to an event has to be found again: (event's URI, DID).
    answers: BTreeSet<(String, String)>,
}

impl Ledger {
    pub(super) async fn load<'a>(
        tx: &impl ConnectionTrait,
        uris: impl Iterator<Item = &'a str>,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let held = find_held(tx, uris).await?;
        let present = held.keys().cloned().collect();
        let stored = HashMap::new();
        Ok(Self {
            now,
            held,
            present,
            stored,
            rows: BTreeMap::new(),
            events: BTreeMap::new(),
            answers: BTreeSet::new(),
        })
    }

    /// Looks at further records.
    pub(super) async fn look_up(&mut self, tx: &impl ConnectionTrait, uris: &[String]) -> Result<()> {
        let held = find_held(tx, uris.iter().map(String::as_str)).await?;
        self.present.extend(held.keys().cloned());
        self.held.extend(held);
        Ok(())
    }

    /// Reads whole rows, for [`current`](Self::current).
    pub(super) async fn fetch(&mut self, tx: &impl ConnectionTrait, uris: Vec<String>) -> Result<()> {
        if uris.is_empty() {
            return Ok(());
        }
        let these = among(tx.get_database_backend(), record::Column::Uri, uris);
        let rows = record::Entity::find().filter(these).all(tx).await?;
        self.stored.extend(rows.into_iter().map(|row| (row.uri.clone(), row)));
        Ok(())
    }

    /// A row as it is now, after what this batch did; only of those that were [fetched](Self::fetch) or written.
    pub(super) fn current(&self, uri: &str) -> Option<&record::Model> {
        self.rows.get(uri).or_else(|| self.stored.get(uri))
    }

    /// The answer of this person to this event has to be found again.
    pub(super) fn find_answer_again(&mut self, event_uri: String, did: String) {
        self.answers.insert((event_uri, did));
    }

    pub(super) fn judge(&self, change: &RecordChange) -> Novelty {
        judge(change, self.held.get(&change.uri))
    }

    /// Whether a record is held that was not deleted.
    pub(super) fn lives(&self, uri: &str) -> bool {
        self.held.get(uri).is_some_and(|held| held.deleted_at.is_none())
    }

    /// The revision of a record that is held and was not deleted.
    pub(super) fn living_rev(&self, uri: &str) -> Option<&str> {
        self.held.get(uri).filter(|held| held.deleted_at.is_none()).map(|held| held.rev.as_str())
    }

    /// The event that a record answers, as far as that is held.
    pub(super) fn answered(&self, uri: &str) -> Option<&str> {
        self.held.get(uri)?.subject_uri.as_deref()
    }

    /// Takes a change that is news.
    pub(super) fn take(&mut self, change: &RecordChange) {
        let before = self.held.get(&change.uri).and_then(|held| held.subject_uri.clone());
        let subject = subject_of(change).map(str::to_owned);
        let version = change.version.as_ref();
        let row = record::Model {
            uri: change.uri.clone(),
            did: change.did.clone(),
            collection: change.collection.clone(),
            rkey: change.rkey.clone(),
            rev: change.rev.clone(),
            cid: version.and_then(|version| version.cid.clone()),
            record: version.map(|version| version.record.clone()),
            subject_uri: subject.clone(),
            verdict: version.map_or(Verdict::Valid, |version| version.reading.verdict),
            issues: Texts(version.map_or_else(Vec::new, |version| {
                version.reading.issues.iter().map(|issue| (*issue).to_owned()).collect()
            })),
            deleted_at: version.is_none().then_some(change.occurred_at),
            occurred_at: change.occurred_at,
            ingested_at: self.now,
        };
        if is_event(&change.collection) {
            let draft = match version.map(|version| &version.reading.draft) {
                Some(Ok(Draft::Event(draft))) => Some(Arc::clone(draft)),
                _ => None,
            };
            self.events.insert(change.uri.clone(), draft);
        } else {
            for subject in before.into_iter().chain(subject) {
                self.answers.insert((subject, change.did.clone()));
            }
        }
        self.put(row);
    }

    /// Makes tombstones of everything that a deleted account had written up to `rev`, in the table and in this batch.
    pub(super) async fn purge(&mut self, tx: &impl ConnectionTrait, did: &str, rev: &str) -> Result<()> {
        // Compared here, since a database may have an order of letters of its own; and without the records themselves,
        // since there may be many.
        let stored: Vec<(String, String, String, Option<String>)> = record::Entity::find()
            .select_only()
            .columns([record::Column::Uri, record::Column::Rev, record::Column::Collection, record::Column::SubjectUri])
            .filter(record::Column::Did.eq(did))
            .filter(record::Column::DeletedAt.is_null())
            .into_tuple()
            .all(tx)
            .await?;
        let mut gone = Vec::new();
        for (uri, row_rev, collection, subject) in stored {
            if *row_rev <= *rev && !self.rows.contains_key(&uri) {
                self.forget(&uri, did, &collection, subject);
                self.present.insert(uri.clone());
                gone.push(uri);
            }
        }
        record::Entity::update_many()
            .col_expr(record::Column::Cid, Expr::value(Option::<String>::None))
            .col_expr(record::Column::Record, Expr::value(Option::<String>::None))
            .col_expr(record::Column::SubjectUri, Expr::value(Option::<String>::None))
            .col_expr(record::Column::Verdict, Expr::value(Verdict::Valid.as_str()))
            .col_expr(record::Column::Issues, Expr::value(Texts::default()))
            .col_expr(record::Column::DeletedAt, Expr::value(self.now))
            .col_expr(record::Column::IngestedAt, Expr::value(self.now))
            .filter(among(tx.get_database_backend(), record::Column::Uri, gone))
            .exec(tx)
            .await?;
        let pending: Vec<record::Model> = self
            .rows
            .values()
            .filter(|row| row.did == did && *row.rev <= *rev && row.deleted_at.is_none())
            .cloned()
            .collect();
        for mut row in pending {
            self.forget(&row.uri, did, &row.collection, row.subject_uri.take());
            row.cid = None;
            row.record = None;
            row.verdict = Verdict::Valid;
            row.issues = Texts::default();
            row.deleted_at = Some(self.now);
            row.ingested_at = self.now;
            self.put(row);
        }
        Ok(())
    }

    /// Whatever was projected from a record has to go.
    fn forget(&mut self, uri: &str, did: &str, collection: &str, subject: Option<String>) {
        if is_event(collection) {
            self.events.insert(uri.to_owned(), None);
        }
        if let Some(subject) = subject {
            self.answers.insert((subject, did.to_owned()));
        }
    }

    pub(super) async fn write(&self, tx: &impl ConnectionTrait) -> Result<()> {
        let rows = self.rows.values().map(|row| row.clone().into_active_model().reset_all());
        // What is known to be new is cheaper to insert; should somebody be quicker in spite of the lock, the transaction
        // runs again.
        let (known, new) = rows.partition(|row| self.is_stored(row.uri.as_ref()));
        insert(tx, new, None).await?;
        let columns = [
            record::Column::Rev,
            record::Column::Cid,
            record::Column::Record,
            record::Column::SubjectUri,
            record::Column::Verdict,
            record::Column::Issues,
            record::Column::DeletedAt,
            record::Column::OccurredAt,
            record::Column::IngestedAt,
        ];
        replace(tx, known, &[record::Column::Uri], &columns).await
    }

    /// Whether the table held this record before the batch: if not, nothing has been projected from it either.
    pub(super) fn is_stored(&self, uri: &str) -> bool {
        self.present.contains(uri)
    }

    /// The events to project again: URI and draft.
    pub(super) fn events(&self) -> &BTreeMap<String, Option<Arc<EventDraft>>> {
        &self.events
    }

    /// The answers to find again: (event's URI, DID).
    pub(super) fn answers(&self) -> &BTreeSet<(String, String)> {
        &self.answers
    }

    /// URIs of all these events, and of those that are or were answered.
    pub(super) fn concerned(&self) -> BTreeSet<&String> {
        self.events.keys().chain(self.answers.iter().map(|(subject, _)| subject)).collect()
    }

    /// The new content of a row.
    pub(super) fn row(&self, uri: &str) -> Option<&record::Model> {
        self.rows.get(uri)
    }

    fn put(&mut self, row: record::Model) {
        let held = Held {
            uri: row.uri.clone(),
            rev: row.rev.clone(),
            cid: row.cid.clone(),
            subject_uri: row.subject_uri.clone(),
            verdict: row.verdict,
            deleted_at: row.deleted_at,
        };
        self.held.insert(row.uri.clone(), held);
        self.rows.insert(row.uri.clone(), row);
    }
}
