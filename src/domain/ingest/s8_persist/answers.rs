//! Projecting answers from the ledger: of a person's records for an event the newest counts; answers that came before
//! their event wait in the ledger until it is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use entities::{
    event_attendee as attendee,
    sets::{RsvpStatus, SourceType, Verdict},
    source_record as record,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter, QuerySelect, Statement};

use super::Work;
use crate::{
    domain::{
        event::outline::{self, Outline},
        rsvp::write as rsvp,
        source::{Draft, RsvpDraft, Source},
    },
    error::Result,
    infra::db::{among, bind_pairs},
};

/// A person's newest record for an event.
struct Answer {
    record: record::Model,
    source: SourceType,
    draft: RsvpDraft,
}

impl Work {
    pub(super) async fn project_answers(&mut self, tx: &DatabaseTransaction) -> Result<()> {
        let appeared: BTreeSet<String> = self.touched.appeared().map(str::to_owned).collect();
        let subjects: BTreeSet<&String> = self.ledger.answers().iter().map(|(subject, _)| subject).collect();
        let mut events: HashMap<String, Outline> = HashMap::new();
        for event in self.touched.written() {
            let uri = event.record_uri.as_ref();
            if let Some(uri) = uri.filter(|uri| subjects.contains(uri) || appeared.contains(*uri)) {
                events.insert(uri.clone(), event.into());
            }
        }
        let rest = subjects.into_iter().filter(|uri| !events.contains_key(*uri)).cloned().collect();
        events.extend(outline::by_uri(tx, self.tenant, rest).await?);
        let early = self.ledger.answers().iter().filter(|(subject, _)| !events.contains_key(subject)).count();
        self.count_answers("waiting", early);
        if events.is_empty() {
            return Ok(());
        }
        let changed: BTreeSet<(String, String)> =
            self.ledger.answers().iter().filter(|(subject, _)| events.contains_key(subject)).cloned().collect();
        let newest = newest_answers(tx, &changed, &appeared).await?;
        let people: BTreeSet<String> = newest.keys().chain(&changed).map(|(_, did)| did.clone()).collect();
        self.learn(tx, &people).await?;
        let answering: BTreeSet<String> = newest.keys().map(|(_, did)| did.clone()).collect();
        self.meet(tx, &people).await?;
        self.join(tx, &answering).await?;

        let pairs: BTreeSet<&(String, String)> = newest.keys().chain(&changed).collect();
        // An event that has just appeared has no answers yet.
        let known = pairs.iter().filter(|(subject, _)| !appeared.contains(subject));
        let known = known.filter_map(|(subject, did)| Some((events.get(subject)?.id, self.user(did)?)));
        let mut held: HashMap<(i64, i64), attendee::Model> = rsvp::of(tx, self.tenant, known.collect())
            .await?
            .into_iter()
            .map(|row| ((row.event_id, row.user_id), row))
            .collect();

        let mut written = Vec::new();
        let mut removed = Vec::new();
        let (mut created, mut changed_answers) = (0, 0);
        for pair in pairs {
            let (Some(event), Some(user_id)) = (events.get(&pair.0), self.user(&pair.1)) else { continue };
            let before = held.remove(&(event.id, user_id));
            let Some(answer) = newest.get(pair) else {
                removed.extend(before.iter().map(|row| row.id));
                if before.is_some_and(|before| !before.is_hidden) {
                    self.touched.answers(event, self.now);
                }
                continue;
            };
            let after = self.answer(event, user_id, answer, before.as_ref());
            if before.as_ref() != Some(&after) {
                if before.is_none() {
                    created += 1;
                } else {
                    changed_answers += 1;
                }
                if before.as_ref().and_then(shown) != shown(&after) {
                    self.touched.answers(event, answer.record.occurred_at);
                }
                written.push(after);
            }
        }
        self.count_answers("created", created);
        self.count_answers("changed", changed_answers);
        self.count_answers("removed", removed.len());
        rsvp::delete(tx, removed).await?;
        rsvp::upsert(tx, written).await
    }

    fn count_answers(&mut self, outcome: &'static str, count: usize) {
        *self.persisted.answers.entry(outcome).or_default() += count as u64;
    }

