//! A PDS with its authorization server and a directory, which tell the truth until a test has them lie.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::stand::{listen, listen_at};

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Documents of DIDs, as a directory has them.
#[derive(Clone, Default)]
pub(super) struct Documents(Arc<Mutex<HashMap<String, Value>>>);

/// A directory.
pub(super) struct Plc {
    pub(super) documents: Documents,
    pub(super) url: String,
    task: JoinHandle<()>,
}

impl Plc {
    pub(super) async fn start() -> Self {
        Self::at("127.0.0.1:0", Documents::default()).await
    }

    /// The same, at an address that another one has left.
    pub(super) async fn at(address: &str, documents: Documents) -> Self {
        let look = |State(documents): State<Documents>, request: Request| async move {
            let found = documents.0.lock().unwrap().get(request.uri().path().trim_start_matches('/')).cloned();
            match found {
                Some(document) => answer(200, &[("content-type", "application/json")], document.to_string()),
                None => answer(404, &[], String::new()),
            }
        };
        let (url, task) = listen_at(address, Router::new().fallback(look).with_state(documents.clone())).await;
        Self { documents, url, task }
    }
}

impl Drop for Plc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is changed of one answer.
#[derive(Clone, Debug)]
pub(super) enum Lie {
    /// A field has another value, or is not there.
    Field(&'static str, Option<Value>),
    /// Another status.
    Status(u16),
    /// Another header, or none.
    Header(&'static str, Option<&'static str>),
    /// Another body.
    Body(Vec<u8>),
}

#[derive(Default)]
struct Inner {
    origin: String,
    did: String,
    lies: Vec<(&'static str, Lie)>,
    /// What was asked, in order: path and form.
    asked: Vec<(String, HashMap<String, String>)>,
    /// Refresh tokens that are good, and how many were handed out.
    refresh: String,
    handed_out: u64,
    expires_in: i64,
    /// Milliseconds before a token is handed out.
    slow: u64,
    /// Where it does not answer for now.
    stalled: Option<&'static str>,
    /// The only scopes that it knows, where it does not know all.
    known: Option<&'static [&'static str]>,
    /// What it grants, instead of the transitional scopes.
    granted: Option<String>,
}

/// A PDS.
pub(super) struct Liar {
    inner: Arc<Mutex<Inner>>,
    pub(super) origin: String,
    pub(super) did: String,
    documents: Documents,
    task: JoinHandle<()>,
}

impl Liar {
    /// One with an account, which the directory knows.
    pub(super) async fn start(plc: &Plc) -> Self {
        let inner = Arc::new(Mutex::new(Inner { expires_in: 300, ..Inner::default() }));
        let (origin, task) = listen(Router::new().fallback(serve).with_state(Arc::clone(&inner))).await;
        let did = new_did();
        let documents = plc.documents.clone();
        documents.0.lock().unwrap().insert(did.clone(), document(&did, &origin));
        {
            let mut inner = inner.lock().unwrap();
            inner.origin.clone_from(&origin);
            inner.did.clone_from(&did);
        }
        Self { inner, origin, did, documents, task }
    }

    /// Changes what is answered at a path, from now on.
    pub(super) fn lie(&self, path: &'static str, lie: Lie) {
        self.inner.lock().unwrap().lies.push((path, lie));
    }

    /// Tells the truth again.
    pub(super) fn repent(&self) {
        self.inner.lock().unwrap().lies.clear();
    }

    /// Has the directory say something else of the account.
    pub(super) fn documented(&self, document: Value) {
        self.documents.0.lock().unwrap().insert(self.did.clone(), document);
    }

    /// How long tokens live from now on, in seconds, and how long each takes to be handed out, in milliseconds.
    pub(super) fn hands_out(&self, expires_in: i64, slow: u64) {
        let mut inner = self.inner.lock().unwrap();
        (inner.expires_in, inner.slow) = (expires_in, slow);
    }

    /// Does not answer at a path until it is told to.
    pub(super) fn stalls(&self, path: Option<&'static str>) {
        self.inner.lock().unwrap().stalled = path;
    }

    /// Knows no scopes but these, from now on.
    pub(super) fn knows(&self, scopes: &'static [&'static str]) {
        self.inner.lock().unwrap().known = Some(scopes);
    }

    /// Grants this, from now on, whatever is asked for.
    pub(super) fn grants(&self, scope: &str) {
        self.inner.lock().unwrap().granted = Some(scope.to_owned());
    }

    /// Has the directory know nothing of the account any more.
    pub(super) fn vanish(&self) {
        self.documents.0.lock().unwrap().remove(&self.did);
    }

    /// Has the refresh token used that the gateway knows, as if by somebody else.
    pub(super) fn loses_track(&self) {
        self.inner.lock().unwrap().refresh.clear();
    }

