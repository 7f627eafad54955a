//! Takes a file of messages through the pipeline: Jetstream v1 JSON, one message a line.
//!
//! Reading the same file again changes nothing, so a replay that was cut off is simply started once more.
//!
//! Messages of one account keep their order, as in the queue: two batches that are written at the same time then do not make
//! the same accounts, and none waits for the other.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    task::JoinHandle,
};

use crate::{
    app::App,
    domain::ingest::{Outcome, line, submit},
    error::{Error, Result},
};

/// Bytes that are read before they are taken through the pipeline.
const BYTES: usize = 2 << 20;
/// Bytes of a line that are kept; the rest of a longer one is passed over, and what is left is parked.
const LINE_BYTES: u64 = 16 << 20;

/// Parts that are taken through the pipeline beside each other, each with the messages of some of the accounts: while the
/// database writes a batch of one, those of the others are read and understood, or written too.
const LANES: usize = 4;

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
            Outcome::Applied { .. } => self.applied += 1,
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
    let mut lanes: [Lane; LANES] = Default::default();
    loop {
        let mut line = Vec::new();
        let bytes = read_line(&mut input, &mut line).await.map_err(|error| unreadable(&error))?;
        if bytes == 0 {
            break;
        }
        progress(bytes);
        // What is not UTF-8 is parked like everything else that cannot be read.
        let line = String::from_utf8_lossy(&line).trim().to_owned();
        if line.is_empty() {
            continue;
        }
        summary.read += 1;
        let number = lane_of(&line);
        if let Some(lane) = lanes.get_mut(number) {
            lane.take(app, line, &mut summary).await?;
        }
    }
    for lane in &mut lanes {
        lane.send(app, &mut summary).await?;
    }
    for lane in &mut lanes {
        lane.settle(&mut summary).await?;
    }
    Ok(summary)
}

/// The messages of some of the accounts.
#[derive(Default)]
struct Lane {
    batch: Vec<String>,
    /// Bytes of the batch.
    held: usize,
    /// The batch before, in the pipeline.
    under_way: Option<JoinHandle<Result<Vec<Outcome>>>>,
}

impl Lane {
    async fn take(&mut self, app: &App, line: String, summary: &mut Summary) -> Result<()> {
        self.held += line.len();
        self.batch.push(line);
        if self.batch.len() >= app.config.ingest.batch_size || self.held >= BYTES {
            self.send(app, summary).await?;
        }
        Ok(())
    }

    /// Sends the batch through the pipeline when the one before is through.
    async fn send(&mut self, app: &App, summary: &mut Summary) -> Result<()> {
        self.settle(summary).await?;
        let (app, batch) = (app.clone(), std::mem::take(&mut self.batch));
        self.held = 0;
        self.under_way = Some(tokio::spawn(async move { submit(&app, &batch).await }));
        Ok(())
    }

    /// Waits for the batch in the pipeline.
    async fn settle(&mut self, summary: &mut Summary) -> Result<()> {
        let Some(under_way) = self.under_way.take() else { return Ok(()) };
        for outcome in under_way.await.map_err(Error::bug)?? {
            summary.count(&outcome);
        }
        Ok(())
    }
}

/// The lane of a message: always the same for one account, and any for a message that names none.
fn lane_of(line: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    line::account(line).hash(&mut hasher);
    usize::try_from(hasher.finish() % LANES as u64).unwrap_or_default()
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

fn unreadable(error: &std::io::Error) -> Error {
    Error::invalid("file", "FILE_UNREADABLE", error.to_string())
}
