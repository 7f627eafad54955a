//! Following what happens to parked messages.
//!
//! Each reader reads the log for itself when it hears the doorbell, or when it has not for a while: there are few of them,
//! and nothing that another process commits is missed.

use std::{collections::VecDeque, time::Duration};

use entities::sets::FailureState;
use futures_util::{Stream, stream};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::{Cursor, Entry, Stage, log};
use crate::{
    app::App,
    domain::actor::Actor,
    error::{Error, Result},
    infra::kv::{Listener, Topic},
};

/// How often a reader looks by itself: how late it learns of what another process does where no doorbell reaches it.
const POLL: Duration = Duration::from_secs(1);
/// The same where rings of other processes are heard: only because rings can be lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failure of the database.
const PAUSE: Duration = Duration::from_secs(2);
/// Entries that are read at once.
const BATCH: u64 = 100;

/// What a reader wants to see; all given conditions must hold, lists match any member.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// What the message became.
    pub states: Option<Vec<FailureState>>,
    /// Where it failed.
    pub stages: Option<Vec<Stage>>,
    /// Why it failed.
    pub codes: Option<Vec<String>>,
}

impl Watched {
    fn wants(&self, entry: &Entry) -> bool {
        let is_in = |list: &Option<Vec<String>>, text: &String| list.as_ref().is_none_or(|list| list.contains(text));
        self.states.as_ref().is_none_or(|states| states.contains(&entry.state))
            && self.stages.as_ref().is_none_or(|stages| stages.iter().any(|stage| stage.as_str() == entry.stage))
            && is_in(&self.codes, &entry.code)
    }
}

/// What happens to parked messages, in the order of the log, each exactly once: what is after the cursor first, then what
/// comes; without a cursor what is committed after this call has returned, and perhaps a little before.
///
/// Fails at once with `CURSOR_EXPIRED` or `CURSOR_INVALID`, for an actor who may not, or when the database is away. Later
/// outages are waited out. The stream ends after its first error and never without one.
pub async fn watch(
    app: &App,
    actor: &Actor,
    watched: Watched,
    after: Option<Cursor>,
) -> Result<impl Stream<Item = Result<Entry>> + Send + use<>> {
    actor.administers(app.network)?;
    // Before the position is read: so nothing can fall between the two.
    let listener = app.kv.bell(Topic::Failures).listen();
    let db = app.db.read();
    let (position, ready) = match after {
        None => (log::head(db).await?, VecDeque::new()),
        Some(cursor) => {
            log::check(db, cursor).await?;
            (cursor, log::following(db, cursor, BATCH).await?.into())
        }
    };
    let reader = Reader { app: app.clone(), watched, listener, position, ready, is_over: false };
    Ok(stream::unfold(reader, |mut reader| async move {
        let entry = reader.next().await?;
        Some((entry, reader))
    }))
}

struct Reader {
    app: App,
    watched: Watched,
    listener: Listener,
    /// Everything up to here has been handed out.
    position: Cursor,
    ready: VecDeque<Entry>,
    is_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Entry>> {
        while !self.is_over {
            while let Some(entry) = self.ready.pop_front() {
                self.position = Cursor::of(&entry);
                if self.watched.wants(&entry) {
                    return Some(Ok(entry));
                }
            }
            match log::following(self.app.db.read(), self.position, BATCH).await {
                Ok(entries) if entries.is_empty() => self.wait().await,
                Ok(entries) => self.ready = entries.into(),
                Err(error @ Error::Unavailable { .. }) => {
                    debug!(error = error.chain(), "a reader waits for the log of failures");
                    sleep(PAUSE).await;
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }

    async fn wait(&mut self) {
        let patience = if self.app.kv.bell(Topic::Failures).is_joined() { PATIENCE } else { POLL };
        // A passed time limit is an answer too: look again.
        let _ = timeout(patience, self.listener.rung()).await;
    }
}
