//! The life of records and accounts, over every kind of stream and on every kind of database.

use serde_json::{Value, json};

use super::{Changes, LISTS, ONE, SHADOW, answer, changes_of, event};
use crate::support::{
    database::on_each_database,
    devnet::{Account, Devnet, EVENT, RSVP, Written},
    gateway::Launch,
    graphql::GraphQl,
};

#[tokio::test(flavor = "multi_thread")]
async fn over_a_jetstream() {
    let devnet = Devnet::start().await;
    live(&devnet, &devnet.network.jetstream(), "pds2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_firehose_of_a_pds() {
    let devnet = Devnet::start().await;
    live(&devnet, &devnet.network.firehose("pds1"), "pds1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_the_firehose_of_a_relay() {
    let devnet = Devnet::start().await;
    live(&devnet, &devnet.network.relay(), "pds2").await;
}

/// One person organises on pds1, another attends from `attendees`. The second database begins with all that happened on
/// the first one's turn.
async fn live(devnet: &Devnet, endpoint: &str, attendees: &str) {
    on_each_database(async |test| {
        let launch = Launch::new(&test.url, devnet.network.settings(endpoint));
        let gateway = launch.start().await;
        let graphql = GraphQl::new(gateway.address);
        let organizer = devnet.account("organizer", "pds1").await;
        let attendee = devnet.account("attendee", attendees).await;
        let changes = changes_of(graphql, &organizer.did).await;
        let mut story = Story { graphql, organizer, attendee, changes };
        let party = story.an_event_appears().await;
        story.somebody_answers(&party).await;
        story.the_event_changes(&party).await;
        let picnic = story.an_answer_comes_before_its_event().await;
        story.the_attendee_leaves_and_comes_back(&picnic).await;
        story.the_organizer_leaves_and_comes_back(&[&party, &picnic]).await;
        story.the_organizer_takes_another_name(&[&party, &picnic]).await;
        story.an_event_is_not_to_be_listed().await;
        story.the_event_is_deleted(&party).await;
        story.accounts_are_deleted(&picnic).await;
        let failed: Vec<_> = gateway.logged().into_iter().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
        assert!(failed.is_empty(), "{failed:#?}");
    })
    .await;
}

struct Story {
    graphql: GraphQl,
    organizer: Account,
    attendee: Account,
    changes: Changes,
}

impl Story {
    async fn an_event_appears(&mut self) -> Written {
        let record = event("Garden party");
        let party = self.organizer.create(&record).await;
        let created = self.changes.expect("CREATED", &party.uri, &[]).await;
        assert_eq!(created["event"]["name"], "Garden party");

        let shown = self.one(&party).await;
        let did = &self.organizer.did;
        assert_eq!(shown["name"], "Garden party");
        assert_eq!(shown["description"], "Bring a lamp.");
        assert_eq!(shown["startsAt"], "2031-04-01T16:30:00Z");
        assert_eq!(shown["endsAt"], "2031-04-01T20:00:00Z");
        assert_eq!(shown["status"], "SCHEDULED");
        assert_eq!(shown["mode"], "IN_PERSON");
        assert_eq!(shown["visibility"], "PUBLIC");
        let place = json!({ "__typename": "AddressLocation", "name": "The Garden", "locality": "Lisboa" });
        assert_eq!(shown["locations"], json!([place]));
        assert_eq!(shown["links"], json!([{ "url": "https://example.org/garden" }]));
        assert_eq!(shown["organizer"]["__typename"], "ShadowAccount");
        assert_eq!(shown["organizer"]["did"], *did);
        assert_eq!(shown["attendance"], counts(0, 0, 0));
        assert_eq!(shown["atproto"], json!({ "uri": party.uri, "cid": party.cid, "value": record }));
        assert_eq!(self.listed(did).await, ["Garden party"]);
        self.is_known(did, &self.organizer.handle).await;
        let shown = self.one(&party).await;
        assert_eq!(shown["organizer"]["handle"], self.organizer.handle);
        assert_eq!(shown["organizer"]["displayName"], self.organizer.handle);
        party
    }

    async fn somebody_answers(&mut self, party: &Written) {
        let rsvp = self.attendee.create(&answer(party, "going")).await;
        let updated = self.changes.expect("UPDATED", &party.uri, &["attendance"]).await;
        assert_eq!(updated["event"]["attendance"], counts(1, 0, 0));
        let did = self.attendee.did.clone();
        self.is_known(&did, &self.attendee.handle).await;
        let shown = self.one(party).await;
        assert_eq!(shown["attendance"], counts(1, 0, 0));
        let person = json!({ "did": did, "handle": self.attendee.handle, "isShadow": true });
        let expected = json!({ "status": "CONFIRMED", "attendee": person, "atproto": { "uri": rsvp.uri } });
        assert_eq!(shown["rsvps"]["nodes"], json!([expected]));
        assert_eq!(self.answers(&did).await, json!([{ "status": "CONFIRMED", "event": { "name": "Garden party" } }]));

        self.attendee.put(&rsvp.uri, &answer(party, "notgoing")).await;
        self.changes.expect("UPDATED", &party.uri, &["attendance"]).await;
        let shown = self.one(party).await;
        assert_eq!(shown["attendance"], counts(0, 0, 1));
        assert_eq!(shown["rsvps"]["nodes"][0]["status"], "CANCELLED");

        // A second record of the same person for the same event is that person's answer from then on.
        let second = self.attendee.create(&answer(party, "interested")).await;
        self.changes.expect("UPDATED", &party.uri, &["attendance"]).await;
        assert_eq!(self.one(party).await["attendance"], counts(0, 1, 0));
        self.attendee.delete(&second.uri).await;
        self.changes.expect("UPDATED", &party.uri, &["attendance"]).await;
        assert_eq!(self.one(party).await["attendance"], counts(0, 0, 1));
        self.attendee.delete(&rsvp.uri).await;
        self.changes.expect("UPDATED", &party.uri, &["attendance"]).await;
        let shown = self.one(party).await;
        assert_eq!(shown["attendance"], counts(0, 0, 0));
        assert_eq!(shown["rsvps"]["nodes"], json!([]));
        assert_eq!(self.answers(&did).await, json!([]));
    }

    async fn the_event_changes(&mut self, party: &Written) {
        let mut record = event("Garden party, moved");
        record["startsAt"] = json!("2031-05-01T18:30:00Z");
        record["status"] = json!("community.lexicon.calendar.event#rescheduled");
        let written = self.organizer.put(&party.uri, &record).await;
        let fields = ["name", "startsAt", "status", "atproto"];
        let updated = self.changes.expect("UPDATED", &party.uri, &fields).await;
        assert_eq!(updated["event"]["name"], "Garden party, moved");
        let shown = self.one(party).await;
        assert_eq!(shown["startsAt"], "2031-05-01T18:30:00Z");
        assert_eq!(shown["status"], "RESCHEDULED");
        assert_eq!(shown["atproto"]["cid"], written.cid);
        assert_eq!(shown["atproto"]["value"], record);
    }

    async fn an_answer_comes_before_its_event(&mut self) -> Written {
        let record = event("Picnic");
        let uri = self.organizer.uri(EVENT, "picnic");
        // The CID of what has not been written yet is unknown, so that of another record stands for it.
        let somewhere = self.attendee.create(&event("Somewhere else")).await;
        let early = Written { uri: uri.clone(), cid: somewhere.cid.clone() };
        self.attendee.put(&self.attendee.uri(RSVP, "early"), &answer(&early, "going")).await;
        // Of one account everything comes in order: once this is gone, the answer has come.
        self.attendee.delete(&somewhere.uri).await;
        self.attendee.put(&self.attendee.uri(EVENT, "marker"), &event("Marker")).await;
        let actor = json!({ "actor": { "did": self.attendee.did } });
        self.graphql.eventually("the marker is listed", LISTS, &actor, |data| names(data) == ["Marker"]).await;

        let picnic = self.organizer.put(&uri, &record).await;
        let created = self.changes.expect("CREATED", &uri, &[]).await;
        assert_eq!(created["event"]["attendance"], counts(1, 0, 0));
        assert_eq!(self.one(&picnic).await["rsvps"]["nodes"][0]["attendee"]["did"], self.attendee.did);
        picnic
    }

    async fn the_attendee_leaves_and_comes_back(&mut self, picnic: &Written) {
        let did = self.attendee.did.clone();
        self.attendee.deactivate().await;
        self.changes.expect("UPDATED", &picnic.uri, &["attendance"]).await;
        let shown = self.one(picnic).await;
        assert_eq!(shown["attendance"], counts(0, 0, 0));
        assert_eq!(shown["rsvps"]["nodes"], json!([]));
        assert_eq!(self.answers(&did).await, json!([]));
        assert!(self.listed(&did).await.is_empty());
        assert_eq!(self.shadow(&did).await, Value::Null);

        self.attendee.activate().await;
        self.changes.expect("UPDATED", &picnic.uri, &["attendance"]).await;
        assert_eq!(self.one(picnic).await["attendance"], counts(1, 0, 0));
        assert_eq!(self.listed(&did).await, ["Marker"]);
        self.is_known(&did, &self.attendee.handle).await;
    }

    async fn the_organizer_leaves_and_comes_back(&mut self, events: &[&Written]) {
        let (organizer, attendee) = (self.organizer.did.clone(), self.attendee.did.clone());
        let before = self.listed(&organizer).await;
        self.organizer.deactivate().await;
        for event in events {
            let deleted = self.changes.expect("DELETED", &event.uri, &[]).await;
            assert_eq!(deleted["event"], Value::Null);
            assert_eq!(self.one(event).await, Value::Null);
        }
        assert!(self.listed(&organizer).await.is_empty());
        assert_eq!(self.answers(&attendee).await, json!([]), "nor is the answer to a hidden event shown");
        assert_eq!(self.shadow(&organizer).await, Value::Null);

        self.organizer.activate().await;
        for event in events {
            self.changes.expect("CREATED", &event.uri, &[]).await;
            assert_eq!(self.one(event).await["atproto"]["uri"], event.uri);
        }
        assert_eq!(self.listed(&organizer).await, before);
        assert_eq!(self.answers(&attendee).await, json!([{ "status": "CONFIRMED", "event": { "name": "Picnic" } }]));
        self.is_known(&organizer, &self.organizer.handle).await;
    }

    async fn the_organizer_takes_another_name(&mut self, events: &[&Written]) {
        let (did, old) = (self.organizer.did.clone(), self.organizer.handle.clone());
        let new = self.organizer.rename(&format!("{}-new", old.split_once('.').unwrap().0)).await;
        self.changes.expect_handle(events, &new).await;
        for event in events {
            assert_eq!(self.one(event).await["organizer"]["handle"], new);
        }
        self.is_known(&did, &new).await;
        // The directory is asked again also when a name changes while it is being asked.
        let mut last = new;
        for number in 0..10 {
            last = self.organizer.rename(&format!("{}-{number}", old.split_once('.').unwrap().0)).await;
        }
        let new = last;
        self.is_known(&did, &new).await;
        let of = async |handle: &str| {
            let actor = json!({ "actor": { "handle": handle } });
            names(&self.graphql.query(LISTS, &actor).await).len()
        };
        assert_eq!(of(&new).await, events.len());
        assert_eq!(of(&old).await, 0);
    }

    async fn an_event_is_not_to_be_listed(&mut self) {
        let mut record = event("Between us");
        record["preferences"] = json!({ "showInDiscovery": false });
        let secret = self.organizer.create(&record).await;
        let by_link = self.graphql.eventually("the link works", ONE, &json!({ "uri": secret.uri }), is_there).await;
        assert_eq!(by_link["event"]["visibility"], "UNLISTED");
        assert!(!self.listed(&self.organizer.did).await.contains(&"Between us".to_owned()));
        // Nothing was told of it: the next change is that it is listed.
        self.organizer.put(&secret.uri, &event("Between us")).await;
        self.changes.expect("CREATED", &secret.uri, &[]).await;
        assert!(self.listed(&self.organizer.did).await.contains(&"Between us".to_owned()));
        self.organizer.put(&secret.uri, &record).await;
        self.changes.expect("DELETED", &secret.uri, &[]).await;
        assert_eq!(self.one(&secret).await["visibility"], "UNLISTED");
        self.organizer.delete(&secret.uri).await;
        let gone = |data: &Value| !is_there(data);
        self.graphql.eventually("the link is dead", ONE, &json!({ "uri": secret.uri }), gone).await;
    }

    async fn the_event_is_deleted(&mut self, party: &Written) {
        self.organizer.delete(&party.uri).await;
        let deleted = self.changes.expect("DELETED", &party.uri, &[]).await;
        assert_eq!(deleted["event"], Value::Null);
        assert_eq!(self.one(party).await, Value::Null);
        assert_eq!(self.listed(&self.organizer.did).await, ["Picnic"]);
    }

    async fn accounts_are_deleted(mut self, picnic: &Written) {
        let (organizer, attendee) = (self.organizer.did.clone(), self.attendee.did.clone());
        self.attendee.clone().erase().await;
        let updated = self.changes.expect("UPDATED", &picnic.uri, &["attendance"]).await;
        assert_eq!(updated["event"]["attendance"], counts(0, 0, 0));
        assert_eq!(self.one(picnic).await["rsvps"]["nodes"], json!([]));
        assert!(self.listed(&attendee).await.is_empty());
        assert_eq!(self.shadow(&attendee).await, Value::Null);

        self.organizer.clone().erase().await;
        self.changes.expect("DELETED", &picnic.uri, &[]).await;
        assert_eq!(self.one(picnic).await, Value::Null);
        assert!(self.listed(&organizer).await.is_empty());
        assert_eq!(self.shadow(&organizer).await, Value::Null);
    }

    async fn one(&self, event: &Written) -> Value {
        self.graphql.query(ONE, &json!({ "uri": event.uri })).await["event"].take()
    }

    /// Names of the events that lists show of a person.
    async fn listed(&self, did: &str) -> Vec<String> {
        names(&self.graphql.query(LISTS, &json!({ "actor": { "did": did } })).await)
    }

    /// The answers that lists show of a person.
    async fn answers(&self, did: &str) -> Value {
        self.graphql.query(LISTS, &json!({ "actor": { "did": did } })).await["rsvps"]["nodes"].take()
    }

    async fn shadow(&self, did: &str) -> Value {
        self.graphql.query(SHADOW, &json!({ "did": did })).await["shadowAccount"].take()
    }

    /// Waits until a person's handle is known.
    async fn is_known(&self, did: &str, handle: &str) {
        let is_so = |data: &Value| data["shadowAccount"]["handle"] == handle;
        let shown = self.graphql.eventually("the handle is known", SHADOW, &json!({ "did": did }), is_so).await;
        let expected = json!({ "did": did, "handle": handle, "isShadow": true, "displayName": handle });
        assert_eq!(shown["shadowAccount"], expected);
    }
}

pub(super) fn is_there(data: &Value) -> bool {
    !data["event"].is_null()
}

pub(super) fn names(lists: &Value) -> Vec<String> {
    let nodes = lists["events"]["nodes"].as_array().unwrap();
    nodes.iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
}

fn counts(confirmed: u32, maybe: u32, cancelled: u32) -> Value {
    json!({ "confirmedCount": confirmed, "maybeCount": maybe, "cancelledCount": cancelled })
}
