//! Public profiles of the network.

#![expect(clippy::duplicated_attributes, reason = "several fields of an interface have the same type")]

use async_graphql::{Context, Enum, Interface, Object, SimpleObject};
use futures_util::FutureExt;

use super::{
    account::{Account, ShadowAccount, User},
    context::Surroundings,
    directives::{cost, semanticNonNull},
    error::{Failure, Fallible},
    filter::ActorRef,
    scalars::{DateTime, Did, Handle, Url},
};
use crate::{
    domain::{
        account::{self, Actor},
        profile::{self, Shown},
    },
    error::Error,
};

/// What a profile is charged: a foreign host may have to be asked.
pub(super) const PROFILE: i32 = 5;

/// Where a profile comes from, and so what can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "profile::Source")]
pub(crate) enum ProfileSource {
    /// The AppView: everything is known.
    AppView,
    /// The record at the account's PDS: no counts and no pictures.
    Pds,
    /// The DID document: identifier and handle only.
    Identity,
}

/// How old data of the network is.
#[derive(Clone, Copy, Debug, SimpleObject)]
pub(crate) struct Freshness {
    /// When the data was fetched.
    fetched_at: DateTime,
    /// It is older than it should be, and is being fetched anew.
    is_stale: bool,
}

/// Public data of an ATProtocol account, read through a cache.
#[derive(Clone, Debug, Interface)]
#[graphql(
    field(name = "did", ty = "Did", desc = "Decentralised identifier."),
    field(name = "handle", ty = "Option<Handle>", desc = "Current handle; null unless it is verified."),
    field(name = "display_name", ty = "Option<String>", desc = "Name to show."),
    field(name = "description", ty = "Option<String>", desc = "Biography."),
    field(name = "avatar_url", ty = "Option<Url>", desc = "Picture; https."),
    field(name = "banner_url", ty = "Option<Url>", desc = "Picture behind the page; https."),
    field(
        name = "followers_count",
        ty = "Option<i32>",
        desc = "How many accounts follow it; known to an AppView only."
    ),
    field(
        name = "follows_count",
        ty = "Option<i32>",
        desc = "How many accounts it follows; known to an AppView only."
    ),
    field(name = "posts_count", ty = "Option<i32>", desc = "How many posts it has written; known to an AppView only."),
    field(name = "pds_url", ty = "Option<Url>", desc = "Origin of the account's PDS, where it is known."),
    field(
        name = "is_restricted",
        ty = "bool",
        desc = "The account asks not to be shown to people who are not logged in, so that details are left out."
    ),
    field(name = "source", ty = "ProfileSource", desc = "Where the data comes from; what that cannot know is null."),
    field(name = "freshness", ty = "Freshness", desc = "How old the data is.")
)]
pub(crate) enum BlueskyProfile {
    /// Of an account that does not use OpenMeet.
    BlueskyPublicProfile(BlueskyPublicProfile),
    /// Of a member.
    BlueskyEnhancedProfile(BlueskyEnhancedProfile),
}

/// A type of profile: the fields that all have, and its own.
macro_rules! profile {
    (#[doc = $doc:tt] $name:ident $fields:tt { $($own:tt)* }) => {
        #[doc = $doc]
        #[derive(Clone, Debug)]
        pub(crate) struct $name $fields

        #[doc = $doc]
        #[Object]
        impl $name {
            /// Decentralised identifier.
            async fn did(&self) -> Did {
                self.shown.profile.did.as_str().into()
            }

            /// Current handle; null unless it is verified.
            async fn handle(&self) -> Option<Handle> {
                self.shown.profile.handle.as_deref().map(Handle::from)
            }

            /// Name to show.
            async fn display_name(&self) -> Option<String> {
                self.shown.profile.display_name.clone()
            }

            /// Biography.
            async fn description(&self) -> Option<String> {
                self.shown.profile.description.clone()
            }

            /// Picture; https.
            async fn avatar_url(&self) -> Option<Url> {
                self.shown.profile.avatar_url.as_deref().map(Url::from)
            }

            /// Picture behind the page; https.
            async fn banner_url(&self) -> Option<Url> {
                self.shown.profile.banner_url.as_deref().map(Url::from)
            }

            /// How many accounts follow it; known to an AppView only.
            async fn followers_count(&self) -> Option<i32> {
                count(self.shown.profile.followers)
            }

            /// How many accounts it follows; known to an AppView only.
            async fn follows_count(&self) -> Option<i32> {
                count(self.shown.profile.follows)
            }

            /// How many posts it has written; known to an AppView only.
            async fn posts_count(&self) -> Option<i32> {
                count(self.shown.profile.posts)
            }

            /// Origin of the account's PDS, where it is known.
            async fn pds_url(&self) -> Option<Url> {
                self.shown.pds.as_deref().map(Url::from)
            }

            /// The account asks not to be shown to people who are not logged in, so that details are left out.
            async fn is_restricted(&self) -> bool {
                self.shown.is_restricted
            }

            /// Where the data comes from; what that cannot know is null.
            async fn source(&self) -> ProfileSource {
                self.shown.profile.source.into()
            }

            /// How old the data is.
            async fn freshness(&self) -> Freshness {
                Freshness { fetched_at: self.shown.fetched_at.into(), is_stale: self.shown.is_stale }
            }

            $($own)*
        }
    };
}

