//! What came of it.

use std::{collections::BTreeMap, fmt, time::Duration};

/// Counted over the whole run.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) seed: u64,
    /// By name: how often, and the longest time from its end until records of every partition were committed.
    pub(super) faults: BTreeMap<String, (u32, Duration)>,
    /// Messages that the stream sent, each counted once; and all lines, those that came again included.
    pub(super) messages: usize,
    pub(super) lines: usize,
    /// Of these, messages that cannot be read, and so wait for a person.
    pub(super) put_aside: usize,
    /// Changes that each subscriber was to see, and how often all of them resumed.
    pub(super) changes: usize,
    pub(super) resumptions: usize,
    /// Where the tables differ from the model, and changes that a subscriber missed.
    pub(super) lost: usize,
    /// What the change log tells twice, or wrongly, and what a subscriber was told again.
    pub(super) doubled: usize,
}

impl Report {
    pub(super) fn count(&mut self, fault: String, resumed_after: Duration) {
        let (times, longest) = self.faults.entry(fault).or_default();
        *times += 1;
        *longest = resumed_after.max(*longest);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed              {}", self.seed)?;
        writeln!(f, "faults injected   {}", self.faults.values().map(|(times, _)| times).sum::<u32>())?;
        for (name, (times, longest)) in &self.faults {
            writeln!(f, "  {name:<22} {times:>4}   going on after {:.2} s at most", longest.as_secs_f64())?;
        }
        writeln!(f, "records sent      {}, in {} deliveries", self.messages, self.lines)?;
        writeln!(f, "put aside         {}, as they cannot be read", self.put_aside)?;
        writeln!(f, "changes           {}, seen over {} resumptions", self.changes, self.resumptions)?;
        writeln!(f, "lost              {}", self.lost)?;
        write!(f, "doubled           {}", self.doubled)
    }
}
