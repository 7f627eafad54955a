//! What processes use while something runs, as Linux tells it.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, anyhow};
use tokio::{task::AbortHandle, time::interval};

use crate::cost::processor_time;

/// Between two looks: processor time after the last look at a process that ends is lost.
const LOOK: Duration = Duration::from_millis(200);

/// Processes that belong together.
#[derive(Clone, Debug)]
pub(crate) enum Group {
    /// One of ours.
    Pid(u32),
    /// All whose program has this name.
    Program(&'static str),
    /// The sessions of a PostgreSQL database.
    Sessions(String),
}

/// What a group has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time since the beginning.
    pub(crate) processor: Duration,
    /// Most memory at once, in bytes.
    pub(crate) memory: f64,
    /// Memory at the last look at which it ran, in bytes.
    pub(crate) memory_now: f64,
}

/// Looks again and again; ends with the value.
pub(crate) struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct Seen {
    group: Group,
    /// Processor time by process: at the beginning and at the last look.
    times: BTreeMap<u32, (Duration, Duration)>,
    usage: Usage,
}

impl Watch {
    /// From now on.
    pub(crate) fn start(groups: impl IntoIterator<Item = Group>) -> Self {
        let seen = groups.into_iter().map(|group| Seen { group, times: BTreeMap::new(), usage: Usage::default() });
        let mut seen: Vec<Seen> = seen.collect();
        look(&mut seen, true);
        let seen = Arc::new(Mutex::new(seen));
        let looked = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut ticker = interval(LOOK);
            loop {
                ticker.tick().await;
                look(&mut looked.lock().unwrap_or_else(PoisonError::into_inner), false);
            }
        });
        Self { seen, task: task.abort_handle() }
    }

    /// What each group has used, in their order.
    pub(crate) fn usage(&self) -> Vec<Usage> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        look(&mut seen, false);
        seen.iter().map(|seen| seen.usage).collect()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn look(groups: &mut [Seen], is_first: bool) {
    let running = fs::read_dir("/proc").into_iter().flatten().flatten();
    let running: Vec<u32> = running.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for seen in groups {
        let mut memory = 0.0;
        for pid in running.iter().copied().filter(|pid| seen.group.holds(*pid)) {
            let (Ok(time), Ok(resident)) = (processor_time(&pid.to_string()), resident(pid)) else { continue };
            // Who comes later has used nothing before.
            let known = seen.times.entry(pid).or_insert((if is_first { time } else { Duration::ZERO }, time));
            known.1 = time;
            memory += resident;
        }
        if memory > 0.0 {
            seen.usage.memory_now = memory;
        }
        seen.usage.processor = seen.times.values().map(|(first, last)| last.saturating_sub(*first)).sum();
        seen.usage.memory = seen.usage.memory.max(seen.usage.memory_now);
    }
}

impl Group {
    fn holds(&self, pid: u32) -> bool {
        match self {
            Self::Pid(own) => *own == pid,
            Self::Program(name) => {
                fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == *name)
            }
            Self::Sessions(database) => fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| {
                let line = String::from_utf8_lossy(&line).into_owned();
                line.starts_with("postgres: ") && line.split_whitespace().any(|word| word == database)
            }),
        }
    }
}

/// Memory that a process has in use, in bytes.
pub(crate) fn resident(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB"));
    let kilobytes: f64 = resident.ok_or_else(|| anyhow!("the kernel tells no VmRSS"))?.trim().parse()?;
    Ok(kilobytes * 1_024.0)
}
