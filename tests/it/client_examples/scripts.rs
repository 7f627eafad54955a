//! The scripts with curl.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::{
    root,
    running::{NAMES, PLACE, Running, guest},
};
use crate::support::records::network;

/// Far more than any answer takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn scripts_ask() {
    let running = Running::start().await;
    let first = answer(&running, "upcoming.sh", &["1"]).await;
    assert_eq!(names(&first), [NAMES[0]]);
    let end = first["data"]["events"]["pageInfo"]["endCursor"].as_str().unwrap();
    assert_eq!(names(&answer(&running, "upcoming.sh", &["1", end]).await), [NAMES[1]]);

    let (latitude, longitude) = PLACE;
    let near = answer(&running, "near.sh", &[&latitude.to_string(), &longitude.to_string(), "1000"]).await;
    assert_eq!(names(&near), [NAMES[0]]);
    assert!(names(&answer(&running, "near.sh", &["0", "0"]).await).is_empty());

    let found = answer(&running, "search.sh", &["garden", "party"]).await;
    assert_eq!(found["data"]["events"]["edges"][0]["node"]["name"], NAMES[1]);
    let none = answer(&running, "search.sh", &[r#"no "such\ thing"#]).await;
    assert_eq!(
        none,
        json!({ "data": { "events": {
        "totalCount": 0, "edges": [], "pageInfo": { "endCursor": null, "hasNextPage": false },
    } } })
    );
}

#[tokio::test]
async fn a_script_shows_what_was_put_aside() {
    let running = Running::start().await;
    running.program.replay(&running.program.file(["nonsense"])).await;
    let key = running.admin_key().await;
    for (stage, count) in [(&["receive"][..], 1), (&["map"], 0), (&[], 1)] {
        let mut command = script(&running, "failures.sh", stage);
        let ended = timeout(PATIENCE, command.env("GATEWAY_KEY", &key).output()).await.expect("it ends").unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        let answer: Value = serde_json::from_slice(&ended.stdout).unwrap();
        assert_eq!(answer["data"]["admin"]["ingestFailures"]["nodes"].as_array().unwrap().len(), count, "{answer}");
    }
    let mut command = script(&running, "failures.sh", &[]);
    let refused = command.env("GATEWAY_KEY", "omk_wrong").output().await.unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stdout).contains("UNAUTHENTICATED"));
}

#[tokio::test]
async fn scripts_bring_and_take_away() {
    let running = Running::start().await;
    let made = running.program.run(&["keys", "create", "scraper", "--source", "web"]).await;
    let key = String::from_utf8(made.stdout).unwrap().trim_end().to_owned();
    let run = async |name: &str, arguments: &[&str]| -> (bool, Vec<Value>) {
        let mut command = script(&running, name, arguments);
        let ended = timeout(PATIENCE, command.env("GATEWAY_KEY", &key).output()).await.expect("it ends").unwrap();
        let text = String::from_utf8(ended.stdout).unwrap();
        (ended.status.success(), text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    };
    let (name, (one, other)) = (r#"A "quoted" \ name"#, (guest(1), guest(2)));
    let arguments = ["42", name, "1999-05-01T18:00:00Z", &one, "going", &other, "nonsense"];
    let (done, answers) = run("bring.sh", &arguments).await;
    assert!(done, "{answers:?}");
    let results = &answers[1]["results"];
    assert_eq!((&answers[0]["outcome"], &results[0]["outcome"]), (&json!("created"), &json!("created")));
    assert_eq!((&results[1]["field"], &results[1]["index"]), (&json!("status"), &json!(1)));
    let shown = json!({ "slug": answers[0]["slug"] });
    let query = "query ($slug: String!) { event(by: { slug: $slug }) { name attendance { confirmedCount } } }";
    let data = running.graphql().query(query, &shown).await;
    assert_eq!(data["event"], json!({ "name": name, "attendance": { "confirmedCount": 1 } }));

    // By itself, with no answers.
    assert_eq!(run("bring.sh", &arguments[..3]).await.1[0]["outcome"], "unchanged");
    let (done, gone) = run("remove.sh", &["rsvps", results[0]["sourceId"].as_str().unwrap()]).await;
    assert!(done && gone[0]["outcome"] == "deleted", "{gone:?}");
    assert_eq!(run("remove.sh", &["events", "42"]).await.1[0]["outcome"], "deleted");
    let (done, problem) = run("remove.sh", &["events", "42"]).await;
    assert!(!done && problem[0]["code"] == "NOT_FOUND", "{problem:?}");
}

#[tokio::test]
async fn scripts_follow() {
    let running = Running::start().await;
    let file = running.folder().join("changes.cursor");
    let poll = || Following::start(&running, "changes.sh", &[file.to_str().unwrap()]);
    let mut polling = poll();
    let opening = running.cursors(None).await;
    let polled = polling.pages(opening.len()).await;
    assert_eq!(polled, opening);
    let mut following = Following::start(&running, "subscribe.sh", &[&opening[0]]);
    let mut followed = following.events(opening.len() - 1).await;

    let lines = network(9, 150, 10).lines;
    let (one, other) = lines.split_at(120);
    running.program.replay(&running.program.file(one)).await;
    let more = running.cursors(opening.last().map(String::as_str)).await;
    assert!(more.len() > 100, "more than a page");
    assert_eq!(polling.pages(more.len()).await, more);
    followed.extend(following.events(more.len()).await);
    assert_eq!(followed, [&opening[1..], &more].concat());

    // The file brings the next one to where this one is going to be.
    let at = more.last().unwrap();
    while std::fs::read_to_string(&file).unwrap().trim() != at {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    polling.child.kill().await.unwrap();
    running.program.replay(&running.program.file(other)).await;
    let rest = running.cursors(Some(at)).await;
    assert_eq!(poll().pages(rest.len()).await, rest);
}

fn script(running: &Running, name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(root().join("client-examples/curl").join(name));
    command.args(arguments).env("GATEWAY", running.url()).env("INTERVAL", "0.1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// The JSON that a script prints.
async fn answer(running: &Running, name: &str, arguments: &[&str]) -> Value {
    let ended = timeout(PATIENCE, script(running, name, arguments).output()).await.expect("it ends").unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.success(), "{name}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn names(answer: &Value) -> Vec<&str> {
    let nodes = answer["data"]["events"]["nodes"].as_array().unwrap();
    nodes.iter().map(|event| event["name"].as_str().unwrap()).collect()
}

/// A script that goes on.
struct Following {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Following {
    fn start(running: &Running, name: &str, arguments: &[&str]) -> Self {
        let mut child = script(running, name, arguments).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("it prints something").unwrap();
        line.expect("it goes on")
    }

    /// Cursors from pages, so many.
    async fn pages(&mut self, count: usize) -> Vec<String> {
        let mut cursors = Vec::new();
        while cursors.len() < count {
            let page: Value = serde_json::from_str(&self.line().await).unwrap();
            let changes = page["data"]["eventChanges"]["changes"].as_array().unwrap();
            cursors.extend(changes.iter().map(|change| change["cursor"].as_str().unwrap().to_owned()));
        }
        cursors
    }

    /// Cursors from server-sent events, so many.
    async fn events(&mut self, count: usize) -> Vec<String> {
        let mut cursors = Vec::new();
        while cursors.len() < count {
            if let Some(data) = self.line().await.strip_prefix("data: ") {
                let change: Value = serde_json::from_str(data).unwrap();
                cursors.push(change["data"]["eventIngested"]["cursor"].as_str().unwrap().to_owned());
            }
        }
        cursors
    }
}
