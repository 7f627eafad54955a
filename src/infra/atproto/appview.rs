//! Public profiles at an AppView, which knows what no PDS does: counts, and what its moderators withhold.
//!
//! Invariant: one request asks for up to 25 accounts, and nobody is asked for twice at once. Whoever asks, for whatever, within
//! a few milliseconds of another shares a request; so a page of a thousand people is forty requests, however its fields are
//! resolved, and whether by few queries or by many at once. Nothing is kept: callers keep what they learn.
//!
//! Texts are as the AppView sent them; an entry that cannot be read, or that nobody asked for, is left out.

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::sync::oneshot;
use url::Url;

use super::syntax::{Did, Handle};
use crate::{
    error::{Error, Result},
    infra::http::{Answer, Outbound, Request},
};

/// Accounts of one request: what the protocol allows.
pub const MOST: usize = 25;
/// How long whoever came last waits for others. With 25 there are enough, so nobody waits for 25 times as long.
const LINGER: Duration = Duration::from_millis(10);
/// Longest name of an account that is asked for: 25 of them still make a URL that servers accept.
const MAX_NAME: usize = 300;
/// A profile has some kilobytes.
const MAX_BYTES: usize = 2 * 1024 * 1024;
const SERVICE: &str = "appview";

/// What an AppView says of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose profile it is.
    pub did: Did,
    /// The handle, lower case, if the AppView has verified it.
    pub handle: Option<Handle>,
    /// Name to show.
    pub display_name: Option<String>,
    /// Biography.
    pub description: Option<String>,
    /// Address of the picture.
    pub avatar: Option<String>,
    /// Address of the picture behind the page.
    pub banner: Option<String>,
    /// How many accounts follow it.
    pub followers: Option<u64>,
    /// How many accounts it follows.
    pub follows: Option<u64>,
    /// How many posts it has written.
    pub posts: Option<u64>,
    /// What it is labelled as.
    pub labels: Vec<Label>,
}

/// A label of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The DID of who says so: the account itself, or a labeller.
    pub source: String,
    /// What is said, such as `!hide`.
    pub value: String,
}

/// One AppView. Cheap to clone; clones share their requests.
#[derive(Clone)]
pub struct AppView(Arc<Shared>);

struct Shared {
    outbound: Outbound,
    url: Url,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Who waits for which account, whether or not the request is under way.
    asked: HashMap<String, Vec<oneshot::Sender<Result<Option<Seen>>>>>,
    /// Accounts of the next request.
    next: Vec<String>,
    /// Whether somebody lingers, and will send that request.
    is_timed: bool,
    /// How many accounts have been asked for so far.
    came: u64,
}

impl AppView {
    /// The AppView at an origin.
    pub fn new(outbound: Outbound, url: Url) -> Self {
        Self(Arc::new(Shared { outbound, url, waiting: Mutex::default() }))
    }

    /// The profile of an account, by DID or by handle in lower case.
    ///
    /// `None` when the AppView shows none: it does not know the account, or [withholds](Self::withholds) it. `Upstream` and
    /// `RateLimited` when it is away; everybody in the same request gets the same.
    pub async fn profile(&self, actor: &str) -> Result<Option<Seen>> {
        if actor.len() > MAX_NAME {
            return Ok(None);
        }
        let (tell, told) = oneshot::channel();
        let full = {
            let mut waiting = self.waiting();
            let listeners = waiting.asked.entry(actor.to_owned()).or_default();
            listeners.push(tell);
            if listeners.len() > 1 {
                None
            } else {
                waiting.next.push(actor.to_owned());
                waiting.came += 1;
                if waiting.next.len() >= MOST {
                    Some(std::mem::take(&mut waiting.next))
                } else {
                    if !waiting.is_timed {
                        waiting.is_timed = true;
                        tokio::spawn(self.clone().linger());
                    }
                    None
                }
            }
        };
        if let Some(actors) = full {
            // On its own: whoever asks may go away, and others wait for the same answer.
            tokio::spawn(self.clone().answer(actors));
        }
        told.await.unwrap_or_else(|_| Err(Error::upstream(SERVICE, anyhow!("the program is ending"))))
    }

    /// Whether an account for which there is no [`profile`](Self::profile) is one that the AppView knows and does not show: taken
    /// down, suspended or deactivated.
    pub async fn withholds(&self, did: &Did) -> Result<bool> {
        let answer = self.ask("app.bsky.actor.getProfile", &[("actor", did.as_str())]).await?;
        match answer.status {
            200 => Ok(false),
            400..500 => Ok(name_of(&answer).is_some_and(|name| name.starts_with("Account"))),
            status => Err(Error::upstream(SERVICE, anyhow!("status {status} for the profile of {did}"))),
        }
    }

