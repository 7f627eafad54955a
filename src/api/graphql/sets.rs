//! Closed sets of the schema, each the mirror of a column's.

use async_graphql::Enum;

use super::directives::{SIFT, cost};

/// Where an event or RSVP comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::SourceType")]
pub(crate) enum SourceType {
    /// Created in OpenMeet.
    Openmeet,
    /// Ingested from the ATProtocol network.
    Bluesky,
    /// Ingested by a web scraper.
    Web,
    /// Any other integration.
    Other,
}

/// Lifecycle of an event, a superset of community.lexicon.calendar.event#status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::EventStatus")]
pub(crate) enum EventStatus {
    /// Not yet visible to others.
    Draft,
    /// Announced but not final.
    Planned,
    /// Will take place.
    Scheduled,
    /// Moved to another time.
    Rescheduled,
    /// Put off without a new date.
    Postponed,
    /// Will not take place.
    Cancelled,
}

/// What an account of the ATProtocol network lets OpenMeet do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "crate::domain::login::Ability")]
pub(crate) enum BlueskyPermission {
    /// Publish, change and withdraw events.
    WriteEvents,
    /// Publish, change and withdraw answers.
    WriteRsvps,
    /// Upload images of events.
    UploadImages,
    /// Read the address.
    ReadEmail,
}

/// How people attend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::EventMode")]
pub(crate) enum EventMode {
    /// At a place.
    InPerson,
    /// Online.
    Virtual,
    /// Both.
    Hybrid,
}

/// Who may see an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::EventVisibility")]
pub(crate) enum EventVisibility {
    /// Everyone.
    Public,
    /// Everyone with the link.
    Unlisted,
    /// Invited people.
    Private,
}

/// Answer to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::RsvpStatus")]
pub(crate) enum RsvpStatus {
    /// Going (`#going`).
    Confirmed,
    /// Interested (`#interested`).
    Maybe,
    /// Not going (`#notgoing`).
    Cancelled,
}

/// One of the two sides of a synchronisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum SyncSide {
    /// OpenMeet.
    Local,
    /// The author's PDS, or whatever other system the event comes from.
    Remote,
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum OrderDirection {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// What events can be sorted by; ties are broken by identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum EventOrderField {
    /// Start of the event; events without one come last in both directions.
    StartsAt,
    /// Creation of the event.
    CreatedAt,
    /// Last change.
    UpdatedAt,
    /// Number of confirmed attendees.
    #[graphql(directive = cost::apply(SIFT, None, None))]
    AttendeeCount,
}

/// What the caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub(crate) enum UserRole {
    /// Has an account.
    Member,
    /// Administers the tenant.
    Admin,
    /// Administers every tenant.
    Operator,
}

/// What a member may be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::UserRole")]
pub(crate) enum GrantedRole {
    /// Takes part.
    Member,
    /// Administers the tenant, too.
    Admin,
}

/// How a session is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::SessionKind")]
pub(crate) enum SessionKind {
    /// As a cookie, by a browser.
    Cookie,
    /// In a header, by a program.
    Bearer,
}

/// What was done to an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(remote = "entities::sets::AuditAction")]
pub(crate) enum AuditAction {
    /// A member signed in for the first time.
    Joined,
    /// A shadow account became its owner's, or was merged into an account of its owner.
    Claimed,
    /// An account of the network was linked to a member.
    Linked,
    /// The link was cut.
    Disconnected,
    /// A shadow account was made by hand.
    ShadowCreated,
    /// Two shadow accounts became one.
    ShadowMerged,
    /// A shadow account on which nothing hung was deleted.
    ShadowDeleted,
    /// The role of a member was changed.
    RoleChanged,
}

/// The stored values of a list of the schema's; for arguments.
pub(crate) fn stored<T, S: From<T>>(values: Option<Vec<T>>) -> Option<Vec<S>> {
    values.map(|values| values.into_iter().map(S::from).collect())
}
