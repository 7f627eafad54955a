//! The whole way, from a record that somebody writes on a real PDS to the queries and subscriptions of the running
//! program: what is there at the first start ([`first_start`]), what happens to records and accounts ([`life`], [`names`]),
//! and to the streams ([`interruption`]).

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise"
)]

mod first_start;
mod interruption;
mod life;
mod names;

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{
    devnet::{EVENT, RSVP, Written},
    graphql::{GraphQl, Subscription},
};

/// One event with everything that the tests look at.
const ONE: &str = "query ($uri: AtUri!) { event(by: { uri: $uri }) {
    id name description startsAt endsAt status mode visibility
    locations { __typename ... on AddressLocation { name locality } } links { url }
    organizer { __typename did handle isShadow displayName }
    attendance { confirmedCount maybeCount cancelledCount }
    rsvps { nodes { status attendee { did handle isShadow } atproto { uri } } }
    atproto { uri cid value }
} }";

/// What lists show of a person.
const LISTS: &str = "query ($actor: ActorRef!) {
    events(first: 100, filter: { organizers: [$actor] }) { nodes { name atproto { uri } } }
    rsvps(first: 100, filter: { attendees: [$actor] }) { nodes { status event { name } } }
}";

/// The shadow account of a person.
const SHADOW: &str = "query ($did: Did!) { shadowAccount(by: { did: $did }) { did handle isShadow displayName } }";

/// The changes of one person's events.
const CHANGES: &str = "subscription ($did: Did!, $after: StreamCursor) {
    eventIngested(filter: { organizers: [{ did: $did }] }, after: $after) {
        cursor operation uri changedFields source
        event { name status organizer { did handle } attendance { confirmedCount maybeCount cancelledCount } }
    }
}";

/// The end of the change log.
const END: &str = "query ($after: StreamCursor) { eventChanges(first: 500, after: $after) { endCursor hasMore } }";

/// A record of an event.
fn event(name: &str) -> Value {
    json!({
        "$type": EVENT,
        "name": name,
        "description": "Bring a lamp.",
        "createdAt": "2031-03-01T12:00:00.000Z",
        "startsAt": "2031-04-01T18:30:00+02:00",
        "endsAt": "2031-04-01T22:00:00+02:00",
        "mode": "community.lexicon.calendar.event#inperson",
        "status": "community.lexicon.calendar.event#scheduled",
        "locations": [{
            "$type": "community.lexicon.location.address", "country": "PT", "locality": "Lisboa", "name": "The Garden",
        }],
        "uris": [{ "uri": "https://example.org/garden" }],
        "org.example.foreign": { "kept": [1, true] },
    })
}

/// A record of an answer: `going`, `interested` or `notgoing`.
fn answer(event: &Written, status: &str) -> Value {
    json!({
        "$type": RSVP,
        "subject": { "uri": event.uri, "cid": event.cid },
        "status": format!("community.lexicon.calendar.rsvp#{status}"),
        "createdAt": "2031-03-02T12:00:00.000Z",
    })
}

/// The cursor after everything that has happened.
async fn end_of_log(graphql: GraphQl) -> String {
    let mut after = Value::Null;
    loop {
        let mut page = graphql.query(END, &json!({ "after": after })).await["eventChanges"].take();
        after = page["endCursor"].take();
        if page["hasMore"] == json!(false) {
            return after.as_str().expect("a cursor").to_owned();
        }
    }
}

/// The changes of one person's events, from now on. It is told where to begin, because a subscription that is not does
/// not say when it has begun.
async fn changes_of(graphql: GraphQl, did: &str) -> Changes {
    let after = end_of_log(graphql).await;
    Changes { live: graphql.subscribe(CHANGES, &json!({ "did": did, "after": after })).await }
}

struct Changes {
    live: Subscription,
}

impl Changes {
    /// The next change must be this one, except that handles may become known, or lost, at any time.
    async fn expect(&mut self, operation: &str, uri: &str, fields: &[&str]) -> Value {
        loop {
            let change = self.next().await;
            if change["operation"] == operation && change["changedFields"] == json!(fields) {
                assert_eq!(change["uri"], uri, "{change:#}");
                assert_eq!(change["source"], "BLUESKY");
                return change;
            }
            let is_handle = change["changedFields"] == json!(["organizer"]);
            assert!(is_handle, "expected {operation} {fields:?} of {uri}, not {change:#}");
        }
    }

    /// Reads on until each of these events was shown with this handle of its organiser.
    async fn expect_handle(&mut self, events: &[&Written], handle: &str) {
        let mut left: HashSet<&str> = events.iter().map(|event| event.uri.as_str()).collect();
        while !left.is_empty() {
            let change = self.next().await;
            assert_eq!(change["operation"], "UPDATED", "{change:#}");
            assert_eq!(change["changedFields"], json!(["organizer"]), "{change:#}");
            if change["event"]["organizer"]["handle"] == handle {
                left.remove(change["uri"].as_str().unwrap());
            }
        }
    }

    async fn next(&mut self) -> Value {
        self.live.next().await["eventIngested"].take()
    }
}
