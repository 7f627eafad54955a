//! Takes a file of messages through the pipeline: Jetstream v1 JSON, one message a line.
//!
//! Reading the same file again changes nothing, so a replay that was cut off is simply started once more.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt},
    task::JoinHandle,
};

use crate::{
    app::App,
    domain::ingest::{Outcome, submit},
    error::{Error, Result},
};

/// Bytes that are read before they are taken through the pipeline.
const BYTES: usize = 2 << 20;
/// Bytes of a line that are kept; the rest of a longer one is passed over, and what is left is parked.
const LINE_BYTES: u64 = 16 << 20;

/// Batches in the pipeline at once: while the database writes one, the next is read and understood.
const AT_ONCE: usize = 2;

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
    let mut run = Run { app, summary: Summary::default(), batch: Vec::new(), held: 0, under_way: VecDeque::new() };
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
            run.take(line).await?;
        }
    }
    run.send().await?;
    while run.settle().await? {}
    Ok(run.summary)
}

/// A replay under way.
struct Run<'a> {
    app: &'a App,
    summary: Summary,
    batch: Vec<String>,
    /// Bytes of the batch.
    held: usize,
    /// Batches in the pipeline, in their order.
    under_way: VecDeque<JoinHandle<Result<Vec<Outcome>>>>,
}

impl Run<'_> {
    async fn take(&mut self, line: String) -> Result<()> {
        self.summary.read += 1;
        self.held += line.len();
        self.batch.push(line);
        if self.batch.len() >= self.app.config.ingest.batch_size || self.held >= BYTES {
            self.send().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<()> {
        let (app, batch) = (self.app.clone(), std::mem::take(&mut self.batch));
        self.held = 0;
        if !batch.is_empty() {
            self.under_way.push_back(tokio::spawn(async move { submit(&app, &batch).await }));
        }
        if self.under_way.len() >= AT_ONCE {
            self.settle().await?;
        }
        Ok(())
    }

    /// Waits for the oldest batch; whether there was one.
    async fn settle(&mut self) -> Result<bool> {
        let Some(oldest) = self.under_way.pop_front() else { return Ok(false) };
        for outcome in oldest.await.map_err(Error::bug)?? {
            self.summary.count(&outcome);
        }
        Ok(true)
    }
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
