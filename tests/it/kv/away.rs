//! Redis is away: every operation says so soon, and all goes on by itself when it is back.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use gateway::{
    domain::change::{Feed, FeedSettings, Filter},
    error::{Class, Error, Result},
    infra::kv::{Kv, Limit, Topic},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    LONG, key,
    proxy::{Proxy, by_way_of},
    stores::{Store, in_time, redis_url, run, until},
};
use crate::support::changes::{commit, rows};

/// Within this time every operation has failed.
const SOON: Duration = Duration::from_secs(2);

/// Asks for each thing once; each must fail in the way that callers decide by, the first of them within two seconds and the
/// others, since it is known by then, much sooner.
async fn everything_fails_soon(kv: &Kv) {
    let limit = Limit { count: 1, per: LONG };
    let start = Instant::now();
    fails(kv.get(&key("a")).await);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let start = Instant::now();
    fails(kv.get(&key("a")).await);
    fails(kv.set(&key("a"), b"", LONG).await);
    fails(kv.delete(&key("a")).await);
    fails(kv.take(&key("a")).await);
    fails(kv.compare_and_set(&key("a"), None, b"", LONG).await);
    fails(kv.lock("work", LONG).await);
    fails(kv.rate("requests", limit, 1).await);
    fails(kv.ping().await);
    kv.bell(Topic::Changes).ring();
    assert_eq!(kv.cached("a", LONG, async { Ok(Bytes::from("it")) }).await.unwrap(), "it", "a miss, no failure");
    assert!(start.elapsed() < SOON / 2, "{:?}", start.elapsed());
}

fn fails<T>(outcome: Result<T>) {
    let error = outcome.err().expect("Redis is away");
    assert!(matches!(error, Error::Unavailable { service: "redis", .. }), "{}", error.chain());
    assert_eq!(error.class(), Class::System);
}

async fn answers(kv: &Kv) -> bool {
    kv.set(&key("a"), b"it", LONG).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_joined_when_it_comes() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    run(Store::on_redis(by_way_of(port)).await, async |store| {
        let start = Instant::now();
        let kv = store.open().await;
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        everything_fails_soon(&kv).await;
        let _proxy = Proxy::start(port).await;
        until(async || answers(&kv).await).await;
        assert_eq!(kv.get(&key("a")).await.unwrap().unwrap(), "it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_given_up_and_found_again() {
    let proxy = Proxy::start(0).await;
    run(Store::on_redis(proxy.url()).await, async |store| {
        let kv = store.open().await;
        let lock = kv.lock("long work", Duration::from_secs(3)).await.unwrap().unwrap();
        let shorter = kv.lock("work that must come to its end", Duration::from_secs(1)).await.unwrap().unwrap();
        assert!(answers(&kv).await);
        proxy.silence(true);
        everything_fails_soon(&kv).await;
        // Somebody else may have it by now, so the work must not go on; unless it is such that it must.
        let (tell, told) = oneshot::channel();
        let given_up = async { tell.send(lock.during(std::future::pending::<()>()).await).unwrap() };
        let (worked, ()) = in_time(async { tokio::join!(shorter.throughout(told).boxed(), given_up.boxed()) }).await;
        assert_eq!(worked, Ok(None));
        proxy.silence(false);
        until(async || answers(&kv).await).await;
        assert!(kv.lock("long work", LONG).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_speak_tls_counts_as_away() {
    let proxy = Proxy::start(0).await;
    run(Store::on_redis(proxy.url().replacen("redis://", "rediss://", 1)).await, async |store| {
        everything_fails_soon(&store.open().await).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_a_silent_server_in_a_crowd_waits_no_longer() {
    let proxy = Proxy::start(0).await;
    run(Store::on_redis(proxy.url()).await, async |store| {
        let kv = store.open().await;
        proxy.silence(true);
        let start = Instant::now();
        let asks = (0..2_000).map(async |_| fails(kv.get(&key("a")).await));
        futures_util::future::join_all(asks).await;
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_cut_costs_nobody_an_error() {
    let proxy = Proxy::start(0).await;
    run(Store::on_redis(proxy.url()).await, async |store| {
        let kv = store.open().await;
        for _ in 0..10 {
            assert!(answers(&kv).await);
            proxy.cut();
            assert_eq!(kv.get(&key("a")).await.unwrap().unwrap(), "it");
            assert!(kv.lock("work", LONG).await.unwrap().unwrap().release().await.unwrap());
            // What must not be carried out twice, too, once the end of the connection is known.
            assert_eq!(kv.take(&key("a")).await.unwrap().unwrap(), "it");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_are_heard_again_after_a_cut_and_after_a_silence() {
    let proxy = Proxy::start(0).await;
    run(Store::on_redis(proxy.url()).await, async |store| {
        let (kv, other) = (store.open().await, store.open().await);
        let bell = kv.bell(Topic::Changes);
        let mut listener = bell.listen();
        for disturb in [|_: &Proxy| {}, Proxy::cut, |proxy: &Proxy| proxy.silence(true)] {
            disturb(&proxy);
            if proxy.is_silent() {
                // Until it is noticed; a cut is noticed at once, and over before somebody who looks now and then sees it.
                until(async || !bell.is_joined()).await;
                proxy.silence(false);
            }
            // Joining is itself heard; what is pending of it must not be taken for the ring.
            in_time(listener.rung()).await;
            until(async || bell.is_joined()).await;
            while listener.rung().now_or_never().is_some() {}
            until(async || answers(&other).await).await;
            other.bell(Topic::Changes).ring();
            in_time(listener.rung()).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_at_once_what_another_process_commits() {
    run(Store::on_redis(redis_url()).await, async |store| {
        let (kv, other) = (store.open().await, store.open().await);
        let test = store.database();
        // It would never look by itself in the time of this test.
        let settings = FeedSettings { poll: Duration::from_hours(1), ..FeedSettings::default() };
        let feed = Feed::new(test.db.clone(), test.tenant, kv.bell(Topic::Changes), settings);
        let shutdown = CancellationToken::new();
        tokio::spawn(feed.clone().run(shutdown.clone()));
        let mut changes = Box::pin(feed.subscribe(Filter::default(), None).await.unwrap());
        for _ in 0..3 {
            let written = commit(&test.connect_again().await, rows(test.tenant, 2)).await.unwrap();
            other.bell(Topic::Changes).ring();
            for id in written {
                assert_eq!(in_time(changes.next()).await.unwrap().unwrap().row.id, id);
            }
        }
        shutdown.cancel();
    })
    .await;
}
