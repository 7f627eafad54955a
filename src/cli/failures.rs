//! `openmeet-gateway failures`: what could not be applied, and what died in the queues.

use std::{collections::BTreeSet, process::ExitCode};

use chrono::{DateTime, Utc};
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use entities::sets::FailureState;
use gateway::{
    app::App,
    domain::{
        actor::Actor,
        ingest::{
            Stage,
            failure::{self, Became, Choice, Decided, Filter},
        },
        range::Range,
    },
    error::{Error, Result},
};
use serde_json::json;

use super::print;

#[derive(Debug, Subcommand)]
pub(super) enum Failures {
    /// Print messages, one JSON object a line
    List {
        #[command(flatten)]
        chosen: Chosen,
        /// Those in this state; may be given several times
        #[arg(long = "state", value_name = "STATE", value_delimiter = ',', default_value = "parked", value_parser = state())]
        states: Vec<FailureState>,
        /// With everything that happened to each
        #[arg(long)]
        history: bool,
    },
    /// Print how many messages failed alike, one JSON object a line
    Count {
        #[command(flatten)]
        chosen: Chosen,
        /// Those in this state; may be given several times
        #[arg(long = "state", value_name = "STATE", value_delimiter = ',', default_value = "parked", value_parser = state())]
        states: Vec<FailureState>,
    },
    /// Take parked messages through the pipeline again; dead letters, through their queue
    Retry {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        how: How,
    },
    /// Give parked messages up for good
    Discard {
        #[command(flatten)]
        chosen: Chosen,
        #[command(flatten)]
        how: How,
        /// Why; kept in the history of each
        #[arg(long, default_value = "")]
        reason: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// Only these, by id
    ids: Vec<i64>,
    /// Only with this code, such as EVENT_NAME_MISSING; may be given several times
    #[arg(long = "code", value_name = "CODE", value_delimiter = ',')]
    codes: Vec<String>,
    /// Only of this stage; may be given several times
    #[arg(long = "stage", value_name = "STAGE", value_delimiter = ',', value_parser = stage())]
    stages: Vec<Stage>,
    /// Only dead letters of the queues; the same as --stage queue
    #[arg(long, conflicts_with = "stages")]
    dead: bool,
    /// Only of this repository
    #[arg(long)]
    did: Option<String>,
    /// Only about this record, by its AT-URI
    #[arg(long)]
    uri: Option<String>,
    /// Only those that failed last at this instant or later, such as 2026-09-01T18:00:00Z
    #[arg(long, value_name = "INSTANT")]
    since: Option<DateTime<Utc>>,
    /// Only those that failed last before this instant
    #[arg(long, value_name = "INSTANT")]
    until: Option<DateTime<Utc>>,
    /// Only with this text in the payload or in the reason, letter for letter
    #[arg(long)]
    text: Option<String>,
    /// At most so many, the oldest first [default: all]
    #[arg(long)]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct How {
    /// Every parked message: asked for when nothing else chooses
    #[arg(long)]
    all: bool,
    /// Only print which ones it would be, change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A parser that knows the names, and so the nearest one.
fn stage() -> impl TypedValueParser<Value = Stage> {
    PossibleValuesParser::new(Stage::ALL.map(Stage::as_str)).try_map(|name| Stage::of(&name).ok_or("no stage"))
}

fn state() -> impl TypedValueParser<Value = FailureState> {
    const ALL: [FailureState; 3] = [FailureState::Parked, FailureState::Resolved, FailureState::Discarded];
    let named = |name: String| ALL.into_iter().find(|state| state.as_str() == name).ok_or("no state");
    PossibleValuesParser::new(ALL.map(FailureState::as_str)).try_map(named)
}

impl Failures {
    /// Whether it says what is to be decided about.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self::Retry { chosen, how } | Self::Discard { chosen, how, .. } if !how.all && chosen.is_everything() => {
                let why = "name ids, --code, --stage, --dead, --did, --uri, --since, --until, --text, or --all";
                Err(Error::invalid("choice", "NOTHING_CHOSEN", why))
            }
            _ => Ok(()),
        }
    }
}

impl Chosen {
    fn is_everything(&self) -> bool {
        self.filter() == Filter::default()
    }

    fn filter(&self) -> Filter {
        let some = |is_given: bool| is_given.then_some(());
        let range = Range { from: self.since, to: self.until };
        let stages = if self.dead { vec![Stage::Queue] } else { self.stages.clone() };
        Filter {
            ids: some(!self.ids.is_empty()).map(|()| self.ids.clone()),
            states: None,
            stages: some(!stages.is_empty()).map(|()| stages),
            codes: some(!self.codes.is_empty()).map(|()| self.codes.clone()),
            did: self.did.clone(),
            uri: self.uri.clone(),
            failed_at: some(range != Range::default()).map(|()| range),
            text: self.text.clone(),
        }
    }
}

