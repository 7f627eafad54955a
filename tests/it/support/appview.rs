//! A stand-in for the AppView, which the network of `tests/devnet` does not have: it speaks the real wire format.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// An AppView on a port of its own.
#[derive(Debug)]
pub(crate) struct AppView {
    /// Its origin.
    pub(crate) url: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Profiles by DID.
    profiles: Mutex<HashMap<String, Value>>,
    /// DIDs that are taken down.
    taken_down: Mutex<Vec<String>>,
    /// Whether it has a profile of everybody.
    knows_all: AtomicBool,
    is_away: AtomicBool,
    requests: AtomicUsize,
}

impl AppView {
    /// One that knows nobody.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let router = Router::new()
            .route("/xrpc/app.bsky.actor.getProfiles", get(profiles))
            .route("/xrpc/app.bsky.actor.getProfile", get(profile))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, server }
    }

    /// It knows somebody, under a handle; `more` are further fields of the profile.
    pub(crate) fn knows(&self, did: &str, handle: &str, more: &Value) {
        let mut profile = view(did, handle);
        let more = more.as_object().cloned().unwrap_or_default();
        profile.as_object_mut().unwrap().extend(more);
        self.shared.profiles.lock().unwrap().insert(did.to_owned(), profile);
    }

    /// It has a profile of everybody who is asked for by DID.
    pub(crate) fn knows_all(&self) {
        self.shared.knows_all.store(true, Ordering::SeqCst);
    }

    /// It has taken somebody down.
    pub(crate) fn takes_down(&self, did: &str) {
        self.shared.taken_down.lock().unwrap().push(did.to_owned());
    }

    /// It answers nobody, or everybody again.
    pub(crate) fn is_away(&self, is_away: bool) {
        self.shared.is_away.store(is_away, Ordering::SeqCst);
    }

    /// How many requests it got so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for AppView {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// As `app.bsky.actor.defs#profileViewDetailed`.
fn view(did: &str, handle: &str) -> Value {
    json!({
        "did": did,
        "handle": handle,
        "displayName": format!("Name of {handle}"),
        "description": "Somebody.",
        "avatar": format!("https://cdn.example.com/img/avatar/plain/{did}/bafkrei@jpeg"),
        "banner": format!("https://cdn.example.com/img/banner/plain/{did}/bafkrei@jpeg"),
        "associated": { "lists": 0, "feedgens": 0, "starterPacks": 0, "labeler": false },
        "labels": [],
        "followersCount": 12,
        "followsCount": 3,
        "postsCount": 456,
        "indexedAt": "2031-03-01T12:00:00.000Z",
        "createdAt": "2030-03-01T12:00:00.000Z",
    })
}

impl Shared {
    fn find(&self, actor: &str) -> Option<Value> {
        if self.taken_down.lock().unwrap().iter().any(|did| did == actor) {
            return None;
        }
        let profiles = self.profiles.lock().unwrap();
        let found = profiles.get(actor).or_else(|| profiles.values().find(|profile| profile["handle"] == actor));
        let anybody = || {
            let is_known = self.knows_all.load(Ordering::SeqCst) && actor.starts_with("did:");
            is_known.then(|| view(actor, &format!("{}.example.com", actor.trim_start_matches("did:plc:"))))
        };
        found.cloned().or_else(anybody)
    }

    /// Counts a request; what is said while it is away.
    fn count(&self) -> Option<Response> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let is_away = self.is_away.load(Ordering::SeqCst);
        is_away.then(|| (StatusCode::BAD_GATEWAY, "upstream is away").into_response())
    }
}

fn values(query: Option<&str>, key: &str) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.filter(|(name, _)| name == key).map(|(_, value)| value.into_owned()).collect()
}

fn refuse(name: &str, message: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": name, "message": message }))).into_response()
}

async fn profiles(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    if let Some(away) = shared.count() {
        return away;
    }
    let actors = values(query.as_deref(), "actors");
    if actors.len() > 25 {
        return refuse("InvalidRequest", "Error: actors must not have more than 25 elements");
    }
    let found: Vec<Value> = actors.iter().filter_map(|actor| shared.find(actor)).collect();
    Json(json!({ "profiles": found })).into_response()
}

async fn profile(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    if let Some(away) = shared.count() {
        return away;
    }
    let actor = values(query.as_deref(), "actor").pop().unwrap_or_default();
    if shared.taken_down.lock().unwrap().contains(&actor) {
        return refuse("AccountTakedown", "Account has been suspended");
    }
    match shared.find(&actor) {
        Some(found) => Json(found).into_response(),
        None => refuse("InvalidRequest", "Profile not found"),
    }
}
