//! Projecting events from the ledger, and hiding them with their organiser.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use entities::{event::Model, sets::SourceType};
use sea_orm::DatabaseTransaction;

use super::Work;
use crate::{
    domain::{account::shadow, event::write as event, rsvp::write as rsvp},
    error::Result,
};

/// An event that is to be written: the one that it replaces, the event, and when that happened.
pub(super) type Written = (Option<Model>, (Model, DateTime<Utc>));

impl Work {
    /// Hides or shows what accounts had written before this batch.
    pub(super) async fn flip(&mut self, tx: &DatabaseTransaction) -> Result<()> {
        if self.flipped.is_empty() {
            return Ok(());
        }
        let users = shadow::find(tx, self.tenant, self.flipped.iter().cloned().collect()).await?;
        for is_hidden in [false, true] {
            let of: Vec<i64> =
                users.iter().filter(|(did, _)| self.is_active(did) != is_hidden).map(|(_, id)| *id).collect();
            if of.is_empty() {
                continue;
            }
            let answered = rsvp::answered_by(tx, self.tenant, of.clone()).await?;
            let answered = event::by_id(tx, self.tenant, answered).await?;
            rsvp::hide(tx, of.clone(), is_hidden, self.now).await?;
            for event in &answered {
                self.touched.answers(&event.into(), self.now);
            }
            let organized = event::by_organizer(tx, self.tenant, of).await?;
            event::hide(tx, organized.iter().map(|event| event.id).collect(), is_hidden, self.now).await?;
            for before in organized {
                let mut after = before.clone();
                after.is_hidden = is_hidden;
                after.updated_at = self.now;
                self.touched.event(Some(before), Some(after), self.now);
            }
        }
        Ok(())
    }

    /// Projects the events again whose record the ledger held before, or the others.
    pub(super) async fn project_events(&mut self, tx: &DatabaseTransaction, are_stored: bool) -> Result<()> {
        let is_meant = |uri: &String| self.ledger.is_stored(uri) == are_stored;
        let meant: BTreeSet<String> = self.ledger.events().keys().filter(|uri| is_meant(uri)).cloned().collect();
        if meant.is_empty() {
            return Ok(());
        }
        // From a record that was not held nothing has been projected either.
        let stored = if are_stored { meant.iter().cloned().collect() } else { Vec::new() };
        let mut held = event::by_uri(tx, self.tenant, stored).await?;
        let authors = self.ledger.events().iter().filter(|(uri, draft)| draft.is_some() && meant.contains(*uri));
        let authors: BTreeSet<String> =
            authors.filter_map(|(uri, _)| Some(self.ledger.row(uri)?.did.clone())).collect();
        // Those who answered are looked up on the same occasion.
        let answering: Vec<String> = self.ledger.answers().iter().map(|(_, did)| did.clone()).collect();
        self.meet(tx, authors.iter().chain(&answering)).await?;
        self.join(tx, &authors).await?;

        let mut written = Vec::new();
        let mut removed = Vec::new();
        for (uri, draft) in self.ledger.events().iter().filter(|(uri, _)| meant.contains(*uri)) {
            let before = held.remove(uri);
            let (Some(draft), Some(row)) = (draft, self.ledger.row(uri)) else {
                removed.extend(before);
                continue;
            };
            let Some(user_id) = self.user(&row.did) else { continue };
            let origin = event::Origin {
                tenant: self.tenant,
                user_id,
                source: SourceType::Bluesky,
                source_id: &row.did,
                uri,
                cid: row.cid.as_deref(),
                rev: &row.rev,
                is_hidden: !self.is_active(&row.did),
            };
            let mut after = event::project(draft, &origin, before.as_ref(), self.now);
            // An echo says nothing new: only its revision is taken, which is the same then in every order of arrival.
            if let Some(before) = &before
                && event::changed_fields(before, &after).is_empty()
            {
                after.updated_at = before.updated_at;
            }
            written.push((before, (after, row.occurred_at)));
        }
        self.put_events(tx, written, removed).await
    }

    /// Writes events, and removes others.
    pub(super) async fn put_events(
        &mut self,
        tx: &DatabaseTransaction,
        written: Vec<Written>,
        removed: Vec<Model>,
    ) -> Result<()> {
        event::delete(tx, self.tenant, removed.iter().map(|event| event.id).collect()).await?;
        for before in removed {
            let row = before.record_uri.as_ref().and_then(|uri| self.ledger.row(uri));
            let at = row.map_or(self.now, |row| row.occurred_at);
            self.touched.event(Some(before), None, at);
        }
        let (before, after): (Vec<_>, Vec<_>) = written.into_iter().unzip();
        let (mut after, at): (Vec<_>, Vec<_>) = after.into_iter().unzip();
        event::upsert(tx, self.tenant, &mut after).await?;
        for ((before, after), at) in before.into_iter().zip(after).zip(at) {
            self.touched.event(before, Some(after), at);
        }
        Ok(())
    }
}
