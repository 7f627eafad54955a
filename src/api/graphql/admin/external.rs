//! Events and answers as other programs know them: the fields of the integration API, which reads and checks them.
//!
//! What only a look at the value can refuse is text here, so that one bad item is refused for itself and not with all others.

use async_graphql::{Enum, InputObject};
use serde::Serialize;

use crate::{
    api::graphql::{
        scalars::DateTime,
        sets::{EventVisibility, RsvpStatus, SourceType},
    },
    error::{Error, Result},
};

/// How people attend, as other programs say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ExternalEventType {
    /// At a place.
    InPerson,
    /// Online.
    Online,
    /// Both.
    Hybrid,
}

/// Lifecycle of an event, as other programs say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExternalEventStatus {
    /// Not yet visible to others.
    Draft,
    /// Announced but not final.
    Pending,
    /// Will take place.
    Published,
    /// Will not take place.
    Cancelled,
}

/// Where an event takes place.
#[derive(Clone, Debug, InputObject, Serialize)]
pub(crate) struct ExternalLocationInput {
    /// Name or address.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Latitude in degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    lat: Option<f64>,
    /// Longitude in degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    lon: Option<f64>,
    /// Where to join online.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// Which version of which record an event is.
#[derive(Clone, Debug, InputObject, Serialize)]
pub(crate) struct ExternalEventMetadataInput {
    /// Version of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    /// Key of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    rkey: Option<String>,
    /// Collection of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<String>,
    /// Revision of the repository: a change applies only if it is newer than the one that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<String>,
    /// When the stream saw it.
    #[serde(rename = "time_us", skip_serializing_if = "Option::is_none", serialize_with = "spelt::micros")]
    seen_at: Option<DateTime>,
    /// Author.
    #[serde(skip_serializing_if = "Option::is_none")]
    did: Option<String>,
    /// Links of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    uris: Option<Vec<String>>,
}

/// Where an event comes from.
#[derive(Clone, Debug, InputObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExternalSourceInput {
    /// System of origin; one that the caller's key speaks for.
    #[graphql(name = "type")]
    #[serde(rename = "type", serialize_with = "spelt::source")]
    kind: SourceType,
    /// Identifier there. On the network the author's DID, or the AT-URI of the record.
    id: String,
    /// Page of the event there.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Which version of which record it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<ExternalEventMetadataInput>,
    /// Handle of the author.
    #[serde(skip_serializing_if = "Option::is_none")]
    handle: Option<String>,
    /// The record itself as JSON text, kept letter for letter.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "spelt::verbatim")]
    raw_record: Option<String>,
}

/// An event as another program knows it. What is left out stays as it is.
#[derive(Clone, Debug, InputObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExternalEventInput {
    /// Name.
    name: String,
    /// Description.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Start, as an RFC 3339 instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_date: Option<String>,
    /// End, as an RFC 3339 instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_date: Option<String>,
    /// How people attend.
    #[graphql(name = "type")]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<ExternalEventType>,
    /// Lifecycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<ExternalEventStatus>,
    /// Who may see it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "spelt::visibility")]
    visibility: Option<EventVisibility>,
    /// Where it takes place.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<ExternalLocationInput>,
    /// Address of a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    /// Where it comes from.
    source: ExternalSourceInput,
    /// Categories.
    #[serde(skip_serializing_if = "Option::is_none")]
    categories: Option<Vec<String>>,
    /// Whether it takes place again and again.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_recurring: Option<bool>,
    /// When it takes place again.
    #[serde(skip_serializing_if = "Option::is_none")]
    recurrence_rule: Option<String>,
}

/// Which version of which record an answer is.
#[derive(Clone, Debug, InputObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExternalRsvpMetadataInput {
    /// Version of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    /// Version of the event that was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_cid: Option<String>,
    /// Key of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    rkey: Option<String>,
    /// Collection of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<String>,
    /// Revision of the repository: a change applies only if it is newer than the one that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rev: Option<String>,
    /// When the stream saw it.
    #[serde(rename = "time_us", skip_serializing_if = "Option::is_none", serialize_with = "spelt::micros")]
    seen_at: Option<DateTime>,
    /// AT-URI of the event, where `eventSourceId` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_uri: Option<String>,
}

/// An answer as another program knows it.
#[derive(Clone, Debug, InputObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ExternalRsvpInput {
    /// Identifier of the event in its system of origin: on the network the AT-URI of its record.
    event_source_id: String,
    /// System of origin of the event; one that the caller's key speaks for.
    #[serde(serialize_with = "spelt::source")]
    event_source_type: SourceType,
    /// Who answers.
    user_did: String,
    /// Handle of whoever answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_handle: Option<String>,
    /// The answer.
    #[serde(serialize_with = "spelt::rsvp_status")]
    status: RsvpStatus,
    /// When it was given, as an RFC 3339 instant.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<String>,
    /// Identifier of the answer: on the network the AT-URI of its record.
    #[serde(skip_serializing_if = "Option::is_none")]
    source_id: Option<String>,
    /// Which version of which record it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<ExternalRsvpMetadataInput>,
}

/// The item as the integration API takes it.
pub(super) fn item(input: &impl Serialize) -> Result<String> {
    // Nothing else in it can fail.
    serde_json::to_string(input)
        .map_err(|error| Error::invalid("source.rawRecord", "FIELD_MALFORMED", error.to_string()))
}

/// How fields are written that the integration API spells otherwise.
#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
mod spelt {
    use entities::sets;
    use serde::{Serialize, Serializer, ser::Error as _};
    use serde_json::value::RawValue;

    use super::{DateTime, EventVisibility, RsvpStatus, SourceType};

    pub(super) fn micros<S: Serializer>(at: &Option<DateTime>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(|at| at.0.timestamp_micros()).serialize(serializer)
    }

    pub(super) fn source<S: Serializer>(source: &SourceType, serializer: S) -> Result<S::Ok, S::Error> {
        sets::SourceType::from(*source).as_str().serialize(serializer)
    }

    pub(super) fn visibility<S: Serializer>(
        visibility: &Option<EventVisibility>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        visibility.map(|visibility| sets::EventVisibility::from(visibility).as_str()).serialize(serializer)
    }

    pub(super) fn rsvp_status<S: Serializer>(status: &RsvpStatus, serializer: S) -> Result<S::Ok, S::Error> {
        sets::RsvpStatus::from(*status).as_str().serialize(serializer)
    }

    pub(super) fn verbatim<S: Serializer>(record: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
        let record = record.clone().map(RawValue::from_string).transpose().map_err(S::Error::custom)?;
        record.serialize(serializer)
    }
}
