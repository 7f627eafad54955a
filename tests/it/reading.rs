//! What GraphQL shows of a filled database, to whom, and in how many statements.

mod world;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use world::{BERLIN, EVENTS, GONE, PEOPLE, did, event_uri, instant, number, on_each_world, organizer, visible};

#[tokio::test]
async fn a_page_costs_the_same_number_of_statements_whatever_its_size() {
    on_each_world(async |world| {
        let query = "query($n: Int!) { events(first: $n, orderBy: {field: UPDATED_AT, direction: DESC}) { nodes {
            name organizer { id displayName handle } attendance { confirmedCount }
            rsvps(first: 3) { totalCount pageInfo { hasNextPage } nodes { status attendee { displayName } event { slug } } }
        } } }";
        let mut counts = Vec::new();
        for size in [2, 10, 50] {
            let before = world.db.statement_count();
            let data = world.data(query, json!({ "n": size })).await;
            counts.push(world.db.statement_count() - before);
            let nodes = data["events"]["nodes"].as_array().unwrap();
            assert_eq!(nodes.len(), size);
            for node in nodes {
                assert_eq!(node["rsvps"]["nodes"].as_array().unwrap().len(), 3);
                assert_eq!(node["rsvps"]["totalCount"], 4);
                assert_eq!(node["rsvps"]["pageInfo"]["hasNextPage"], true);
                // The latest change first; a hidden one was later still.
                assert_eq!(node["rsvps"]["nodes"][0]["status"], "CANCELLED");
                assert_eq!(node["rsvps"]["nodes"][0]["attendee"]["displayName"], "person3.example.com");
            }
        }
        // A larger page may need one less: when everybody who answered is an organiser too, all are known already.
        assert!(counts.iter().all(|count| *count <= counts[0]), "{counts:?}");
        assert!(counts[0] <= 6, "{counts:?}");
    })
    .await;
}