/// Exits with 1 when one of the ids is not there, else with 2 when one that was retried still is.
pub(super) async fn act(app: &App, command: Failures) -> Result<ExitCode> {
    match command {
        Failures::List { chosen, states, history } => list(app, &chosen, states, history).await,
        Failures::Count { chosen, states } => {
            let filter = Filter { states: Some(states), ..chosen.filter() };
            for alike in failure::counts(app, &Actor::Operator, &filter).await? {
                let failure::Count { state, stage, code, count, last_failed_at } = alike;
                let state = state.as_str();
                let line = json!({
                    "state": state, "stage": stage, "code": code, "count": count, "lastFailedAt": last_failed_at,
                });
                print(&format!("{line}\n"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Failures::Retry { chosen, how } => decide(app, &chosen, &how, Decision::Retry).await,
        Failures::Discard { chosen, how, reason } => decide(app, &chosen, &how, Decision::Discard(reason)).await,
    }
}

async fn list(app: &App, chosen: &Chosen, states: Vec<FailureState>, with_history: bool) -> Result<ExitCode> {
    /// Payloads may be large.
    const TOGETHER: u64 = 20;
    let filter = Filter { states: Some(states), ..chosen.filter() };
    let mut missing: BTreeSet<i64> = chosen.ids.iter().copied().collect();
    let (mut left, mut after, mut found) = (chosen.limit.unwrap_or(u64::MAX), 0, false);
    loop {
        let rows = failure::following(app, &Actor::Operator, &filter, after, TOGETHER).await?;
        for row in &rows {
            (after, found) = (row.id, true);
            missing.remove(&row.id);
            // Of the ids all are looked for, so that those which are not there can be told from those beyond the limit.
            if left > 0 {
                left -= 1;
                print(&format!("{}\n", line(app, row, with_history).await?))?;
            }
        }
        if rows.is_empty() || (left == 0 && missing.is_empty()) {
            break;
        }
    }
    told(found, &missing, ExitCode::SUCCESS)
}

async fn line(app: &App, row: &failure::Model, with_history: bool) -> Result<serde_json::Value> {
    let mut line = json!({
        "id": row.id,
        "stage": row.stage,
        "code": row.code,
        "reason": row.reason,
        "state": row.state.as_str(),
        "did": row.did,
        "uri": row.uri,
        "attempts": row.attempts,
        "firstFailedAt": row.first_failed_at,
        "lastFailedAt": row.last_failed_at,
        "resolvedAt": row.resolved_at,
        "payload": row.payload,
    });
    if with_history && let Some(fields) = line.as_object_mut() {
        let history = failure::history(app, &Actor::Operator, row.id).await?;
        let entries = history.iter().map(|entry| {
            json!({
                "at": entry.at,
                "state": entry.state.as_str(),
                "stage": entry.stage,
                "code": entry.code,
                "reason": entry.reason,
                "decidedBy": entry.decided_by,
            })
        });
        fields.insert("history".to_owned(), entries.collect());
    }
    Ok(line)
}

/// What is to be done with those that are chosen.
enum Decision {
    Retry,
    Discard(String),
}

/// What was done, in numbers.
#[derive(Default)]
struct Sum {
    resolved: u64,
    requeued: u64,
    discarded: u64,
    parked: u64,
    untouched: u64,
}

async fn decide(app: &App, chosen: &Chosen, how: &How, decision: Decision) -> Result<ExitCode> {
    let (filter, mut left) = (chosen.filter(), chosen.limit.unwrap_or(u64::MAX));
    let (mut sum, mut missing, mut found) = (Sum::default(), None, false);
    let mut after = 0;
    while left > 0 {
        let choice = Choice {
            filter: filter.clone(),
            after,
            limit: left.min(failure::MOST),
            is_dry_run: how.dry_run,
            patience: None,
        };
        let decided = match &decision {
            Decision::Retry => failure::retry(app, &Actor::Operator, &choice).await?,
            Decision::Discard(reason) => failure::discard(app, &Actor::Operator, &choice, reason).await?,
        };
        // The first call knows all ids that are parked; later ones find those of them that were decided about gone.
        missing.get_or_insert_with(|| decided.missing.iter().copied().collect::<BTreeSet<i64>>());
        let Some(last) = decided.results.last() else { break };
        (after, found) = (last.failure.id, true);
        left -= (decided.results.len() as u64).min(left);
        sum.add(decided)?;
    }
    if how.dry_run {
        print(&format!("would be {}\n", sum.untouched))?;
    } else if let Decision::Retry = decision {
        print(&format!("resolved {}\nparked {}\n", sum.resolved, sum.parked))?;
        if sum.requeued > 0 {
            print(&format!("requeued {}\n", sum.requeued))?;
        }
    } else if found || missing.as_ref().is_none_or(BTreeSet::is_empty) {
        print(&format!("discarded {}\n", sum.discarded))?;
    }
    let code = if sum.parked > 0 { ExitCode::from(2) } else { ExitCode::SUCCESS };
    told(found, &missing.unwrap_or_default(), code)
}

impl Sum {
    fn add(&mut self, decided: Decided) -> Result<()> {
        for failure::Decision { failure, became } in decided.results {
            let still = |code: &str, why: &str| eprintln!("{} {code} {why}", failure.id);
            match became {
                Became::Applied => self.resolved += 1,
                Became::Requeued => self.requeued += 1,
                Became::Discarded => self.discarded += 1,
                Became::Skipped => self.parked += 1,
                Became::Parked(parked) => {
                    self.parked += 1;
                    still(parked.code, &parked.why);
                }
                Became::Failed(error) => {
                    self.parked += 1;
                    still(error.reason(), &error.chain());
                }
                Became::Untouched => {
                    self.untouched += 1;
                    let failure::Model { id, stage, code, did, reason, .. } = &failure;
                    let line = json!({ "id": id, "stage": stage, "code": code, "did": did, "reason": reason });
                    print(&format!("{line}\n"))?;
                }
            }
        }
        Ok(())
    }
}

/// Tells of ids that are not there: an error where that is all there is to tell.
fn told(found: bool, missing: &BTreeSet<i64>, code: ExitCode) -> Result<ExitCode> {
    if missing.is_empty() {
        return Ok(code);
    }
    let ids: Vec<String> = missing.iter().map(ToString::to_string).collect();
    if !found {
        return Err(Error::NotFound { what: "parked message", key: ids.join(", ") });
    }
    eprintln!("openmeet-gateway: failed to find {} of the messages: {}", ids.len(), ids.join(", "));
    Ok(ExitCode::FAILURE)
}
