//! What a resolver finds in its context: the app, and the loaders of the request.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use anyhow::anyhow;
use async_graphql::Context;

use super::{error::Failure, loaders::Loaders};
use crate::{app::App, domain::actor::Actor, error::Error};

/// The loaders that a request, or one delivery of a subscription, shares. Put into the data of every request.
///
/// A subscription calls [`RequestLoaders::renew`] before each delivery, so that nothing it shows is older than that.
pub struct RequestLoaders {
    app: App,
    current: Mutex<Loaders>,
}

impl RequestLoaders {
    /// Fresh loaders.
    pub fn new(app: &App) -> Self {
        Self { app: app.clone(), current: Mutex::new(Loaders::new(app)) }
    }

    /// Forgets everything that was loaded.
    pub(crate) fn renew(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Loaders::new(&self.app);
    }

    fn current(&self) -> Loaders {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for RequestLoaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestLoaders")
    }
}

/// What resolvers ask their context for.
pub(crate) trait Surroundings {
    /// The running program.
    fn app(&self) -> Result<&App, Failure>;

    /// The loaders to use now; cheap to clone.
    fn loaders(&self) -> Result<Loaders, Failure>;

    /// Who asks.
    fn actor(&self) -> &Actor;

    /// The holder of the loaders, for subscriptions.
    fn request_loaders(&self) -> Result<&RequestLoaders, Failure>;
}

impl Surroundings for Context<'_> {
    fn app(&self) -> Result<&App, Failure> {
        self.data_opt().ok_or_else(|| Error::bug(anyhow!("the schema has no app")).into())
    }

    fn loaders(&self) -> Result<Loaders, Failure> {
        Ok(self.request_loaders()?.current())
    }

    fn actor(&self) -> &Actor {
        // Whoever attaches nobody asks for nobody in particular.
        self.data_opt().unwrap_or(&Actor::Anonymous)
    }

    fn request_loaders(&self) -> Result<&RequestLoaders, Failure> {
        self.data_opt().ok_or_else(|| Error::bug(anyhow!("the request has no loaders")).into())
    }
}
