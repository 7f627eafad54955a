//! What members have chosen, as JSON columns.

use sea_orm::{FromJsonQueryResult, prelude::DateTimeUtc};
use serde::{Deserialize, Serialize};

/// A member's link to an account of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Bluesky {
    /// The account.
    pub did: String,
    /// Its handle at the latest sign-in, if it was verified then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// Address of its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// The link is in force: nothing is written to the network otherwise.
    pub connected: bool,
    /// New events are published without asking.
    pub auto_post: bool,
    /// Scopes that were granted at the latest sign-in.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// When the link that is in force, or was the latest to be, was made.
    pub connected_at: DateTimeUtc,
    /// When it was cut; null while it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disconnected_at: Option<DateTimeUtc>,
}
