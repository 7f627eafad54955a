//! The TypeScript client: built against the program's own schema, and cut off from it again and again.

use std::{fs, net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy, copy_bidirectional, sink},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStdout},
    sync::broadcast,
    time::timeout,
};

use super::running::{NAMES, Running, end};
use crate::support::{node::Packages, records::network};

/// Far more than any line takes.
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_prints_every_change_once() {
    let packages = Packages::installed("client-examples/typescript").await;
    let mut running = Running::start().await;
    build(&packages, &running).await;
    // A position that this database has never had: the client starts over by itself.
    let bookmark = running.folder().join("feed.cursor");
    fs::write(&bookmark, "YzE6OTk5OTk5\n").unwrap();
    let before = running.cursors(None).await;
    let start = before.last().map(String::as_str);

    let mut feed = Feed::start(&packages, &running.url(), &bookmark);
    for name in NAMES {
        let line = feed.next().await;
        assert_eq!((&line["kind"], &line["name"]), (&json!("upcoming"), &json!(name)));
    }
    let lines = network(9, 360, 240).lines;
    let mut parts = lines.chunks(100);
    let program = Arc::clone(&running.program);
    let mut replay = async || {
        program.replay(&program.file(parts.next().expect("another part"))).await;
    };
    replay().await;
    feed.until(&running.cursors(start).await).await;

    // Taken down in the middle of changes, first without a warning.
    for warned in [false, true] {
        tokio::join!(replay(), async {
            feed.more().await;
            running.down(warned).await;
        });
        running.up().await;
        feed.until(&running.cursors(start).await).await;
    }
    // What happens while nobody serves.
    running.down(false).await;
    replay().await;
    running.up().await;
    feed.until(&running.cursors(start).await).await;

    // What happens while the client is away.
    let seen = feed.stop().await;
    replay().await;
    let proxy = Proxy::before(running.address()).await;
    let mut feed = Feed { seen, ..Feed::start(&packages, &proxy.url, &bookmark) };
    feed.until(&running.cursors(start).await).await;

    // A socket that is closed as if all were said: graphql-ws then subscribes again by itself.
    proxy.close_sockets();
    replay().await;
    let all = running.cursors(start).await;
    feed.until(&all).await;
    assert_eq!(feed.stop().await, all);
}

async fn build(packages: &Packages, running: &Running) {
    let schema = running.folder().join("schema.graphql");
    fs::write(&schema, running.program.run(&["schema"]).await.stdout).unwrap();
    packages.run("npm", &["run", "build"], &[("GATEWAY_SCHEMA", schema.to_str().unwrap())]).await;
}

/// The running client.
struct Feed {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Cursors of the changes that it has printed.
    seen: Vec<String>,
}

impl Feed {
    fn start(packages: &Packages, gateway: &str, bookmark: &Path) -> Self {
        let mut command = packages.command("node", &["dist/feed.js"]);
        command.env("GATEWAY", gateway).env("CURSOR_FILE", bookmark);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line that it prints.
    async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("the client prints something").unwrap();
        serde_json::from_str(&line.expect("the client goes on")).expect("lines are JSON")
    }

    /// One more change.
    async fn more(&mut self) {
        let line = self.next().await;
        assert_eq!(line["kind"], "change", "{line}");
        self.seen.push(line["cursor"].as_str().unwrap().to_owned());
    }

    /// As many changes as there are; they are the same.
    async fn until(&mut self, cursors: &[String]) {
        while self.seen.len() < cursors.len() {
            self.more().await;
        }
        assert_eq!(self.seen, cursors);
    }

    /// Ends it; what it has printed, to the end.
    async fn stop(mut self) -> Vec<String> {
        assert!(end(self.child).await, "the client ends well");
        while let Some(line) = self.lines.next_line().await.unwrap() {
            let line: Value = serde_json::from_str(&line).unwrap();
            self.seen.push(line["cursor"].as_str().unwrap().to_owned());
        }
        self.seen
    }
}

/// What stands between the client and the program in the world outside.
struct Proxy {
    url: String,
    close: broadcast::Sender<()>,
}

impl Proxy {
    async fn before(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (close, _) = broadcast::channel(1);
        let closes = close.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, gateway, closes.subscribe()));
            }
        });
        Self { url, close }
    }

    /// Closes every WebSocket with 1000, normal closure. To be called while nothing is on its way.
    fn close_sockets(&self) {
        assert!(self.close.send(()).is_ok(), "the client is connected");
    }
}

async fn pass(mut client: TcpStream, gateway: SocketAddr, mut close: broadcast::Receiver<()>) {
    let mut server = TcpStream::connect(gateway).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = close.recv() => {
            client.write_all(&[0x88, 2, 0x03, 0xE8]).await.unwrap();
            // Until the client has taken it: what is closed with unread input loses what was sent.
            copy(&mut client, &mut sink()).await.ok();
        }
    }
}
