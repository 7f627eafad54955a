//! What answers the same to everybody, whoever asks.
//!
//! Subscribers who show something share the runs of those who show nothing where their whole selection is listed here. What is
//! on no list may depend on the caller, so that a new field, argument or input is shared by nobody who is somebody until it is
//! put here. `tests/it/impartial.rs` asks for all of it as everybody and compares.

/// Objects with their fields, `Object.field` with the arguments of a field, inputs with their fields. An interface's field counts
/// where that of each of its objects does, and a field only where its arguments do, with all that can stand in them.
///
/// `blueskyProfile` is missing: people may keep their profile from those who are not signed in. So is the `url` of a meeting,
/// which is promised to those only who may see it.
pub const IMPARTIAL: &[(&str, &[&str])] = &[
    ("Subscription", &["eventIngested"]),
    ("Subscription.eventIngested", &["after", "filter"]),
    ("EventIngestedFilter", &["source", "operation", "organizers", "startsAt", "near"]),
    ("ActorRef", &["did", "handle"]),
    ("DateTimeRange", &["from", "to"]),
    ("GeoRadius", &["latitude", "longitude", "radiusMeters"]),
    (
        "EventChange",
        &["cursor", "operation", "event", "eventId", "uri", "source", "changedFields", "occurredAt", "ingestedAt"],
    ),
    (
        "Event",
        &[
            "id",
            "slug",
            "name",
            "description",
            "startsAt",
            "endsAt",
            "timeZone",
            "status",
            "mode",
            "visibility",
            "locations",
            "links",
            "organizer",
            "attendance",
            "rsvps",
            "source",
            "atproto",
            "createdAt",
            "updatedAt",
        ],
    ),
    ("Event.rsvps", &["first", "after", "last", "before", "status"]),
    ("AddressLocation", &["name", "street", "locality", "region", "postalCode", "country"]),
    ("GeoLocation", &["name", "latitude", "longitude"]),
    ("OnlineLocation", &["name"]),
    ("NamedLocation", &["name", "lexicon"]),
    ("EventLink", &["name", "url"]),
    ("AttendanceSummary", &["confirmedCount", "maybeCount", "cancelledCount"]),
    ("EventSource", &["type", "externalId", "url", "sourceOfTruth", "ingestedAt"]),
    ("AtprotoRecord", &["uri", "cid", "did", "collection", "rkey", "value", "indexedAt"]),
    ("User", &["id", "displayName", "did", "handle", "isShadow"]),
    ("ShadowAccount", &["id", "displayName", "did", "handle", "isShadow", "events", "createdAt"]),
    ("ShadowAccount.events", &["first", "after", "last", "before"]),
    ("EventConnection", &["edges", "nodes", "pageInfo", "totalCount"]),
    ("EventEdge", &["cursor", "node"]),
    ("RsvpConnection", &["edges", "nodes", "pageInfo", "totalCount"]),
    ("RsvpEdge", &["cursor", "node"]),
    ("Rsvp", &["id", "event", "attendee", "status", "source", "atproto", "createdAt", "updatedAt"]),
    ("PageInfo", &["startCursor", "endCursor", "hasNextPage", "hasPreviousPage"]),
];
