//! Connections: pages of a list with cursors, in the manner of Relay.

use async_graphql::{Context, SimpleObject};

use super::{context::Surroundings, error::Failure};
use crate::domain::{
    account::{self, ShadowFilter},
    audit, event as events,
    ingest::failure,
    key, rsvp,
};

/// Position of a page in a connection.
#[derive(Clone, Debug, SimpleObject)]
pub(crate) struct PageInfo {
    /// Cursor of the first edge.
    start_cursor: Option<String>,
    /// Cursor of the last edge.
    end_cursor: Option<String>,
    /// More edges exist after this page.
    has_next_page: bool,
    /// More edges exist before this page.
    has_previous_page: bool,
}

impl PageInfo {
    /// `cursors` of the page's edges, in their order.
    pub(crate) fn new<'a>(
        mut cursors: impl DoubleEndedIterator<Item = &'a String>,
        next: bool,
        previous: bool,
    ) -> Self {
        let start_cursor = cursors.next().cloned();
        let end_cursor = cursors.next_back().cloned().or_else(|| start_cursor.clone());
        Self { start_cursor, end_cursor, has_next_page: next, has_previous_page: previous }
    }
}

/// How the number of all matches is found, if anybody asks for it.
#[derive(Clone, Debug)]
pub(crate) enum Total {
    /// It is known already.
    Known(u64),
    /// Listed events.
    Events(Box<events::Filter>),
    /// Listed events of one organiser.
    EventsOf(i64),
    /// Answers.
    Rsvps(Box<rsvp::Filter>),
    /// Shadow accounts.
    Shadows(Box<ShadowFilter>),
    /// Messages that could not be applied.
    Failures(Box<failure::Filter>),
    /// Service keys.
    Keys,
    /// Shadow accounts, hidden ones too.
    AllShadows,
    /// What was done to accounts.
    Audit(Box<audit::Filter>),
}

impl Total {
    pub(crate) async fn count(&self, ctx: &Context<'_>) -> Result<i32, Failure> {
        let app = ctx.app()?;
        let (db, tenant) = (app.db.read(), app.tenant);
        let total = match self {
            Self::Known(total) => *total,
            Self::Events(filter) => events::count(db, tenant, filter).await?,
            Self::EventsOf(user) => ctx.loaders()?.event_count(*user).await?,
            Self::Rsvps(filter) => rsvp::count(db, tenant, filter).await?,
            Self::Shadows(filter) => account::count_shadows(db, tenant, filter).await?,
            Self::Failures(filter) => failure::count(app, ctx.actor(), filter).await?,
            Self::Keys => key::count(app, ctx.actor()).await?,
            Self::AllShadows => account::care::count(app, ctx.actor()).await?,
            Self::Audit(filter) => audit::count(app, ctx.actor(), filter).await?,
        };
        Ok(i32::try_from(total).unwrap_or(i32::MAX))
    }
}

/// A connection and its edge for one type of node: `new` takes the nodes with their cursors.
macro_rules! connection {
    (
        #[doc = $page_doc:tt] $connection:ident,
        #[doc = $edge_doc:tt] $edge:ident,
        #[doc = $cursor_doc:tt] #[doc = $node_doc:tt] $node:ident
    ) => {
        #[doc = $page_doc]
        pub(crate) struct $connection {
            edges: Vec<$edge>,
            page_info: $crate::api::graphql::page::PageInfo,
            total: $crate::api::graphql::page::Total,
        }

        #[doc = $edge_doc]
        #[derive(Clone, async_graphql::SimpleObject)]
        pub(crate) struct $edge {
            #[doc = $cursor_doc]
            cursor: String,
            #[doc = $node_doc]
            node: $node,
        }

        impl $connection {
            pub(crate) fn new(
                edges: Vec<(String, $node)>,
                (next, previous): (bool, bool),
                total: $crate::api::graphql::page::Total,
            ) -> Self {
                let edges: Vec<$edge> = edges.into_iter().map(|(cursor, node)| $edge { cursor, node }).collect();
                let cursors = edges.iter().map(|edge| &edge.cursor);
                let page_info = $crate::api::graphql::page::PageInfo::new(cursors, next, previous);
                Self { edges, page_info, total }
            }
        }

        #[doc = $page_doc]
        #[async_graphql::Object]
        impl $connection {
            /// Edges of the page.
            fn edges(&self) -> &[$edge] {
                &self.edges
            }

            /// Nodes of the page, for callers that need no cursors.
            fn nodes(&self) -> Vec<&$node> {
                self.edges.iter().map(|edge| &edge.node).collect()
            }

            /// Position of the page.
            #[graphql(directive = $crate::api::graphql::directives::cost::apply(1, None, Some(true)))]
            fn page_info(&self) -> &$crate::api::graphql::page::PageInfo {
                &self.page_info
            }

            /// All matches; counted only when asked for, exact up to 10000. 10001 stands for more.
            #[graphql(directive = $crate::api::graphql::directives::cost::apply(50, None, Some(true)))]
            async fn total_count(
                &self,
                ctx: &async_graphql::Context<'_>,
            ) -> $crate::api::graphql::error::Fallible<i32> {
                Some(self.total.count(ctx).await)
            }
        }
    };
}
pub(crate) use connection;
