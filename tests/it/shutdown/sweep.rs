//! The role `sweep`.

use std::time::Duration;

use entities::identity;
use gateway::{
    domain::account,
    infra::{
        clock::Clock,
        kv::{Kv, KvSettings},
    },
};
use sea_orm::EntityTrait;
use tokio::{net::TcpListener, sync::watch};

use super::stand::{Stand, end, figure, until};
use crate::{kv::stores::redis_url, support::records::did};

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_leaves_its_look_ups_and_its_lock_to_others() {
    let Some(stand) = Stand::new().await else { return };
    let clock = Clock::system();
    let (dids, now) = (&(0..200).map(|number| did(63, number)).collect::<Vec<_>>(), clock.now());
    stand.test.db.transact(|tx| async move { account::identity::note(&*tx, dids, now).await }).await.unwrap();
    // A directory that takes questions and gives no answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, questions) = watch::channel(0);
    let listening = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
            asked.send_replace(held.len());
        }
    });
    let program = stand.program().with("GATEWAY_NETWORK__PLC_URL", &url).with("GATEWAY_NETWORK__TIMEOUT_SECONDS", "60");
    let (child, address) = program.serve("sweep").await;
    until("it looks accounts up", async || *questions.borrow() > 0).await;
    until("it leads", async || figure(&address, "gateway_leader{work=\"sweep\"}").await > 0.5).await;
    end(child, "INT").await;

    let settings = KvSettings { url: Some(redis_url()), namespace: stand.namespace.clone() };
    let kv = Kv::open(&settings, stand.test.db.clone(), clock).await.unwrap();
    // One that was killed would keep it for some seconds.
    let lock = kv.lock("sweep", Duration::from_secs(1)).await.unwrap();
    assert!(lock.is_some(), "nobody else can lead");
    let attempts = identity::Entity::find().all(stand.test.db.read()).await.unwrap();
    assert_eq!(attempts.len(), dids.len());
    assert!(attempts.iter().all(|row| row.check_attempts == 0), "what was cut short counts as failed");
    listening.abort();
    drop((lock, kv));
    stand.discard().await;
}
