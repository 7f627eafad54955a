//! Who asks: the key or the session that a request, an event stream or a socket shows.

use std::{sync::Arc, time::Duration};

use async_graphql::Data;
use axum::http::header;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::error;
use uuid::Uuid;

use super::{
    context::RequestLoaders,
    guard::{Code, Refusal},
    tenant,
    transport::{Attach, Origins, RequestInfo, Transport},
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

/// How soon what a key or a session has open ends after it was revoked.
const RECHECK: Duration = Duration::from_secs(5);
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
}

impl Callers {
    pub(super) fn new(app: &App) -> Self {
        let origins = Origins { allowed: app.config.http.allowed_origins.clone() };
        let places = || Arc::new(Semaphore::new(LOOK_UPS));
        Self { app: app.clone(), origins, places: places(), vouched: places() }
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
        // Whether there is such a tenant was asked at the door.
        let named = info.headers.get(tenant::HEADER).map(|name| name.to_str().unwrap_or_default());
        let actor = actor::identify(&self.app, shown, named).await.map_err(|error| refusal(&error));
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
    fn attach<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<Data, Refusal>> {
        async move {
            let mut data = Data::default();
            let actor = self.identify(info).await?;
            let meant = match &actor {
                Actor::Key(key) => Some(key.tenant),
                Actor::Person(person) => Some(person.tenant),
                Actor::Anonymous | Actor::Operator => info.extensions.get::<Tenant>().copied(),
            };
            match meant {
                // In the place of the schema's own.
                Some(tenant) => {
                    let app = self.app.of(tenant);
                    data.insert(RequestLoaders::new(&app));
                    data.insert(app);
                }
                None => data.insert(RequestLoaders::new(&self.app)),
            }
            data.insert(actor);
            Ok(data)
        }
        .boxed()
    }

    fn admits<'a>(&'a self, info: &'a RequestInfo) -> BoxFuture<'a, Result<(), Refusal>> {
        async move { self.identify(info).await.map(drop) }.boxed()
    }

    fn expires(&self, info: &RequestInfo) -> Option<BoxFuture<'static, ()>> {
        let app = self.app.clone();
        let Shown { authorization, cookie } = self.shown(info);
        let (authorization, cookie) = (authorization.map(str::to_owned), cookie.map(str::to_owned));
        if authorization.is_none() && cookie.is_none() {
            return None;
        }
        let expires = async move {
            loop {
                // Not all at the same time.
                sleep(RECHECK.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                // What cannot be looked up is no news.
                let shown = Shown { authorization: authorization.as_deref(), cookie: cookie.as_deref() };
                if let Err(Error::Unauthenticated { .. }) | Ok(Actor::Anonymous) =
                    actor::identify(&app, shown, None).await
                {
                    return;
                }
            }
        };
        Some(expires.boxed())
    }
}

/// `authorization` in the payload of `connection_init`, which is all that a browser can send, else the header.
fn authorization(info: &RequestInfo) -> Option<&str> {
    let mut said = info.init.iter().flatten();
    let said = said.find(|(name, value)| name.eq_ignore_ascii_case("authorization") && !value.is_null());
    // What is no text opens nothing, and neither does what is no plain text.
    let said = said.map(|(_, value)| value.as_str().unwrap_or_default());
    said.or_else(|| Some(info.headers.get(header::AUTHORIZATION)?.to_str().unwrap_or_default()))
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
