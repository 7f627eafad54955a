//! Looks again and again whether what opened a socket or an event stream still opens it: for all of them at once, so that thousands
//! cost some statements and each of them no more than a place in a list.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, join},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    domain::actor::{self, Credential, Looked},
};

/// Between two looks: how soon what a key or a session has open ends after it was revoked.
const PAUSE: Duration = Duration::from_secs(4);
/// Credentials of one look into the database. Each connection of SQLite keeps the room that its largest answer needed.
const PIECE: usize = 100;

/// What is open. Looks for as long as there is anything.
pub(super) struct Recheck(Arc<Shared>);

struct Shared {
    app: App,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// What tells those who hold something open by it, as long as there are any.
    by: HashMap<Credential, Weak<CancellationToken>>,
    /// Who looks. Begun anew with what opens next, should it ever have ended early.
    looking: Option<JoinHandle<()>>,
}

impl Recheck {
    pub(super) fn new(app: &App) -> Self {
        Self(Arc::new(Shared { app: app.clone(), open: Mutex::default() }))
    }

    /// Returns when this, which opens now, opens no more.
    pub(super) fn until_over(&self, credential: Credential) -> BoxFuture<'static, ()> {
        let over = self.0.hold(credential);
        async move { over.cancelled().await }.boxed()
    }
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(self: &Arc<Self>, credential: Credential) -> Arc<CancellationToken> {
        let mut open = self.open();
        if open.looking.as_ref().is_none_or(JoinHandle::is_finished) {
            open.looking = Some(tokio::spawn(Arc::clone(self).look()));
        }
        let held = open.by.entry(credential).or_default();
        held.upgrade().unwrap_or_else(|| {
            let over = Arc::default();
            *held = Arc::downgrade(&over);
            over
        })
    }

    async fn look(self: Arc<Self>) {
        let mut looked: Vec<Looked> = Vec::new();
        loop {
            // That something was used is noted meanwhile, or else after the next look.
            let (app, used) = (&self.app, std::mem::take(&mut looked));
            let noted = async move {
                for looked in used {
                    looked.note_use(app).await;
                }
            };
            let _ = join(sleep(PAUSE), timeout(PAUSE, noted)).await;
            let credentials: Vec<Credential> = {
                let mut open = self.open();
                open.by.retain(|_, over| over.strong_count() > 0);
                if open.by.is_empty() {
                    open.looking = None;
                    return;
                }
                open.by.keys().cloned().collect()
            };
            for piece in credentials.chunks(PIECE) {
                // What cannot be looked up is no news.
                let Ok(of_piece) = actor::look(&self.app, piece).await else { continue };
                for credential in piece.iter().filter(|credential| !of_piece.open.contains(*credential)) {
                    let over = self.open().by.remove(credential);
                    if let Some(over) = over.and_then(|over| over.upgrade()) {
                        over.cancel();
                    }
                }
                looked.push(of_piece);
            }
        }
    }
}