profile! {
    /// Profile of an account that does not use OpenMeet.
    BlueskyPublicProfile { shown: Box<Shown> } {
        /// The provisional account that stands for it here, once it has organised or answered something.
        async fn shadow_account(&self) -> Option<ShadowAccount> {
            let account = self.shown.account.as_ref().filter(|account| account.is_visible())?;
            match Account::from(std::sync::Arc::clone(account)) {
                Account::ShadowAccount(account) => Some(account),
                Account::User(_) => None,
            }
        }
    }
}

profile! {
    /// Profile of a member of OpenMeet.
    BlueskyEnhancedProfile { shown: Box<Shown>, user: User } {
        /// Member behind the profile.
        async fn user(&self) -> &User {
            &self.user
        }

        /// The link between member and ATProtocol account is active.
        async fn connected(&self) -> bool {
            self.shown.link().is_some_and(|link| link.connected)
        }

        /// When it was linked last; null where it never was.
        async fn connected_at(&self) -> Option<DateTime> {
            self.shown.link().map(|link| DateTime::from(link.connected_at))
        }
    }
}

fn count(count: Option<u32>) -> Option<i32> {
    count.map(|count| i32::try_from(count).unwrap_or(i32::MAX))
}

impl From<Shown> for BlueskyProfile {
    fn from(shown: Shown) -> Self {
        let member = shown.account.clone().map(Account::from);
        let shown = Box::new(shown);
        match member {
            Some(Account::User(user)) => Self::BlueskyEnhancedProfile(BlueskyEnhancedProfile { shown, user }),
            _ => Self::BlueskyPublicProfile(BlueskyPublicProfile { shown }),
        }
    }
}

/// The profile of one of our accounts; null for a site.
pub(super) async fn of(ctx: &Context<'_>, account: &std::sync::Arc<account::Account>) -> Fallible<BlueskyProfile> {
    let find = async { Ok::<_, Failure>(profile::of(ctx.app()?, ctx.actor(), account).boxed().await?) };
    find.await.map(|shown| shown.map(BlueskyProfile::from)).transpose()
}

/// Entry points for reading profiles.
#[derive(Debug, Default)]
pub(crate) struct ProfileQuery;

/// Entry points for reading profiles.
#[Object]
impl ProfileQuery {
    /// Profile of any ATProtocol account: `BlueskyEnhancedProfile` for members of OpenMeet, `BlueskyPublicProfile` for all
    /// others. Null when nobody is there, or is not to be shown: the account is not active, or moderators hide it.
    #[graphql(directive = cost::apply(PROFILE, None, None))]
    async fn bluesky_profile(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Account to look up.")] actor: ActorRef,
    ) -> Fallible<BlueskyProfile> {
        match find(ctx, vec![actor.into()]).await {
            Ok(mut found) => found.pop().flatten(),
            Err(failure) => Some(Err(failure)),
        }
    }

    /// Profiles of at most 25 accounts, in the order asked for, as `blueskyProfile` gives them. Each is null, or fails, by itself.
    #[graphql(
        directive = semanticNonNull::apply(vec![0]),
        directive = cost::apply(PROFILE, Some(vec!["actors".to_owned()]), None)
    )]
    async fn bluesky_profiles(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Accounts to look up.")] actors: Vec<ActorRef>,
    ) -> Fallible<Vec<Fallible<BlueskyProfile>>> {
        if actors.len() > profile::MOST {
            let why = format!("at most {} accounts", profile::MOST);
            return Some(Err(Error::invalid("actors", "TOO_MANY_VALUES", why).into()));
        }
        Some(find(ctx, actors.into_iter().map(Actor::from).collect()).await)
    }
}

async fn find(ctx: &Context<'_>, actors: Vec<Actor>) -> Result<Vec<Fallible<BlueskyProfile>>, Failure> {
    let found = profile::find(ctx.app()?, ctx.actor(), &actors).boxed().await?;
    Ok(found
        .into_iter()
        .map(|shown| shown.map(|shown| shown.map(BlueskyProfile::from)).map_err(Failure::from).transpose())
        .collect())
}
