//! Events that programs bring: which of their records tell of one event, and what it says.
//!
//! Several records may tell of one event, since sources change their identifiers and sites list an event twice. The event
//! keeps the URI of the first of them and says what the newest living one says; it goes with the last. A record that is a copy of
//! an event of the network changes nothing: there the author's own record speaks, and people's own records answer it. Answers to
//! the copy stay with the copy, since whoever brings them need not be allowed to speak of the network.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use entities::{
    event_source as name,
    sets::{MatchMethod, SourceType},
    source_record as record,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{Work, ledger::Ledger};
use crate::{
    domain::{
        account::shadow,
        event::write as event,
        ingest::{
            s4_map::{Claimed, Content},
            s7_validate::settle_event,
        },
        source::{
            Draft, EventDraft, Kind, Source,
            web::{self, Likeness, Shelf},
        },
        tenant::Tenant,
    },
    error::Result,
    infra::db::{among, insert},
};

/// Which event a record tells of.
pub(super) struct Place {
    pub(super) event_uri: String,
    method: MatchMethod,
}

/// A living record, as a row of the table says it.
struct Name {
    event_uri: String,
    method: MatchMethod,
    page: Option<String>,
    fingerprint: Option<String>,
}

impl From<name::Model> for Name {
    fn from(row: name::Model) -> Self {
        let name::Model { event_uri, method, page, fingerprint, .. } = row;
        Self { event_uri, method, page, fingerprint }
    }
}

/// What a batch is about, as far as programs brought it, and what it does to it.
#[derive(Default)]
pub(super) struct Items {
    /// Living records of events, by URI.
    names: BTreeMap<String, Name>,
    /// Events of the network that records may be copies of: the organiser's DID by AT-URI.
    network: HashMap<String, String>,
    /// Records whose row is new or gone.
    changed: BTreeSet<String>,
    /// Events to project again.
    touched: BTreeSet<String>,
    /// Answers that go from one event to another, when they came to this shelf.
    moved: Vec<(String, String, Shelf)>,
}

impl Items {
    /// Reads what the claims may be about; nothing where there are none.
    pub(super) async fn load(
        tx: &DatabaseTransaction,
        tenant: Tenant,
        claims: &[&Claimed],
        ledger: &mut Ledger,
    ) -> Result<Self> {
        ledger.fetch(tx, claims.iter().map(|claim| claim.uri.clone()).collect()).await?;
        let mut items = Self::default();
        let (mut uris, mut pages, mut fingerprints, mut copied) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for claim in claims {
            let (Source::Web(shelf), Content::Fields(fields)) = (claim.source, &claim.content) else { continue };
            match claim.source.read(fields).draft {
                Ok(Draft::Event(draft)) => {
                    let likeness = Likeness::of(shelf, &draft);
                    pages.extend(likeness.page);
                    fingerprints.extend(likeness.fingerprint);
                    copied.extend(web::copied(fields).into_iter().flat_map(|(_, links)| links));
                }
                Ok(Draft::Rsvp(draft)) => uris.push(draft.event_uri),
                Err(_) => {}
            }
        }
        let is_event = |claim: &&&Claimed| matches!(claim.source, Source::Web(Shelf { kind: Kind::Event, .. }));
        let events: Vec<String> = claims.iter().filter(is_event).map(|claim| claim.uri.clone()).collect();
        uris.extend(events.iter().cloned());
        items.learn(tx, name::Column::Uri, uris).await?;
        items.learn(tx, name::Column::EventUri, events).await?;
        items.learn(tx, name::Column::Page, pages).await?;
        items.learn(tx, name::Column::Fingerprint, fingerprints).await?;
        let known: BTreeSet<String> = items.names.values().map(|name| name.event_uri.clone()).collect();
        items.learn(tx, name::Column::EventUri, known.iter().cloned().collect()).await?;
        copied.extend(known.into_iter().filter(|uri| is_of_network(uri)));
        let network = event::by_uri(tx, tenant, copied).await?;
        items.network = network.into_iter().filter_map(|(uri, event)| Some((uri, event.source_id?))).collect();
        ledger.fetch(tx, items.names.keys().cloned().collect()).await?;
        Ok(items)
    }

    async fn learn(&mut self, tx: &impl ConnectionTrait, column: name::Column, values: Vec<String>) -> Result<()> {
        if values.is_empty() {
            return Ok(());
        }
        let rows = name::Entity::find().filter(among(tx.get_database_backend(), column, values)).all(tx).await?;
        self.names.extend(rows.into_iter().map(|row| (row.uri.clone(), row.into())));
        Ok(())
    }

