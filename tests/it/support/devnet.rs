//! The local network of `tests/devnet`: real PDSes and a real directory, and the people who write there with plain XRPC.
//!
//! It goes when the value is dropped, and also when the test is killed: it lives only as long as its standard input.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

use std::{
    process::Stdio,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    time::{sleep, timeout},
};

/// The lexicon of events.
pub(crate) const EVENT: &str = "community.lexicon.calendar.event";
/// The lexicon of answers.
pub(crate) const RSVP: &str = "community.lexicon.calendar.rsvp";

/// The first start installs what the network is made of.
const START: Duration = Duration::from_mins(5);
/// Far more than one request to the network takes.
pub(crate) const REQUEST: Duration = Duration::from_secs(30);

/// A client for servers of this machine: plain http.
pub(crate) static HTTP: LazyLock<Client> = LazyLock::new(|| {
    // Whoever comes first may have set it.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().timeout(REQUEST).tls_certs_only([]).no_proxy().build().unwrap()
});

/// A network that nobody else uses.
#[derive(Debug)]
pub(crate) struct Devnet {
    /// What listens where.
    pub(crate) network: Network,
    accounts: AtomicUsize,
    /// Ends when its standard input is dropped with it.
    _process: Child,
}

/// The description that the network gives of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Network {
    control_url: String,
    /// The directory of identities.
    pub(crate) plc_url: String,
    dns: String,
    jetstream_url: String,
    relay_subscribe_repos: String,
    /// What lists the repositories.
    pub(crate) relay_url: String,
    pds: Vec<Pds>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pds {
    name: String,
    handle_domain: String,
    subscribe_repos: String,
}

impl Network {
    /// The Jetstream over both PDSes, as the gateway's configuration names it.
    pub(crate) fn jetstream(&self) -> String {
        format!("jetstream+{}", self.jetstream_url)
    }

    /// The relay's firehose over both PDSes.
    pub(crate) fn relay(&self) -> String {
        format!("firehose+{}", self.relay_subscribe_repos)
    }

    /// The firehose of one PDS.
    pub(crate) fn firehose(&self, pds: &str) -> String {
        format!("firehose+{}", self.pds(pds).subscribe_repos)
    }

    /// The gateway's settings for this network, as variables of its environment.
    pub(crate) fn settings(&self, endpoint: &str) -> Vec<(&'static str, String)> {
        vec![
            ("GATEWAY_STREAMS__ENDPOINTS", endpoint.to_owned()),
            ("GATEWAY_STREAMS__START", "oldest".to_owned()),
            ("GATEWAY_STREAMS__BACKFILL", String::new()),
            ("GATEWAY_NETWORK__ALLOW_PRIVATE", "true".to_owned()),
            ("GATEWAY_NETWORK__PLC_URL", self.plc_url.clone()),
            ("GATEWAY_NETWORK__APPVIEW_URL", String::new()),
            ("GATEWAY_NETWORK__DNS_SERVER", self.dns.clone()),
        ]
    }

    fn pds(&self, name: &str) -> &Pds {
        self.pds.iter().find(|pds| pds.name == name).expect("the network has this PDS")
    }
}

impl Devnet {
    /// Starts the network on free ports and waits until it is up.
    pub(crate) async fn start() -> Self {
        let run = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/devnet/run");
        let mut process = Command::new(run)
            .args(["--ports", "auto", "--until-stdin-closes"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tests/devnet/run starts");
        let mut said = process.stderr.take().unwrap();
        let log = tokio::spawn(async move {
            let mut text = String::new();
            said.read_to_string(&mut text).await.ok();
            text
        });
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = timeout(START, lines.next_line()).await.expect("the network starts in time").unwrap();
        let Some(first) = first else { panic!("the network did not start: {}", log.await.unwrap()) };
        let network = serde_json::from_str(&first).expect("the network describes itself");
        Self { network, accounts: AtomicUsize::new(0), _process: process }
    }

    /// A new account of a PDS, with a handle that begins with the name.
    pub(crate) async fn account(&self, name: &str, pds: &str) -> Account {
        let number = self.accounts.fetch_add(1, Ordering::Relaxed);
        let handle = format!("{name}-{number}{}", self.network.pds(pds).handle_domain);
        let made = self.control("accounts", json!({ "handle": handle, "pds": pds, "email": email(&handle) })).await;
        let text = |key: &str| made[key].as_str().unwrap_or_else(|| panic!("an account, not {made}")).to_owned();
        Account {
            did: text("did"),
            email: email(&handle),
            handle,
            pds: text("pdsUrl"),
            control: self.network.control_url.clone(),
            password: text("password"),
            token: text("accessJwt"),
        }
    }

    /// Takes a PDS away; its data stay.
    pub(crate) async fn stop_pds(&self, name: &str) {
        self.control(&format!("pds/stop?name={name}"), Value::Null).await;
    }

    /// Brings a PDS back.
    pub(crate) async fn start_pds(&self, name: &str) {
        self.control(&format!("pds/start?name={name}"), Value::Null).await;
    }

    /// Lets time pass for the whole network, in seconds.
    pub(crate) async fn pass_time(&self, seconds: i64) {
        self.control(&format!("clock/pass?seconds={seconds}"), Value::Null).await;
    }

    /// Cuts every open stream of the relay; returns how many there were.
    pub(crate) async fn drop_streams(&self) -> u64 {
        self.control("relay/drop", Value::Null).await["dropped"].as_u64().unwrap()
    }

    /// Lets the PDSes find `https://name` at another address.
    pub(crate) async fn virtual_host(&self, name: &str, address: &str) {
        self.control("virtual-hosts", json!({ name: address })).await;
    }

    async fn control(&self, path: &str, body: Value) -> Value {
        answer(HTTP.post(format!("{}/{path}", self.network.control_url)).json(&body)).await
    }
}

/// Somebody with a repository.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The decentralised identifier.
    pub(crate) did: String,
    /// The handle it was made with.
    pub(crate) handle: String,
    email: String,
    /// The origin of its PDS.
    pub(crate) pds: String,
    control: String,
    password: String,
    token: String,
}

/// What names one version of a record.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Written {
    /// The record.
    pub(crate) uri: String,
    /// The version.
    pub(crate) cid: String,
}