    fn answer(
        &self,
        event: &Outline,
        user_id: i64,
        answer: &Answer,
        before: Option<&attendee::Model>,
    ) -> attendee::Model {
        let Answer { record, source, draft } = answer;
        let mut after = attendee::Model {
            id: before.map_or(0, |before| before.id),
            tenant_id: self.tenant.id(),
            event_id: event.id,
            user_id,
            status: draft.status,
            source_type: *source,
            record_uri: Some(record.uri.clone()),
            record_cid: record.cid.clone(),
            record_rev: Some(record.rev.clone()),
            event_cid: draft.event_cid.clone(),
            is_hidden: !self.is_active(&record.did),
            // When the answer was written, as far as its record says so and could know.
            created_at: draft.created_at.filter(|at| *at <= record.occurred_at).unwrap_or(record.occurred_at),
            updated_at: before.map_or(self.now, |before| before.updated_at),
        };
        // A later revision with the same content says nothing new.
        if before.is_some_and(|before| before.status != after.status || before.record_cid != after.record_cid) {
            after.updated_at = self.now;
        }
        after
    }
}

/// What others see of an answer.
fn shown(answer: &attendee::Model) -> Option<RsvpStatus> {
    (!answer.is_hidden).then_some(answer.status)
}

/// The newest readable record of each (event, person): of the changed ones, and of everybody for events that appeared.
async fn newest_answers(
    tx: &impl ConnectionTrait,
    changed: &BTreeSet<(String, String)>,
    appeared: &BTreeSet<String>,
) -> Result<BTreeMap<(String, String), Answer>> {
    let mut pairs = changed.clone();
    pairs.extend(waiting_for(tx, appeared).await?);
    let mut newest = BTreeMap::new();
    for row in newest_of(tx, pairs).await? {
        let Some(subject) = row.subject_uri.clone() else { continue };
        let Some(source) = Source::of_collection(&row.collection) else { continue };
        if let Ok(Draft::Rsvp(draft)) = source.read(row.record.as_deref().unwrap_or_default()).draft {
            let source = source.source_type();
            newest.insert((subject, row.did.clone()), Answer { record: row, source, draft });
        }
    }
    Ok(newest)
}

/// Who has answered these events: (event's URI, DID).
async fn waiting_for(tx: &impl ConnectionTrait, events: &BTreeSet<String>) -> Result<Vec<(String, String)>> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let of_them = among(tx.get_database_backend(), record::Column::SubjectUri, events.iter().cloned().collect());
    Ok(record::Entity::find()
        .select_only()
        .columns([record::Column::SubjectUri, record::Column::Did])
        .distinct()
        .filter(of_them)
        .into_tuple()
        .all(tx)
        .await?)
}

/// The newest readable record of each of these (event's URI, DID), chosen by the database: a person may have written any
/// number of them. Two of one revision are told apart by their URI, so that every order of arrival has the same winner.
async fn newest_of(tx: &impl ConnectionTrait, pairs: BTreeSet<(String, String)>) -> Result<Vec<record::Model>> {
    if pairs.is_empty() {
        return Ok(Vec::new());
    }
    let backend = tx.get_database_backend();
    let (subjects, people): (Vec<String>, Vec<String>) = pairs.into_iter().unzip();
    let (wanted, mut values) = bind_pairs(backend, subjects, people);
    values.push(Verdict::Unreadable.as_str().into());
    // By bytes, whatever order of letters the database has.
    let bytes = if backend == DbBackend::Postgres { r#"COLLATE "C""# } else { "" };
    let sql = format!(
        "SELECT r.* FROM {wanted} CROSS JOIN source_record AS r
        WHERE r.uri = (
            SELECT s.uri FROM source_record AS s
            WHERE s.subject_uri = wanted.one AND s.did = wanted.other AND s.deleted_at IS NULL AND s.verdict <> ${}
            ORDER BY s.rev {bytes} DESC, s.uri {bytes} DESC LIMIT 1)",
        values.len()
    );
    Ok(record::Entity::find().from_raw_sql(Statement::from_sql_and_values(backend, sql, values)).all(tx).await?)
}