    /// Which event a record is about, by the first of: its identifier, its page, an event of the network that it is a copy of,
    /// its likeness. Otherwise it is a new one.
    pub(super) fn place(&self, at: Shelf, claim: &Claimed, fields: &str) -> Place {
        let of = |name: &Name, method| Place { event_uri: name.event_uri.clone(), method };
        if let Some(name) = self.names.get(&claim.uri).filter(|name| self.is_there(name)) {
            return of(name, name.method);
        }
        let own = Place { event_uri: claim.uri.clone(), method: MatchMethod::SourceId };
        let is_first = self.names.values().any(|name| name.event_uri == claim.uri);
        let Ok(Draft::Event(draft)) = claim.source.read(fields).draft else { return own };
        if is_first {
            return own;
        }
        let likeness = Likeness::of(at, &draft);
        let mut others = self.names.values().filter(|name| self.is_there(name));
        if let Some(name) = others.clone().find(|name| name.page.is_some() && name.page == likeness.page) {
            return of(name, MatchMethod::SourceUrl);
        }
        if let Some((did, links)) = web::copied(fields)
            && let Some(event_uri) = links.into_iter().find(|link| self.network.get(link) == Some(&did))
        {
            return Place { event_uri, method: MatchMethod::LinkBack };
        }
        others
            .find(|name| name.fingerprint.is_some() && name.fingerprint == likeness.fingerprint)
            .map_or(own, |name| of(name, MatchMethod::Fingerprint))
    }

    /// Whether its event is: one of the network may have gone.
    fn is_there(&self, name: &Name) -> bool {
        !is_of_network(&name.event_uri) || self.network.contains_key(&name.event_uri)
    }

    /// Notes that a record, which the ledger has taken, tells of this event. Returns how it was found to be one that was known,
    /// as a metric label; nothing for a new one.
    pub(super) fn attach(&mut self, uri: &str, at: Shelf, draft: &EventDraft, place: Place) -> Option<&'static str> {
        let Place { event_uri, method } = place;
        let Likeness { page, fingerprint } = Likeness::of(at, draft);
        let before = self.names.get(uri).map(|name| name.event_uri.clone());
        let is_known = before.is_some() || self.names.values().any(|name| name.event_uri == event_uri);
        // Beside one of the network they have stayed with the record.
        let from = before.as_deref().filter(|before| !is_of_network(before)).unwrap_or(uri);
        if from != event_uri && !is_of_network(&event_uri) {
            self.moved.push((from.to_owned(), event_uri.clone(), Shelf { kind: Kind::Rsvp, ..at }));
        }
        self.touched.extend(before.iter().chain([&event_uri]).filter(|uri| !is_of_network(uri)).cloned());
        let is_same = before.as_ref() == Some(&event_uri);
        let found = if is_same { MatchMethod::SourceId } else { method };
        let label = (is_known || found != MatchMethod::SourceId).then_some(found.as_str());
        let name = Name { event_uri, method, page, fingerprint };
        self.changed.insert(uri.to_owned());
        self.names.insert(uri.to_owned(), name);
        label
    }

    /// A record is gone.
    pub(super) fn forget(&mut self, uri: &str) {
        if let Some(name) = self.names.remove(uri) {
            self.touched.extend(Some(name.event_uri).filter(|uri| !is_of_network(uri)));
            self.changed.insert(uri.to_owned());
        }
    }

    /// Puts the event that a record tells of in the place of the record, unless it is one of the network.
    pub(super) fn resolve(&self, uri: &mut String) {
        if let Some(name) = self.names.get(uri).filter(|name| !is_of_network(&name.event_uri)) {
            uri.clone_from(&name.event_uri);
        }
    }

    /// The newest living record that tells of an event. Two of one time are told apart by their URI.
    pub(super) fn newest<'a>(&self, event_uri: &str, ledger: &'a Ledger) -> Option<&'a record::Model> {
        let tell = self.names.iter().filter(|(_, name)| name.event_uri == event_uri);
        let living = tell.filter_map(|(uri, _)| ledger.current(uri)).filter(|row| row.deleted_at.is_none());
        living.max_by_key(|row| (row.rev.as_str(), row.uri.as_str()))
    }

    async fn write(&self, tx: &impl ConnectionTrait, tenant: Tenant, now: DateTime<Utc>) -> Result<()> {
        let (written, gone): (Vec<&String>, Vec<&String>) =
            self.changed.iter().partition(|uri| self.names.contains_key(*uri));
        let rows = written.into_iter().filter_map(|uri| Some((uri, self.names.get(uri)?)));
        let rows = rows.map(|(uri, name)| name::ActiveModel {
            uri: Set(uri.clone()),
            tenant_id: Set(tenant.id()),
            event_uri: Set(name.event_uri.clone()),
            method: Set(name.method),
            page: Set(name.page.clone()),
            fingerprint: Set(name.fingerprint.clone()),
            matched_at: Set(now),
        });
        let rows = rows.collect();
        let replace = OnConflict::column(name::Column::Uri)
            .update_columns([
                name::Column::EventUri,
                name::Column::Method,
                name::Column::Page,
                name::Column::Fingerprint,
                name::Column::MatchedAt,
            ])
            .to_owned();
        insert(tx, rows, Some(replace)).await?;
        if !gone.is_empty() {
            let gone = gone.into_iter().cloned().collect();
            name::Entity::delete_many()
                .filter(among(tx.get_database_backend(), name::Column::Uri, gone))
                .exec(tx)
                .await?;
        }
        Ok(())
    }
}

