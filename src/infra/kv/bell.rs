//! The doorbell: somebody has committed something, so whoever waits for it may look at once.
//!
//! A ring says nothing else and may be lost; whoever listens looks by itself from time to time. Several rings in a row may
//! be heard as one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, watch};

/// What is rung for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// Changes of events were committed.
    Changes,
    /// Messages were put aside, or somebody decided about them.
    Failures,
}

impl Topic {
    /// All of them.
    pub(super) const ALL: [Self; 2] = [Self::Changes, Self::Failures];

    /// The name; part of the channel's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changes => "changes",
            Self::Failures => "failures",
        }
    }
}

/// One topic's doorbell. Cheap to clone.
#[derive(Clone)]
pub struct Bell(Arc<Inside>);

struct Inside {
    rings: watch::Sender<u64>,
    /// Rung here and not yet carried out of the process.
    outwards: Notify,
    /// Somebody listens here.
    wanted: Notify,
    is_joined: AtomicBool,
}

impl Bell {
    /// A bell that is heard in this process only, until something [carries](Self::wants_out) its rings out and
    /// [brings](Self::strike) others in.
    pub fn within_process() -> Self {
        Self(Arc::new(Inside {
            rings: watch::Sender::new(0),
            outwards: Notify::new(),
            wanted: Notify::new(),
            is_joined: AtomicBool::new(false),
        }))
    }

    /// Rings, without waiting: here at once, in other processes as soon as may be.
    pub fn ring(&self) {
        self.strike();
        self.0.outwards.notify_one();
    }

    /// Hears what is rung from now on.
    pub fn listen(&self) -> Listener {
        self.0.wanted.notify_one();
        Listener { rings: self.0.rings.subscribe(), _bell: self.clone() }
    }

    /// Whether rings of other processes are heard at present, so that looking by oneself is only a precaution.
    pub fn is_joined(&self) -> bool {
        self.0.is_joined.load(Ordering::Relaxed)
    }

    /// Rings in this process only.
    pub(super) fn strike(&self) {
        self.0.rings.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn join(&self, is_joined: bool) {
        self.0.is_joined.store(is_joined, Ordering::Relaxed);
    }

    /// Returns when a ring is to be carried out of the process.
    pub(super) async fn wants_out(&self) {
        self.0.outwards.notified().await;
    }

    /// Returns when somebody has begun to listen.
    pub(super) async fn is_wanted(&self) {
        self.0.wanted.notified().await;
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bell").field("is_joined", &self.is_joined()).finish_non_exhaustive()
    }
}

/// Hears a [`Bell`].
#[derive(Debug)]
pub struct Listener {
    rings: watch::Receiver<u64>,
    /// Without a bell there would be nothing to wait for.
    _bell: Bell,
}

impl Listener {
    /// Returns when the bell has been rung since the last time, or since listening began. Nothing is lost when the wait is
    /// given up.
    pub async fn rung(&mut self) {
        if self.rings.changed().await.is_err() {
            // The bell is gone, which the field above rules out.
            std::future::pending::<()>().await;
        }
    }
}