impl Account {
    /// What it signs in with.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    /// The URI of a record of this account.
    pub(crate) fn uri(&self, collection: &str, rkey: &str) -> String {
        format!("at://{}/{collection}/{rkey}", self.did)
    }

    /// Writes a new record, whose lexicon is its `$type`.
    pub(crate) async fn create(&self, record: &Value) -> Written {
        let body = json!({ "repo": self.did, "collection": record["$type"], "record": record });
        written(self.call("com.atproto.repo.createRecord", body).await)
    }

    /// Writes a record under a key, whatever stands there.
    pub(crate) async fn put(&self, uri: &str, record: &Value) -> Written {
        let mut body = self.named(uri);
        body["record"] = record.clone();
        written(self.call("com.atproto.repo.putRecord", body).await)
    }

    /// Deletes a record.
    pub(crate) async fn delete(&self, uri: &str) {
        self.call("com.atproto.repo.deleteRecord", self.named(uri)).await;
    }

    /// Deactivates the account.
    pub(crate) async fn deactivate(&self) {
        self.call("com.atproto.server.deactivateAccount", json!({})).await;
    }

    /// Activates the account again.
    pub(crate) async fn activate(&self) {
        self.call("com.atproto.server.activateAccount", Value::Null).await;
    }

    /// Takes another name under the same domain; returns the new handle.
    pub(crate) async fn rename(&self, name: &str) -> String {
        let (_, domain) = self.handle.split_once('.').unwrap();
        let handle = format!("{name}.{domain}");
        self.call("com.atproto.identity.updateHandle", json!({ "handle": handle })).await;
        handle
    }

    /// Its address of mail.
    pub(crate) fn email(&self) -> &str {
        &self.email
    }

    /// Confirms the address, with the token that the PDS mails.
    pub(crate) async fn confirm_email(&self) {
        self.call("com.atproto.server.requestEmailConfirmation", Value::Null).await;
        let token = self.mailed_token().await;
        self.call("com.atproto.server.confirmEmail", json!({ "email": self.email, "token": token })).await;
    }

    /// Deletes the account for good, with the token that its PDS mails.
    pub(crate) async fn erase(self) {
        self.call("com.atproto.server.requestAccountDelete", Value::Null).await;
        let token = self.mailed_token().await;
        let body = json!({ "did": self.did, "password": self.password, "token": token });
        self.call("com.atproto.server.deleteAccount", body).await;
    }

    async fn mailed_token(&self) -> String {
        let inbox = format!("{}/mail?to={}", self.control, self.email);
        let come = async {
            loop {
                let mails = answer(HTTP.get(&inbox)).await;
                if let Some(token) = mails.as_array().unwrap().iter().rev().find_map(|mail| mail["token"].as_str()) {
                    return token.to_owned();
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(REQUEST, come).await.expect("the token comes by mail")
    }

    fn named(&self, uri: &str) -> Value {
        let (collection, rkey) =
            uri.strip_prefix(&format!("at://{}/", self.did)).and_then(|path| path.split_once('/')).unwrap();
        json!({ "repo": self.did, "collection": collection, "rkey": rkey })
    }

    /// Calls a procedure of the account's PDS; `null` stands for no body.
    async fn call(&self, method: &str, body: Value) -> Value {
        let request = HTTP.post(format!("{}/xrpc/{method}", self.pds)).bearer_auth(&self.token);
        answer(if body.is_null() { request } else { request.json(&body) }).await
    }
}

/// The control server writes to such an address when none is named; named, the mail can be found again.
fn email(handle: &str) -> String {
    format!("{}@mail.test", handle.replace('.', "-"))
}

fn written(answer: Value) -> Written {
    serde_json::from_value(answer).expect("the URI and CID of what was written")
}

/// The answer's JSON, `null` where there is none; a refusal fails the test.
async fn answer(request: reqwest::RequestBuilder) -> Value {
    let response = request.send().await.expect("the network answers");
    let (status, url) = (response.status(), response.url().clone());
    let text = response.text().await.expect("the answer is whole");
    assert!(status.is_success(), "{url}: {status}: {text}");
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("the answer is JSON") }
}