impl Work {
    /// Projects the events again whose records changed.
    pub(super) async fn project_items(&mut self, tx: &DatabaseTransaction) -> Result<()> {
        if self.items.changed.is_empty() {
            return Ok(());
        }
        self.items.write(tx, self.tenant, self.now).await?;
        self.move_answers(tx).await?;
        let touched: Vec<String> = self.items.touched.iter().cloned().collect();
        let mut held = event::by_uri(tx, self.tenant, touched.clone()).await?;
        let mut says = Vec::new();
        let mut removed = Vec::new();
        let mut sites: BTreeMap<SourceType, BTreeSet<String>> = BTreeMap::new();
        for uri in touched {
            let before = held.remove(&uri);
            let newest = self.items.newest(&uri, &self.ledger).cloned();
            let Some((row, source, draft)) = newest.and_then(read) else {
                removed.extend(before);
                continue;
            };
            let site = web::site(source, draft.page.as_deref());
            sites.entry(source).or_default().insert(site.clone());
            says.push((uri, before, row, draft, (source, site)));
        }
        let mut users = HashMap::new();
        for (source, names) in sites {
            let accounts = shadow::of_sites(tx, self.tenant, source, names.into_iter().collect(), self.now).await?;
            self.persisted.shadows += accounts.created;
            users.extend(accounts.ids.into_iter().map(|(name, id)| ((source, name), id)));
        }
        let mut written = Vec::new();
        for (uri, before, row, draft, author) in says {
            let Some(user_id) = users.get(&author).copied() else { continue };
            let origin = event::Origin {
                tenant: self.tenant,
                user_id,
                source: author.0,
                source_id: &row.rkey,
                uri: &uri,
                cid: None,
                rev: &row.rev,
                is_hidden: false,
            };
            let mut after = event::project(&draft, &origin, before.as_ref(), self.now);
            if let Some(before) = &before
                && event::changed_fields(before, &after).is_empty()
            {
                after.updated_at = before.updated_at;
            }
            written.push((before, (after, row.occurred_at)));
        }
        self.put_events(tx, written, removed).await
    }

    /// Answers follow the record that they named to its event.
    async fn move_answers(&mut self, tx: &DatabaseTransaction) -> Result<()> {
        for (from, to, shelf) in std::mem::take(&mut self.items.moved) {
            let these = || record::Column::SubjectUri.eq(&from).and(record::Column::Collection.eq(shelf.collection()));
            let people: Vec<String> = record::Entity::find()
                .select_only()
                .column(record::Column::Did)
                .distinct()
                .filter(these())
                .into_tuple()
                .all(tx)
                .await?;
            if people.is_empty() {
                continue;
            }
            let update = record::Entity::update_many().col_expr(record::Column::SubjectUri, Expr::value(to.clone()));
            update.filter(these()).exec(tx).await?;
            for did in people {
                self.ledger.find_answer_again(from.clone(), did.clone());
                self.ledger.find_answer_again(to.clone(), did);
            }
        }
        Ok(())
    }
}

fn read(row: record::Model) -> Option<(record::Model, SourceType, Arc<EventDraft>)> {
    let source = Source::of_collection(&row.collection)?;
    match source.read(row.record.as_deref()?).draft {
        Ok(Draft::Event(mut draft)) => {
            settle_event(Arc::make_mut(&mut draft), row.occurred_at);
            Some((row, source.source_type(), draft))
        }
        _ => None,
    }
}

fn is_of_network(uri: &str) -> bool {
    uri.starts_with("at://")
}
