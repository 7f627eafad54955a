//! Who asks: the key or the session that a request, an event stream or a socket shows.

use std::{sync::Arc, time::Duration};

use async_graphql::Data;
use axum::http::{HeaderName, header};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{sync::Semaphore, time::timeout};
use tracing::error;
use uuid::Uuid;

use super::{
    context::RequestLoaders,
    guard::{Code, Refusal},
    recheck::Recheck,
    tenant,
    transport::{Attach, Audience, Named, Origins, RequestInfo, Sender, Transport},
};
use crate::{
    api::http::cookie,
    app::App,
    domain::{
        actor::{self, Actor, Shown},
        tenant::Tenant,
    },
    error::Error,
};

/// Keys that are looked up at once: strangers who show made-up ones must not take all connections to the database.
const LOOK_UPS: usize = 4;
/// How long a key waits to be looked up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Knows callers by their keys and sessions.
pub(super) struct Callers {
    app: App,
    origins: Origins,
    places: Arc<Semaphore>,
    /// Places of those for whom a foreign host has to be asked: when it is slow, nobody else waits.
    vouched: Arc<Semaphore>,
    recheck: Recheck,
}

impl Callers {
    pub(super) fn new(app: &App) -> Self {
        let origins = Origins { allowed: app.config.http.allowed_origins.clone() };
        let places = || Arc::new(Semaphore::new(LOOK_UPS));
        Self { app: app.clone(), origins, places: places(), vouched: places(), recheck: Recheck::new(app) }
    }

    async fn identify(&self, info: &RequestInfo) -> Result<Actor, Refusal> {
        let shown = self.shown(info);
        if let Shown { authorization: None, cookie: None } = shown {
            return Ok(Actor::Anonymous);
        }
        let is_for_one_request = shown.is_for_one_request();
        if info.transport != Transport::Http && is_for_one_request {
            let why = "failed to know the caller: this token is for one request";
            return Err(Refusal::new(Code::Unauthenticated, why));
        }
        let busy = |_| Refusal::new(Code::Unavailable, "too many keys are being looked up; try again");
        let places = if is_for_one_request { &self.vouched } else { &self.places };
        let place = timeout(PATIENCE, places.acquire()).await.map_err(busy)?;
        // Whether there is such a tenant was asked at the door, or is asked when the socket is opened.
        let actor = actor::identify(&self.app, shown, named(info)).await.map_err(|error| refusal(&error));
        drop(place);
        actor
    }

    /// A header counts before a cookie, and a cookie only where the page that sends it may act for its person.
    fn shown<'a>(&self, info: &'a RequestInfo) -> Shown<'a> {
        let cookie = cookie::shown(&self.app, &info.headers).filter(|_| self.origins.vouches(&info.headers));
        Shown { authorization: authorization(info), cookie }
    }
}

impl Attach for Callers {
    fn attach<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<Sender, Refusal>> {
        async move {
            let actor = self.identify(info).await?;
            let tenant = match &actor {
                Actor::Key(key) => Some(key.tenant),
                Actor::Person(person) => Some(person.tenant),
                Actor::Anonymous | Actor::Operator => meant(info),
            };
            let app = self.app.of(tenant.unwrap_or(self.app.tenant));
            let mut data = surroundings(&app);
            let is_somebody = actor != Actor::Anonymous;
            let name = is_somebody.then(|| actor.name().to_owned());
            data.insert(Named { tenant: app.tenant.id(), name });
            data.insert(actor);
            let audience = Audience::new(app.tenant.id(), move || surroundings(&app));
            Ok(Sender { data, audience: Some(audience), is_somebody })
        }
        .boxed()
    }

    fn admits<'a>(&'a self, info: &'a mut RequestInfo) -> BoxFuture<'a, Result<bool, Refusal>> {
        async move {
            // The door has looked at the header only.
            if let Some(name) = said(info, tenant::HEADER.as_str()) {
                let found = Tenant::by_slug(self.app.db.read(), name).await.map_err(|error| refusal(&error))?;
                let tenant = found.ok_or_else(tenant::unknown)?;
                info.extensions.insert(tenant);
            }
            Ok(self.identify(info).await? != Actor::Anonymous)
        }
        .boxed()
    }

    fn expires(&self, info: &RequestInfo) -> Option<BoxFuture<'static, ()>> {
        Some(self.recheck.until_over(self.shown(info).credential()?))
    }
}

/// What the resolvers of an operation need besides its actor: without one, it is asked by nobody in particular.
fn surroundings(app: &App) -> Data {
    let mut data = Data::default();
    data.insert(RequestLoaders::new(app));
    // In the place of the schema's own.
    data.insert(app.clone());
    data
}

/// The tenant that is meant, as it was found at the door.
fn meant(info: &RequestInfo) -> Option<Tenant> {
    info.extensions.get::<Tenant>().copied()
}

/// `authorization` in the payload of `connection_init`, which is all that a browser can send, else the header.
fn authorization(info: &RequestInfo) -> Option<&str> {
    said(info, header::AUTHORIZATION.as_str()).or_else(|| headed(info, &header::AUTHORIZATION))
}

/// The name of the tenant that is meant, from the same places.
fn named(info: &RequestInfo) -> Option<&str> {
    said(info, tenant::HEADER.as_str()).or_else(|| headed(info, &tenant::HEADER))
}

/// What the payload of `connection_init` says under a name. What is no text opens nothing and names nobody.
fn said<'a>(info: &'a RequestInfo, name: &str) -> Option<&'a str> {
    let mut said = info.init.iter().flatten();
    let said = said.find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null());
    said.map(|(_, value)| value.as_str().unwrap_or_default())
}

/// The same of a header.
fn headed<'a>(info: &'a RequestInfo, name: &HeaderName) -> Option<&'a str> {
    info.headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

fn refusal(error: &Error) -> Refusal {
    match error {
        Error::Bug(_) => {
            let id = Uuid::now_v7();
            error!(error.id = %id, error = error.chain(), "a caller was not looked up");
            Refusal::new(Code::Internal, format!("internal error {id}"))
        }
        error => Refusal::new(error.code(), format!("failed to {error}")),
    }
}
