//! A gateway that starts for the first time, long after people have begun to write.

use serde_json::{Value, json};

use super::{LISTS, ONE, answer, event};
use crate::support::{
    database::on_each_database,
    devnet::{Devnet, RSVP},
    gateway::Launch,
    graphql::GraphQl,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_first_start_is_read_from_the_repositories() {
    let devnet = Devnet::start().await;
    let author = devnet.account("author", "pds1").await;
    let guest = devnet.account("guest", "pds2").await;
    let mut written = Vec::new();
    for number in 0..3 {
        written.push(author.create(&event(&format!("Event {number}"))).await);
    }
    author.delete(&written[2].uri).await;
    let answered = guest.create(&answer(&written[0], "going")).await;
    assert!(answered.uri.contains(RSVP));

    on_each_database(async |database| {
        // Live: the stream itself will tell nothing of all this.
        let mut settings = devnet.network.settings(&devnet.network.jetstream());
        settings.retain(|(name, _)| !matches!(*name, "GATEWAY_STREAMS__START" | "GATEWAY_STREAMS__BACKFILL"));
        settings.push(("GATEWAY_STREAMS__BACKFILL", devnet.network.relay_url.clone()));
        let gateway = Launch::new(&database.url, settings).start().await;
        let graphql = GraphQl::new(gateway.address);
        let actor = json!({ "actor": { "did": author.did } });
        let names = |data: &Value| {
            let nodes = data["events"]["nodes"].as_array().unwrap();
            nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        graphql
            .eventually("the events are read", LISTS, &actor, |data| {
                let mut names = names(data);
                names.sort_unstable();
                names == ["Event 0", "Event 1"]
            })
            .await;
        let one = json!({ "uri": written[0].uri });
        graphql
            .eventually("the answer is read", ONE, &one, |data| {
                data["event"]["attendance"]["confirmedCount"] == 1
                    && data["event"]["rsvps"]["nodes"][0]["attendee"]["did"] == guest.did.as_str()
            })
            .await;
        // From here on the stream is followed.
        let later = author.create(&event("Later")).await;
        graphql
            .eventually("the stream is followed", ONE, &json!({ "uri": later.uri }), |data| !data["event"].is_null())
            .await;
        author.delete(&later.uri).await;
    })
    .await;
}
