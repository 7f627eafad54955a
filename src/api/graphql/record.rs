//! Records of the network behind events and answers.

use anyhow::anyhow;
use async_graphql::{Context, Object};
use chrono::Utc;

use super::{
    context::Surroundings,
    directives::semanticNonNull,
    error::{Failure, Fallible},
    scalars::{AtUri, Cid, DateTime, Did, Json, Nsid, RecordKey},
};
use crate::{error::Error, infra::atproto::syntax};

/// The record that a row was made of. What the row does not hold is read from the ledger when it is asked for.
pub(crate) struct AtprotoRecord {
    uri: syntax::AtUri,
    cid: String,
}

impl AtprotoRecord {
    /// `None` when the row was made of no record.
    pub(crate) fn new(uri: Option<&str>, cid: Option<&str>) -> Option<Self> {
        // What was written here was read as an AT-URI, so that nothing is lost by asking again.
        let uri = syntax::AtUri::parse(uri?).ok()?;
        Some(Self { uri, cid: cid?.to_owned() })
    }

    async fn read(&self, ctx: &Context<'_>) -> Result<Option<Json>, Failure> {
        let Some(row) = ctx.loaders()?.record(self.uri.to_string()).await? else { return Ok(None) };
        let Some(text) = &row.record else { return Ok(None) };
        Ok(Some(Json(serde_json::from_str(text).map_err(Error::bug)?)))
    }

    async fn seen(&self, ctx: &Context<'_>) -> Result<chrono::DateTime<Utc>, Failure> {
        let row = ctx.loaders()?.record(self.uri.to_string()).await?;
        let row = row.ok_or_else(|| Error::bug(anyhow!("the ledger has lost {}", self.uri)))?;
        Ok(row.ingested_at)
    }
}

/// A record on the ATProtocol network.
#[Object]
impl AtprotoRecord {
    /// URI of the record.
    fn uri(&self) -> AtUri {
        AtUri(self.uri.to_string())
    }

    /// Version of the record.
    fn cid(&self) -> Cid {
        Cid(self.cid.clone())
    }

    /// Repository that holds it.
    fn did(&self) -> Did {
        self.uri.did.as_str().into()
    }

    /// Collection that holds it.
    fn collection(&self) -> Nsid {
        self.uri.collection.as_str().into()
    }

    /// Key in the collection.
    fn rkey(&self) -> RecordKey {
        self.uri.rkey.as_str().into()
    }

    /// Raw record as last seen on the network.
    async fn value(&self, ctx: &Context<'_>) -> Fallible<Json> {
        self.read(ctx).await.transpose()
    }

    /// When this version was seen.
    #[graphql(directive = semanticNonNull::apply(vec![0]))]
    async fn indexed_at(&self, ctx: &Context<'_>) -> Fallible<DateTime> {
        Some(self.seen(ctx).await.map(DateTime))
    }
}