    /// Sends what has gathered once nobody has come for a while: of queries at once, which come one by one, each may be its
    /// own length behind the one before.
    async fn linger(self) {
        let mut seen = self.waiting().came;
        let actors = loop {
            tokio::time::sleep(LINGER).await;
            let mut waiting = self.waiting();
            if waiting.next.is_empty() || waiting.came == seen {
                waiting.is_timed = false;
                break std::mem::take(&mut waiting.next);
            }
            seen = waiting.came;
        };
        if !actors.is_empty() {
            self.answer(actors).await;
        }
    }

    async fn answer(self, actors: Vec<String>) {
        let outcome = self.fetch(&actors).await;
        let mut waiting = self.waiting();
        for actor in actors {
            for listener in waiting.asked.remove(&actor).into_iter().flatten() {
                let told = match &outcome {
                    Ok(found) => Ok(found.get(&actor).cloned()),
                    Err(Error::RateLimited { retry_after }) => Err(Error::RateLimited { retry_after: *retry_after }),
                    Err(error) => Err(Error::upstream(SERVICE, anyhow!(error.chain()))),
                };
                // Who has gone away needs no answer.
                let _ = listener.send(told);
            }
        }
    }

    /// The profiles of up to 25 accounts, by the names they were asked by. An AppView refuses the whole list for one name that it
    /// does not like, so the list is halved until that one is alone.
    async fn fetch(&self, actors: &[String]) -> Result<HashMap<String, Seen>> {
        let query: Vec<_> = actors.iter().map(|actor| ("actors", actor.as_str())).collect();
        let answer = self.ask("app.bsky.actor.getProfiles", &query).await?;
        match answer.status {
            200 => {
                let seen = parse(&answer.body).map_err(|error| Error::upstream(SERVICE, error))?;
                Ok(by_name(actors, seen))
            }
            400 if actors.len() > 1 => {
                let (first, second) = actors.split_at(actors.len() / 2);
                let mut found = Box::pin(self.fetch(first)).await?;
                found.extend(Box::pin(self.fetch(second)).await?);
                Ok(found)
            }
            400 => Ok(HashMap::new()),
            status => Err(Error::upstream(SERVICE, anyhow!("status {status} for {} profiles", actors.len()))),
        }
    }

    async fn ask(&self, method: &str, query: &[(&str, &str)]) -> Result<Answer> {
        let mut url = self.0.url.join(&format!("/xrpc/{method}")).map_err(Error::bug)?;
        url.query_pairs_mut().extend_pairs(query);
        let request = Request { max_body_bytes: Some(MAX_BYTES), ..Request::get(url) };
        self.0.outbound.send(SERVICE, request).await
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for AppView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppView").field("url", &self.0.url.as_str()).finish_non_exhaustive()
    }
}

/// An AppView speaks of whom it was asked for; what it says of others is not believed.
fn by_name(actors: &[String], seen: Vec<Seen>) -> HashMap<String, Seen> {
    let mut found = HashMap::new();
    for seen in seen {
        let handle = seen.handle.as_ref().map(Handle::as_str);
        for actor in actors {
            if actor == seen.did.as_str() || Some(actor.as_str()) == handle {
                found.insert(actor.clone(), seen.clone());
            }
        }
    }
    found
}

/// The entries of an answer that can be read.
fn parse(body: &[u8]) -> serde_json::Result<Vec<Seen>> {
    #[derive(Deserialize)]
    struct Page<'a> {
        #[serde(borrow)]
        profiles: Vec<&'a RawValue>,
    }
    let page: Page<'_> = serde_json::from_slice(body)?;
    Ok(page.profiles.iter().filter_map(|text| entry(text.get())).collect())
}

fn entry(text: &str) -> Option<Seen> {
    let entry: Value = serde_json::from_str(text).ok()?;
    let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
    let count = |name: &str| entry.get(name)?.as_u64();
    let handle = text("handle").filter(|handle| handle != "handle.invalid");
    let labels = entry.get("labels").and_then(Value::as_array).into_iter().flatten();
    let label = |label: &Value| {
        let text = |name: &str| label.get(name)?.as_str().map(str::to_owned);
        // A negation takes a label back.
        let is_taken_back = label.get("neg").and_then(Value::as_bool) == Some(true);
        (!is_taken_back).then_some(Label { source: text("src")?, value: text("val")? })
    };
    Some(Seen {
        did: Did::parse(&text("did")?).ok()?,
        handle: handle.and_then(|handle| Handle::parse(&handle).ok()).map(|handle| handle.to_lowercase()),
        display_name: text("displayName"),
        description: text("description"),
        avatar: text("avatar"),
        banner: text("banner"),
        followers: count("followersCount"),
        follows: count("followsCount"),
        posts: count("postsCount"),
        labels: labels.filter_map(label).collect(),
    })
}

/// The name of the failure that an answer tells of.
fn name_of(answer: &Answer) -> Option<String> {
    let body: Value = serde_json::from_slice(&answer.body).ok()?;
    Some(body.get("error")?.as_str()?.to_owned())
}
