//! Takes a file of messages through the pipeline: Jetstream v1 JSON, one message a line.
//!
//! Reading the same file again changes nothing, so a replay that was cut off is simply started once more.

use std::{collections::BTreeMap, fmt};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use crate::{
    app::App,
    domain::ingest::{Outcome, submit},
    error::{Error, Result},
};

/// Bytes that are read before they are taken through the pipeline.
const BYTES: usize = 4 << 20;
/// Bytes of a line that are kept; the rest of a longer one is passed over, and what is left is parked.
const LINE_BYTES: u64 = 16 << 20;

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
    let mut held = 0;
    loop {
        let mut line = Vec::new();
        let bytes = read_line(&mut input, &mut line).await.map_err(|error| unreadable(&error))?;
        if bytes == 0 {
            break;
        }
        progress(bytes);
        // What is not UTF-8 is parked like everything else that cannot be read.
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if !line.is_empty() {
            summary.read += 1;
            held += line.len();
            batch.push(line);
        }
        if batch.len() >= app.config.ingest.batch_size || held >= BYTES {
            flush(app, &mut batch, &mut summary).await?;
            held = 0;
        }
    }
    flush(app, &mut batch, &mut summary).await?;
    Ok(summary)
}

/// Reads to the end of the line, or of the input; returns how many bytes that was.
async fn read_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<u64> {
    let mut bytes = input.take(LINE_BYTES).read_until(b'\n', line).await? as u64;
    if bytes == LINE_BYTES && !line.ends_with(b"\n") {
        loop {
            let buffer = input.fill_buf().await?;
            let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let length = end.unwrap_or(buffer.len());
            input.consume(length);
            bytes += length as u64;
            if end.is_some() || length == 0 {
                break;
            }
        }
    }
    Ok(bytes)
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