    /// The forms that came to a path.
    pub(super) fn asked(&self, path: &str) -> Vec<HashMap<String, String>> {
        let inner = self.inner.lock().unwrap();
        inner.asked.iter().filter(|(asked, _)| asked == path).map(|(_, form)| form.clone()).collect()
    }

    /// How many tokens it has handed out.
    pub(super) fn handed_out(&self) -> u64 {
        self.inner.lock().unwrap().handed_out
    }

    /// The state of the login that was asked for last.
    pub(super) fn state(&self) -> String {
        self.asked("/par").last().unwrap()["state"].clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A DID that nobody has.
pub(super) fn new_did() -> String {
    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = [b'a'; 24];
    for letter in name.iter_mut().rev() {
        *letter = ALPHABET[usize::try_from(number % 32).unwrap()];
        number /= 32;
    }
    format!("did:plc:{}", std::str::from_utf8(&name).unwrap())
}

/// The document of a DID whose PDS is there.
pub(super) fn document(did: &str, pds: &str) -> Value {
    json!({
        "id": did,
        "service": [{ "id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds }],
    })
}

/// What an honest authorization server says of itself.
pub(super) fn metadata(origin: &str) -> Value {
    json!({
        "issuer": origin,
        "authorization_endpoint": format!("{origin}/authorize"),
        "token_endpoint": format!("{origin}/token"),
        "pushed_authorization_request_endpoint": format!("{origin}/par"),
        "revocation_endpoint": format!("{origin}/revoke"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
        "dpop_signing_alg_values_supported": ["ES256"],
        "scopes_supported": ["atproto"],
        "authorization_response_iss_parameter_supported": true,
        "require_pushed_authorization_requests": true,
        "client_id_metadata_document_supported": true,
    })
}

async fn serve(State(inner): State<Arc<Mutex<Inner>>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let headers = request.headers().clone();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let slow = {
        let mut inner = inner.lock().unwrap();
        inner.asked.push((path.clone(), form.clone()));
        inner.slow
    };
    while inner.lock().unwrap().stalled == Some(&path) {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    if path == "/token" && slow > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(slow)).await;
    }
    let mut inner = inner.lock().unwrap();
    let (mut status, mut said) = honest(&mut inner, &path, &form, &headers);
    let mut told: Vec<(&str, &str)> = vec![("content-type", "application/json"), ("dpop-nonce", "nonce-1")];
    let mut body = None;
    for (_, lie) in inner.lies.iter().filter(|(lied, _)| *lied == path) {
        match lie {
            Lie::Field(name, Some(value)) => said[*name] = value.clone(),
            Lie::Field(name, None) => drop(said.as_object_mut().unwrap().remove(*name)),
            Lie::Status(other) => status = *other,
            Lie::Header(name, value) => {
                told.retain(|(known, _)| known != name);
                told.extend(value.map(|value| (*name, value)));
            }
            Lie::Body(bytes) => body = Some(bytes.clone()),
        }
    }
    answer(status, &told, body.unwrap_or_else(|| said.to_string().into_bytes()))
}

fn honest(inner: &mut Inner, path: &str, form: &HashMap<String, String>, headers: &HeaderMap) -> (u16, Value) {
    let origin = inner.origin.clone();
    match path {
        "/.well-known/oauth-protected-resource" => {
            (200, json!({ "resource": origin, "authorization_servers": [origin] }))
        }
        "/.well-known/oauth-authorization-server" => (200, metadata(&origin)),
        "/par" if inner.known.is_some_and(|known| form["scope"].split(' ').any(|one| !known.contains(&one))) => {
            (400, json!({ "error": "invalid_scope", "error_description": "no such scope" }))
        }
        "/par" => (201, json!({ "request_uri": "urn:ietf:params:oauth:request_uri:1", "expires_in": 300 })),
        "/token" => {
            let is_refresh = form["grant_type"] == "refresh_token";
            if is_refresh && form.get("refresh_token") != Some(&inner.refresh) {
                return (400, json!({ "error": "invalid_grant", "error_description": "it was used" }));
            }
            inner.handed_out += 1;
            inner.refresh = format!("refresh-{}", inner.handed_out);
            (
                200,
                json!({
                    "access_token": format!("access-{}", inner.handed_out),
                    "refresh_token": inner.refresh,
                    "token_type": "DPoP",
                    "expires_in": inner.expires_in,
                    "scope": inner.granted.as_deref().unwrap_or("atproto transition:generic transition:email"),
                    "sub": inner.did,
                }),
            )
        }
        "/revoke" => (200, json!({})),
        _ if path.starts_with("/xrpc/") => {
            let shown = headers.get("authorization").and_then(|shown| shown.to_str().ok()).unwrap_or_default();
            (200, json!({ "shown": shown, "did": inner.did }))
        }
        _ => (404, json!({ "error": "NotFound" })),
    }
}

fn answer(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}
