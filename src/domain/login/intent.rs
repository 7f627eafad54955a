//! What somebody signs in for: to use this browser, to give an app a session, or to link the account of the network to the
//! one that they are signed in with here.
//!
//! It is sealed with the login under way, so that at the end it is what it was at the beginning, and is checked again there.

use serde::{Deserialize, Serialize};

use super::WayBack;
use crate::{
    app::App,
    domain::{account::member, actor::Actor, person::Person, session::code},
    error::{Error, Result},
};

/// What a login is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum Intent {
    /// A session for the browser, which goes on to this place.
    Browse(WayBack),
    /// A session for an app, which is called with a code for it. The browser gets none.
    Enter(code::Wanted),
    /// A link between the account of the network and that of a member.
    Link(Linking),
}

/// A member who links an account of the network to their own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Linking {
    /// Where the browser goes on to.
    pub way_back: WayBack,
    /// What the member is called: people are shown whose the account will be.
    pub name: String,
    user: i64,
    pub(super) session: i64,
}

impl Intent {
    /// To link an account to that of whoever asks, by the session that their browser shows.
    ///
    /// Errors: those of [`Actor::person`]; `Forbidden` without a session; `NotFound` for a member who is no more.
    pub async fn link(app: &App, actor: &Actor, way_back: WayBack) -> Result<Self> {
        let person = actor.person()?;
        let session = person.session.ok_or(Error::Forbidden { why: "accounts are linked in a session only" })?;
        let missing = || Error::NotFound { what: "member", key: person.user.to_string() };
        let user = member::find(app.db.read(), person.user).await?.ok_or_else(missing)?;
        let name = user.display_name.or(user.email).unwrap_or_else(|| person.name().to_owned());
        Ok(Self::Link(Linking { way_back, name, user: person.user, session }))
    }

    /// Where the browser goes on to; no place for an app, which is called.
    pub fn way_back(&self) -> &str {
        match self {
            Self::Browse(way_back) | Self::Link(Linking { way_back, .. }) => way_back.as_str(),
            Self::Enter(_) => "",
        }
    }
}

impl Linking {
    /// The member, if it is their session that the browser shows now, too: else one could have the account of another linked
    /// to one's own, by having them sign in.
    ///
    /// Errors: `LINK_SESSION`.
    pub(super) fn confirmed<'a>(&self, actor: &'a Actor) -> Result<&'a Person> {
        let same = |person: &&Person| person.user == self.user && person.session == Some(self.session);
        let why = "the browser is not signed in as it was when this began";
        actor.person().ok().filter(same).ok_or_else(|| Error::invalid("session", "LINK_SESSION", why))
    }
}