#[tokio::test]
async fn lists_show_what_is_listed_and_keys_reach_what_is_reachable() {
    on_each_world(async |world| {
        let all: BTreeSet<i64> = world.listed(json!({})).await.into_iter().collect();
        assert_eq!(all, (0..EVENTS).filter(|number| visible(*number)).collect());
        // The one without a start is the last.
        assert_eq!(world.listed(json!({})).await.last(), Some(&3));
        for number in 0..10 {
            let reachable = number == 1 || visible(number);
            let query = "query($s: String!, $u: AtUri!) {
                a: event(by: {slug: $s}) { id slug } b: event(by: {uri: $u}) { slug }
                c: event(by: {source: {type: BLUESKY, id: $t}}) { slug }
                d: event(by: {source: {type: WEB, id: $t}}) { slug } }"
                .replace("$t", &format!("{:?}", event_uri(number)));
            let data = world.data(&query, json!({ "s": format!("event-{number}"), "u": event_uri(number) })).await;
            for alias in ["a", "b", "c"] {
                assert_eq!(data[alias].is_object(), reachable, "{alias} {number}");
            }
            assert!(data["d"].is_null());
            if reachable {
                let query = "query($id: ID!) { node(id: $id) { __typename id } event(by: {id: $id}) { slug } }";
                let found = world.data(query, json!({ "id": data["a"]["id"] })).await;
                assert_eq!(found["node"], json!({ "__typename": "Event", "id": data["a"]["id"] }));
                assert_eq!(found["event"]["slug"], data["a"]["slug"]);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn filters_narrow_the_list() {
    on_each_world(async |world| {
        let listed = |rule: &dyn Fn(i64) -> bool| -> BTreeSet<i64> {
            (0..EVENTS).filter(|number| visible(*number) && rule(*number)).collect()
        };
        let range = |from: i64, to: i64| json!({ "from": instant(from).to_rfc3339(), "to": instant(to).to_rfc3339() });
        let (latitude, longitude) = BERLIN;
        let near =
            |meters: i64| json!({ "near": { "latitude": latitude, "longitude": longitude, "radiusMeters": meters } });
        let cases: Vec<(Value, BTreeSet<i64>)> = vec![
            (json!({ "startsAt": range(10, 20) }), listed(&|n| (10..20).contains(&n))),
            (json!({ "startsAt": {} }), listed(&|n| n != 3)),
            (json!({ "updatedAt": range(30, 31) }), listed(&|n| n == 30)),
            (json!({ "mode": ["VIRTUAL"] }), listed(&|n| n % 2 == 1)),
            (json!({ "mode": ["VIRTUAL", "IN_PERSON"], "status": ["SCHEDULED"] }), listed(&|_| true)),
            (json!({ "mode": [] }), listed(&|_| false)),
            (json!({ "status": ["DRAFT"] }), listed(&|_| false)),
            (json!({ "source": ["WEB"] }), listed(&|_| false)),
            (json!({ "query": "№ 42" }), listed(&|n| n == 42)),
            (json!({ "query": "MEETUP rust 100%" }), listed(&|_| true)),
            // The beginning of a word is enough, its middle is not.
            (json!({ "query": "meet RU" }), listed(&|_| true)),
            (json!({ "query": "eetup" }), listed(&|_| false)),
            (json!({ "query": "rust 4" }), listed(&|n| n == 4 || (40..50).contains(&n))),
            // Wildcards and operators are nothing special.
            (json!({ "query": "r%t" }), listed(&|_| false)),
            (json!({ "query": "rust* | nothing" }), listed(&|_| false)),
            (json!({ "query": "(rust) & 'meetup':* \"100%\"" }), listed(&|_| true)),
            (json!({ "query": "NEAR(rust meetup)" }), listed(&|_| false)),
            (json!({ "query": "rust NOT meetup" }), listed(&|_| false)),
            (json!({ "query": "search_text : rust" }), listed(&|_| false)),
            (json!({ "query": "c++" }), listed(&|_| false)),
            (
                json!({ "query": (0..200).map(|n| char::from_u32(0x1f300 + n).unwrap()).collect::<String>() }),
                listed(&|_| false),
            ),
            // Without words nothing is asked for.
            (json!({ "query": "" }), listed(&|_| true)),
            (json!({ "query": " !'\"*:&|\\() \u{0} -- " }), listed(&|_| true)),
            (json!({ "organizers": [{ "did": did(2) }] }), listed(&|n| organizer(n) == 2)),
            (
                json!({ "organizers": [{ "handle": "person3.example.com" }, { "did": did(2) }] }),
                listed(&|n| [2, 3].contains(&organizer(n))),
            ),
            (json!({ "organizers": [{ "handle": "person1.example.com" }] }), listed(&|_| false)),
            (json!({ "organizers": [] }), listed(&|_| false)),
            (json!({ "organizedByShadowAccount": true }), listed(&|_| true)),
            (json!({ "organizedByShadowAccount": false }), listed(&|_| false)),
            // 0.1 degrees are 11.1 km.
            (near(100_000), listed(&|n| n < 9)),
            (near(500_000), listed(&|n| n < 45)),
            (near(1), listed(&|_| false)),
            // From the north, and across the antimeridian from nobody.
            (json!({ "near": { "latitude": 60, "longitude": 13.4, "radiusMeters": 400_000 } }), listed(&|n| n >= 39)),
            (json!({ "near": { "latitude": 52.5, "longitude": -180, "radiusMeters": 500_000 } }), listed(&|_| false)),
        ];
        for (filter, expected) in cases {
            let found: BTreeSet<i64> = world.listed(filter.clone()).await.into_iter().collect();
            assert_eq!(found, expected, "{filter}");
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    on_each_world(async |world| {
        let cases = [
            ("{ events(first: 0) { nodes { id } } }", "first", "PAGE_SIZE_OUT_OF_RANGE"),
            ("{ events(last: 101) { nodes { id } } }", "last", "PAGE_SIZE_OUT_OF_RANGE"),
            ("{ events(first: 1, last: 1) { nodes { id } } }", "last", "PAGE_AMBIGUOUS"),
            ("{ events(after: \"nonsense\") { nodes { id } } }", "after", "CURSOR_INVALID"),
            ("{ rsvps(before: \"\") { nodes { id } } }", "before", "CURSOR_INVALID"),
            ("{ events(filter: {query: \"a b c d e f g h i\"}) { nodes { id } } }", "query", "QUERY_TOO_LONG"),
            (
                "{ events(filter: {near: {latitude: 91, longitude: 0, radiusMeters: 1}}) { nodes { id } } }",
                "near",
                "GEO_OUT_OF_RANGE",
            ),
            ("{ event(by: {id: \"nonsense\"}) { id } }", "id", "ID_MALFORMED"),
            ("{ node(id: \"nonsense\") { id } }", "id", "ID_MALFORMED"),
            ("{ rsvps(filter: {eventIds: [\"cnN2cDox\"]}) { nodes { id } } }", "eventIds", "ID_OF_ANOTHER_TYPE"),
        ];
        for (query, field, reason) in cases {
            let (extensions, data) = world.refusal(query, json!({})).await;
            assert_eq!(extensions, json!({ "code": "BAD_USER_INPUT", "field": field, "reason": reason }), "{query}");
            assert!(data.as_object().unwrap().values().all(Value::is_null), "{query}: {data}");
        }
        // A cursor belongs to the order that it was made with, whichever way that goes.
        let cursor = world.data("{ events(first: 1) { pageInfo { endCursor } } }", json!({})).await;
        let variables = json!({ "c": cursor["events"]["pageInfo"]["endCursor"] });
        let other = "query($c: String) { events(after: $c, orderBy: {field: CREATED_AT}) { nodes { id } } }";
        assert_eq!(world.refusal(other, variables.clone()).await.0["reason"], "CURSOR_INVALID");
        let same = "query($c: String) { events(after: $c, first: 1) { nodes { slug } pageInfo { hasPreviousPage } } }";
        let next = world.data(same, variables).await;
        assert_eq!(
            next["events"],
            json!({ "nodes": [{ "slug": "event-5" }], "pageInfo": { "hasPreviousPage": true } })
        );
        // What is malformed as such never reaches a resolver.
        for query in [
            "{ event(by: {uri: \"at://alice.example.com/a.b.c/d\"}) { id } }",
            "{ shadowAccount(by: {did: \"alice\"}) { id } }",
            "{ events(filter: {startsAt: {from: \"tomorrow\"}}) { nodes { id } } }",
            "{ event(by: {slug: \"a\", id: \"b\"}) { id } }",
        ] {
            assert_eq!(world.ask(query, json!({})).await.errors.len(), 1, "{query}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_event_shows_its_parts() {
    on_each_world(async |world| {
        let query = "{ event(by: {slug: \"event-10\"}) {
            name description startsAt endsAt timeZone status mode visibility createdAt updatedAt
            locations { __typename ... on GeoLocation { latitude longitude } ... on OnlineLocation { name url } }
            links { name url } attendance { confirmedCount maybeCount cancelledCount }
            source { type externalId url sourceOfTruth ingestedAt }
            atproto { uri cid did collection rkey value indexedAt }
            organizer { __typename displayName did handle isShadow ... on ShadowAccount { createdAt } }
            rsvps(last: 2, status: [CONFIRMED, MAYBE]) { totalCount nodes { status } pageInfo { hasNextPage hasPreviousPage } }
            none: rsvps(status: []) { totalCount nodes { id } }
        } }";
        let event = &world.data(query, json!({})).await["event"];
        let expected = json!({
            "name": "Rust 100% meetup № 10", "description": null, "startsAt": "2027-01-15T08:00:10Z", "endsAt": null,
            "timeZone": "Europe/Berlin", "status": "SCHEDULED", "mode": "IN_PERSON", "visibility": "PUBLIC",
            "createdAt": "2027-01-15T07:59:50Z", "updatedAt": "2027-01-15T08:00:10Z",
            "locations": [
                { "__typename": "GeoLocation", "latitude": 53.52, "longitude": 13.405 },
                { "__typename": "OnlineLocation", "name": "Call", "url": "https://example.com/call" },
            ],
            "links": [{ "name": null, "url": "https://example.com/" }],
            "attendance": { "confirmedCount": 2, "maybeCount": 1, "cancelledCount": 1 },
            "source": {
                "type": "BLUESKY", "externalId": event_uri(10), "url": null, "sourceOfTruth": "REMOTE",
                "ingestedAt": "2027-01-15T08:00:00Z",
            },
            "atproto": {
                "uri": event_uri(10), "cid": "bafyreie5cvv4h45feadgeuwhbcutmh6t2ceseocckahdoe6uat64zmz454",
                "did": did(1), "collection": "community.lexicon.calendar.event", "rkey": "10",
                "value": { "name": "as it came", "odd": [1, { "a": null }] }, "indexedAt": "2027-01-15T08:01:17Z",
            },
            // The handle is not verified: the DID stands for it.
            "organizer": {
                "__typename": "ShadowAccount", "displayName": did(1), "did": did(1), "handle": null, "isShadow": true,
                "createdAt": "2027-01-15T08:00:01Z",
            },
            "rsvps": {
                "totalCount": 3, "nodes": [{ "status": "CONFIRMED" }, { "status": "CONFIRMED" }],
                "pageInfo": { "hasNextPage": false, "hasPreviousPage": true },
            },
            "none": { "totalCount": 0, "nodes": [] },
        });
        assert_eq!(event, &expected);
    })
    .await;
}

#[tokio::test]
async fn answers_and_accounts_are_found() {
    on_each_world(async |world| {
        let all = "{ rsvps(first: 100) { totalCount nodes { id status event { slug } attendee { did } } } }";
        let data = world.data(all, json!({})).await;
        let listed = (0..EVENTS).filter(|number| visible(*number)).count();
        assert_eq!(data["rsvps"]["totalCount"], listed * 4);
        let first = &data["rsvps"]["nodes"][0];
        let query = "query($id: ID!, $e: ID!, $a: ActorRef!) {
            a: rsvp(by: {id: $id}) { id } b: rsvp(by: {attendance: {eventId: $e, attendee: $a}}) { id status }
            of: rsvps(filter: {eventIds: [$e], attendees: [$a]}) { totalCount nodes { id } }
            none: rsvps(filter: {eventIds: [$e], source: [WEB]}) { totalCount nodes { id } } }";
        let by_slug = "query($s: String!) { event(by: {slug: $s}) { id } }";
        let event = world.data(by_slug, json!({ "s": first["event"]["slug"] })).await["event"]["id"].clone();
        let actor = json!({ "did": first["attendee"]["did"] });
        let found = world.data(query, json!({ "id": first["id"], "e": event, "a": actor })).await;
        assert_eq!(found["a"]["id"], first["id"]);
        assert_eq!(found["b"], json!({ "id": first["id"], "status": first["status"] }));
        assert_eq!(found["of"], json!({ "totalCount": 1, "nodes": [{ "id": first["id"] }] }));
        assert_eq!(found["none"]["totalCount"], 0);

        let before = world.db.statement_count();
        let shadows =
            "{ shadowAccounts { totalCount nodes { id did handle events(first: 2) { totalCount nodes { slug } } } } }";
        let data = world.data(shadows, json!({})).await;
        assert!(world.db.statement_count() - before <= 5);
        let nodes = data["shadowAccounts"]["nodes"].as_array().unwrap();
        let dids: Vec<&str> = nodes.iter().map(|node| node["did"].as_str().unwrap()).collect();
        assert_eq!(dids, (0..PEOPLE).rev().filter(|number| *number != GONE).map(did).collect::<Vec<_>>());
        for (node, person) in nodes.iter().zip((0..PEOPLE).rev().filter(|number| *number != GONE)) {
            let own: Vec<i64> = (0..EVENTS).filter(|n| visible(*n) && organizer(*n) == person).collect();
            assert_eq!(node["events"]["totalCount"], own.len());
            // The one without a start is the last of its organiser's.
            let soonest: Vec<i64> = own.iter().copied().filter(|n| *n != 3).take(2).collect();
            let shown: Vec<i64> = node["events"]["nodes"].as_array().unwrap().iter().map(number).collect();
            assert_eq!(shown, soonest);
        }
        let filter = "query($f: ShadowAccountFilter) { shadowAccounts(filter: $f) { totalCount nodes { did } } }";
        for (condition, expected) in [
            (json!({ "handlePrefix": "Person3" }), vec![3]),
            (json!({ "handlePrefix": "person" }), vec![7, 6, 5, 4, 3, 2, 0]),
            (json!({ "handlePrefix": "p_rson" }), vec![]),
            (json!({ "createdAt": { "to": instant(2).to_rfc3339() } }), vec![1, 0]),
            (json!({ "minimumEventCount": 7 }), vec![5, 4, 3]),
        ] {
            let data = world.data(filter, json!({ "f": condition })).await;
            let found: Vec<&Value> =
                data["shadowAccounts"]["nodes"].as_array().unwrap().iter().map(|n| &n["did"]).collect();
            assert_eq!(
                json!(found),
                json!(expected.iter().map(|person| did(*person)).collect::<Vec<_>>()),
                "{condition}"
            );
        }
        for (person, is_visible) in [(0, true), (GONE, false)] {
            let query = "query($d: Did!) { shadowAccount(by: {did: $d}) { id displayName } }";
            let data = world.data(query, json!({ "d": did(person) })).await;
            assert_eq!(data["shadowAccount"].is_object(), is_visible);
        }
        let ids: Vec<&Value> = vec![&nodes[0]["id"], &first["id"], &nodes[0]["id"], &event];
        let data = world.data("query($i: [ID!]!) { nodes(ids: $i) { __typename id } }", json!({ "i": ids })).await;
        let names = ["ShadowAccount", "Rsvp", "ShadowAccount", "Event"];
        let expected: Vec<Value> =
            ids.iter().zip(names).map(|(id, name)| json!({ "__typename": name, "id": id })).collect();
        assert_eq!(data["nodes"], json!(expected));
    })
    .await;
}

#[tokio::test]
async fn the_service_says_what_it_is() {
    on_each_world(async |world| {
        let query = "{ serviceInfo { version schemaHash collections oldestCursor limits { maxPageSize maxDepth } } }";
        let info = &world.data(query, json!({})).await["serviceInfo"];
        assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(info["schemaHash"].as_str().unwrap().len(), 64);
        assert_eq!(info["limits"], json!({ "maxPageSize": 100, "maxDepth": 15 }));
        assert_eq!(info["collections"].as_array().unwrap().len(), 2);
        assert!(info["oldestCursor"].is_null());
    })
    .await;
}
