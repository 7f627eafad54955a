//! Looking names up, when they change at the worst moment.

use std::net::SocketAddr;

use entities::{identity, sets::HandleStatus};
use gateway::{
    app::App,
    config,
    domain::{account::lookup, ingest},
    infra::clock::Clock,
};
use sea_orm::EntityTrait;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    database::{TestDb, on_each_database},
    devnet::{Account, Devnet, HTTP, Network, REQUEST},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_while_it_is_looked_up_is_looked_up_again() {
    let devnet = Devnet::start().await;
    on_each_database(async |test| {
        let mut directory = Directory::start(&devnet.network).await;
        let app = open(test, &devnet.network, directory.address).await;
        let mut author = devnet.account("author", "pds1").await;
        announce(&app, &author).await;
        let looking = tokio::spawn({
            let app = app.clone();
            async move { lookup::refresh(&app).await }
        });
        let held = directory.asked().await;
        author.handle = author.rename(&format!("{}-new", author.handle.split_once('.').unwrap().0)).await;
        announce(&app, &author).await;
        held.answer().await;
        assert_eq!(looking.await.unwrap().unwrap().len(), 1);

        let again = tokio::spawn({
            let app = app.clone();
            async move { lookup::refresh(&app).await }
        });
        directory.asked().await.answer().await;
        assert_eq!(again.await.unwrap().unwrap().len(), 1);
        let known = identity::Entity::find_by_id(&author.did).one(test.db.read()).await.unwrap().unwrap();
        assert_eq!((known.handle, known.handle_status), (Some(author.handle.clone()), HandleStatus::Verified));
        assert_eq!(lookup::refresh(&app).await.unwrap(), Vec::<String>::new(), "then there is peace");
    })
    .await;
}

/// The program without its loops, which asks this directory.
async fn open(test: &TestDb, network: &Network, directory: SocketAddr) -> App {
    let mut settings = network.settings("");
    settings.retain(|(name, _)| !matches!(*name, "GATEWAY_STREAMS__ENDPOINTS" | "GATEWAY_NETWORK__PLC_URL"));
    settings.push(("GATEWAY_NETWORK__PLC_URL", format!("http://{directory}")));
    settings.push(("DATABASE_URL", test.url.clone()));
    let settings = settings.into_iter().map(|(name, value)| (name.to_owned(), value));
    let config = config::load(None, settings, toml::Table::new()).unwrap();
    App::open(config, Clock::system()).await.unwrap()
}

/// The stream says that there is something new about an account.
async fn announce(app: &App, account: &Account) {
    let line = json!({ "did": account.did, "kind": "identity", "identity": { "did": account.did } });
    ingest::submit(app, &[line.to_string()]).await.unwrap();
}

/// The network's directory, seen through a wire that holds answers back.
struct Directory {
    address: SocketAddr,
    questions: mpsc::Receiver<HeldAnswer>,
}

/// What the directory said when it was asked.
struct HeldAnswer {
    asker: TcpStream,
    body: String,
}

impl Directory {
    async fn start(network: &Network) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, questions) = mpsc::channel(8);
        let plc_url = network.plc_url.clone();
        tokio::spawn(async move {
            while let Ok((mut asker, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(asker.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let path = head.split(' ').nth(1).unwrap();
                let body = HTTP.get(format!("{plc_url}{path}")).send().await.unwrap().text().await.unwrap();
                if sender.send(HeldAnswer { asker, body }).await.is_err() {
                    return;
                }
            }
        });
        Self { address, questions }
    }

    /// The next question, with the answer that was true when it was asked.
    async fn asked(&mut self) -> HeldAnswer {
        timeout(REQUEST, self.questions.recv()).await.expect("the directory is asked").unwrap()
    }
}

impl HeldAnswer {
    async fn answer(mut self) {
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", self.body.len());
        self.asker.write_all(head.as_bytes()).await.unwrap();
        self.asker.write_all(self.body.as_bytes()).await.unwrap();
    }
}
