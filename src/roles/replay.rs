//! Takes a file of messages through the pipeline: Jetstream v1 JSON, one message a line.
//!
//! Reading the same file again changes nothing, so a replay that was cut off is simply started once more.

use std::{collections::BTreeMap, fmt};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::{
    app::App,
    domain::ingest::{Outcome, submit},
    error::{Error, Result},
};

/// What a replay did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Lines read, empty ones left out.
    pub read: u64,
    /// Messages that changed something.
    pub applied: u64,
    /// Messages that were known, overtaken, or of no interest.
    pub unchanged: u64,
    /// Parked messages by code.
    pub parked: BTreeMap<&'static str, u64>,
}

impl Summary {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Applied => self.applied += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::Parked(parked) => *self.parked.entry(parked.code).or_default() += 1,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parked: u64 = self.parked.values().sum();
        write!(f, "read {}\napplied {}\nunchanged {}\nparked {parked}", self.read, self.applied, self.unchanged)?;
        for (code, count) in &self.parked {
            write!(f, "\n  {code} {count}")?;
        }
        Ok(())
    }
}

/// Reads to the end. `progress` is told how many bytes have been read since it was last called.
pub async fn run(app: &App, mut input: impl AsyncBufRead + Unpin, mut progress: impl FnMut(u64)) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut batch = Vec::new();
    loop {
        let mut line = Vec::new();
        let bytes = input.read_until(b'\n', &mut line).await.map_err(|error| unreadable(&error))?;
        if bytes == 0 {
            break;
        }
        progress(bytes as u64);
        // What is not UTF-8 is parked like everything else that cannot be read.
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            summary.read += 1;
            batch.push(line);
        }
        if batch.len() >= app.config.ingest.batch_size {
            flush(app, &mut batch, &mut summary).await?;
        }
    }
    flush(app, &mut batch, &mut summary).await?;
    Ok(summary)
}

async fn flush(app: &App, batch: &mut Vec<String>, summary: &mut Summary) -> Result<()> {
    if !batch.is_empty() {
        for outcome in submit(app, batch).await? {
            summary.count(&outcome);
        }
        batch.clear();
    }
    Ok(())
}

fn unreadable(error: &std::io::Error) -> Error {
    Error::invalid("file", "FILE_UNREADABLE", error.to_string())
}
