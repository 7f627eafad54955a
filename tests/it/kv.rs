//! The key-value store: the same promises, kept by the embedded store on both databases and by Redis.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod away;
mod proxy;
pub(crate) mod stores;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use gateway::{
    error::Error,
    infra::{
        clock::Clock,
        db::Db,
        kv::{Fence, Key, Kind, Kv, Limit, MAX_VALUE, Topic},
    },
};
use sea_orm::EntityTrait;

use self::stores::{Store, in_time, on_each_store, until};

/// Longer than any of this takes.
const LONG: Duration = Duration::from_secs(100);
/// Short enough to wait for, and long enough to do something before, also on a busy machine.
const SHORT: Duration = Duration::from_secs(2);

fn key(id: &str) -> Key {
    Key::new(Kind::Once, id)
}

/// Several handles, each as another process would have it.
async fn handles(store: &Store, number: usize) -> Vec<Kv> {
    join_all((0..number).map(|_| store.open())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_there_until_it_expires() {
    on_each_store(async |store| {
        let (kv, other) = (store.open().await, store.open().await);
        assert_eq!(kv.get(&key("a")).await.unwrap(), None);
        kv.set(&key("a"), b"first", LONG).await.unwrap();
        kv.set(&key("a"), b"second", SHORT).await.unwrap();
        kv.set(&key("b"), b"stays", SHORT).await.unwrap();
        kv.set(&key("b"), b"stays", LONG).await.unwrap();
        assert_eq!(other.get(&key("a")).await.unwrap().unwrap(), "second");
        until(async || other.get(&key("a")).await.unwrap().is_none()).await;
        assert_eq!(other.take(&key("a")).await.unwrap(), None);
        assert!(!other.delete(&key("a")).await.unwrap());
        assert_eq!(other.get(&key("b")).await.unwrap().unwrap(), "stays");
        assert_eq!(other.get(&Key::new(Kind::Session, "b")).await.unwrap(), None, "another kind");
        assert!(other.delete(&key("b")).await.unwrap());
        assert_eq!(kv.get(&key("b")).await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_any_bytes_of_bounded_number_under_any_id() {
    on_each_store(async |store| {
        let kv = store.open().await;
        let largest: Vec<u8> = (0..MAX_VALUE).map(|at| u8::try_from(at % 256).unwrap()).collect();
        for (id, value) in [("\0 ü\n", &largest[..]), ("", b""), (&"x".repeat(5_000), b"\0")] {
            kv.set(&key(id), value, LONG).await.unwrap();
            assert_eq!(kv.get(&key(id)).await.unwrap().unwrap(), value);
            assert_eq!(kv.take(&key(id)).await.unwrap().unwrap(), value);
        }
        let error = kv.set(&key("a"), &vec![0; MAX_VALUE + 1], LONG).await.unwrap_err();
        assert_eq!(error.reason(), "KV_VALUE_TOO_LARGE");
        let error = kv.compare_and_set(&key("a"), None, &vec![0; MAX_VALUE + 1], LONG).await.unwrap_err();
        assert_eq!(error.reason(), "KV_VALUE_TOO_LARGE");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_takers_one_gets_the_value() {
    on_each_store(async |store| {
        let handles = handles(store, 3).await;
        handles[0].set(&key("once"), b"it", LONG).await.unwrap();
        let takers = (0..50).map(|number| {
            let kv = handles[number % 3].clone();
            tokio::spawn(async move { kv.take(&key("once")).await.unwrap() })
        });
        let taken: Vec<Bytes> = join_all(takers).await.into_iter().filter_map(Result::unwrap).collect();
        assert_eq!(taken, ["it"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_changes_only_from_what_was_expected() {
    on_each_store(async |store| {
        let handles = handles(store, 3).await;
        let mut expected: Option<Vec<u8>> = None;
        for round in 0..3 {
            let writers = (0..30).map(|number| {
                let (kv, expected) = (handles[number % 3].clone(), expected.clone());
                tokio::spawn(async move {
                    let value = format!("{round} {number}").into_bytes();
                    let won = kv.compare_and_set(&key("a"), expected.as_deref(), &value, LONG).await.unwrap();
                    won.then_some(value)
                })
            });
            let won: Vec<Vec<u8>> = join_all(writers).await.into_iter().filter_map(Result::unwrap).collect();
            assert_eq!(won.len(), 1, "winners of round {round}");
            assert_eq!(handles[1].get(&key("a")).await.unwrap().unwrap(), won[0]);
            expected = won.into_iter().next();
        }
        let kv = &handles[0];
        assert!(!kv.compare_and_set(&key("none"), Some(b""), b"x", LONG).await.unwrap());
        // What has expired is nothing.
        assert!(kv.compare_and_set(&key("a"), expected.as_deref(), b"short", SHORT).await.unwrap());
        until(async || kv.get(&key("a")).await.unwrap().is_none()).await;
        assert!(!kv.compare_and_set(&key("a"), Some(b"short"), b"x", LONG).await.unwrap());
        assert!(kv.compare_and_set(&key("a"), None, b"x", LONG).await.unwrap());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_one_holds_the_lock_and_fences_grow() {
    on_each_store(async |store| {
        let handles = handles(store, 3).await;
        let mut last = 0;
        for _ in 0..5 {
            let takers = (0..50).map(|number| {
                let kv = handles[number % 3].clone();
                tokio::spawn(async move { kv.lock("work", LONG).await.unwrap() })
            });
            let mut held: Vec<_> = join_all(takers).await.into_iter().filter_map(Result::unwrap).collect();
            assert_eq!(held.len(), 1);
            let lock = held.pop().unwrap();
            assert!(lock.fence().number() > last);
            last = lock.fence().number();
            assert!(handles[1].lock("other work", LONG).await.unwrap().is_some());
            assert!(lock.release().await.unwrap());
        }
        // Who only drops it lets it go as well.
        drop(handles[0].lock("work", LONG).await.unwrap().unwrap());
        until(async || handles[1].lock("work", LONG).await.unwrap().is_some()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_lost_a_lock_cannot_touch_it() {
    on_each_store(async |store| {
        let (kv, other) = (store.open().await, store.open().await);
        let mut stale = kv.lock("work", SHORT).await.unwrap().unwrap();
        assert!(stale.renew().await.unwrap());
        let mut fences = vec![stale.fence().number()];
        let mut current = None;
        until(async || {
            current = other.lock("work", LONG).await.unwrap();
            current.is_some()
        })
        .await;
        let mut current = current.unwrap();
        fences.push(current.fence().number());
        assert!(!stale.renew().await.unwrap());
        let stale_fence = stale.fence();
        assert!(!stale.release().await.unwrap());
        assert!(current.renew().await.unwrap(), "it is still held");
        assert!(kv.lock("work", LONG).await.unwrap().is_none());

        // What it writes is refused from the moment that its successor has written.
        let db = store.db();
        admit(db, &stale_fence).await.unwrap();
        admit(db, &current.fence()).await.unwrap();
        admit(db, &current.fence()).await.unwrap();
        let refused = admit(db, &stale_fence).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable { service: "lock", .. }), "{}", refused.chain());

        assert!(current.release().await.unwrap());
        for _ in 0..5 {
            until(async || match kv.lock("work", Duration::from_millis(20)).await.unwrap() {
                Some(lock) => {
                    fences.push(lock.fence().number());
                    // Left to expire.
                    std::mem::forget(lock);
                    true
                }
                None => false,
            })
            .await;
        }
        assert!(fences.is_sorted_by(|a, b| a < b), "{fences:?}");
    })
    .await;
}

async fn admit(db: &Db, fence: &Fence) -> Result<(), Error> {
    db.transact(|tx| async move { fence.admit(&*tx).await }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_held_for_as_long_as_the_work_takes() {
    on_each_store(async |store| {
        let (kv, other) = (store.open().await, store.open().await);
        let lock = kv.lock("work", SHORT).await.unwrap().unwrap();
        let second = kv.lock("second", SHORT).await.unwrap().unwrap();
        let started = Instant::now();
        let work = async |name: &str| {
            while started.elapsed() < SHORT * 3 / 2 {
                assert!(other.lock(name, SHORT).await.unwrap().is_none());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            "done"
        };
        let worked = (lock.during(work("work")).boxed_local(), second.throughout(work("second")).boxed_local());
        let outcomes = tokio::join!(worked.0, worked.1);
        assert_eq!(outcomes, (Some("done"), "done"));
        assert!(other.lock("second", SHORT).await.unwrap().is_some(), "it was let go");
        assert!(other.lock("work", SHORT).await.unwrap().is_some(), "it was let go");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_window_holds_more_than_the_limit() {
    const TASKS: usize = 20;
    on_each_store(async |store| {
        let limit = Limit { count: 40, per: Duration::from_millis(700) };
        // Without a server every process counts for itself.
        let handles = handles(store, if store.is_remote() { 3 } else { 1 }).await;
        let allowed = AtomicU32::new(0);
        let tasks = (0..TASKS).map(async |number| {
            let kv = &handles[number % handles.len()];
            let mut mine = Vec::new();
            while allowed.load(Ordering::Relaxed) < limit.count * 3 {
                let asked = Instant::now();
                let rate = kv.rate("requests", limit, 1).await.unwrap();
                if rate.is_allowed {
                    allowed.fetch_add(1, Ordering::Relaxed);
                    mine.push((asked, Instant::now()));
                } else {
                    assert!(rate.retry_after > Duration::ZERO && rate.retry_after <= limit.per * 2, "{rate:?}");
                    tokio::time::sleep(rate.retry_after).await;
                }
            }
            mine
        });
        let happened: Vec<(Instant, Instant)> = in_time(join_all(tasks)).await.into_iter().flatten().collect();
        for (start, _) in &happened {
            let end = *start + limit.per;
            let within = happened.iter().filter(|(asked, answered)| asked >= start && *answered <= end).count();
            assert!(within <= 40, "{within} in one window");
        }

        let kv = &handles[0];
        let limit = Limit { count: 10, per: LONG };
        assert_eq!(kv.rate("budget", limit, 7).await.unwrap().remaining, 3);
        let refused = kv.rate("budget", limit, 4).await.unwrap();
        assert!(!refused.is_allowed && refused.remaining == 3);
        assert!(refused.retry_after > Duration::ZERO && refused.retry_after <= LONG * 2);
        assert!(!kv.rate("budget", limit, 11).await.unwrap().is_allowed, "more than the limit ever allows");
        assert!(kv.rate("budget", limit, 3).await.unwrap().is_allowed);
        assert_eq!(kv.rate("another", limit, 1).await.unwrap().remaining, 9);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cached_is_fetched_once_until_it_expires() {
    on_each_store(async |store| {
        let (kv, other) = (store.open().await, store.open().await);
        let fetched = AtomicU32::new(0);
        let fetch = async || {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(Bytes::from(fetched.fetch_add(1, Ordering::Relaxed).to_string()))
        };
        let asks = (0..50).map(|_| kv.cached("a", SHORT, fetch()));
        assert!(join_all(asks).await.into_iter().all(|answer| answer.unwrap() == "0"));
        let there = other.cached("a", SHORT, fetch()).await.unwrap();
        assert_eq!(there == "0", store.is_remote(), "{there:?}");
        let before = fetched.load(Ordering::Relaxed);
        until(async || {
            kv.cached("a", LONG, fetch()).await.unwrap();
            fetched.load(Ordering::Relaxed) > before
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_learn_of_a_failure_and_the_next_tries_again() {
    on_each_store(async |store| {
        let kv = store.open().await;
        let fetched = AtomicU32::new(0);
        let fail = async || {
            tokio::time::sleep(Duration::from_millis(20)).await;
            fetched.fetch_add(1, Ordering::Relaxed);
            Err(Error::upstream("geocoder", anyhow::anyhow!("no answer")))
        };
        let asks = (0..50).map(|_| kv.cached("a", LONG, fail()));
        for answer in join_all(asks).await {
            let error = answer.unwrap_err();
            assert!(matches!(error, Error::Upstream { service: "geocoder", .. }));
            assert!(error.chain().contains("no answer"), "{}", error.chain());
        }
        assert_eq!(fetched.load(Ordering::Relaxed), 1);
        assert_eq!(kv.cached("a", LONG, async { Ok(Bytes::from("it")) }).await.unwrap(), "it");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ring_wakes_who_listens() {
    on_each_store(async |store| {
        let kv = store.open().await;
        let here = kv.bell(Topic::Changes);
        let mut listeners = vec![here.listen()];
        if store.is_remote() {
            let bell = store.open().await.bell(Topic::Changes);
            assert!(!bell.is_joined());
        }
        let other = store.open().await;
        if store.is_remote() {
            // Joining is itself heard, since something may have been missed before.
            let mut there = other.bell(Topic::Changes).listen();
            for listener in listeners.iter_mut().chain([&mut there]) {
                in_time(listener.rung()).await;
            }
            assert!(here.is_joined());
            listeners.push(there);
        }
        for _ in 0..3 {
            for listener in &mut listeners {
                assert!(listener.rung().now_or_never().is_none(), "nobody has rung");
            }
            here.ring();
            for listener in &mut listeners {
                in_time(listener.rung()).await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_know_nothing_of_each_other() {
    on_each_store(async |store| {
        let (kv, other) = (store.open().await, store.open_beside().await);
        kv.set(&key("a"), b"it", LONG).await.unwrap();
        let _lock = kv.lock("work", LONG).await.unwrap().unwrap();
        assert_eq!(other.get(&key("a")).await.unwrap(), None);
        assert!(other.lock("work", LONG).await.unwrap().is_some());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_store_forgets_what_has_expired() {
    crate::support::database::on_each_database(async |test| {
        let settings = stores::settings(None, "test".to_owned());
        let start = Clock::system().now();
        let kv = Kv::open(&settings, test.db.clone(), Clock::steered(move || start)).await.unwrap();
        for number in 0..2_500 {
            kv.set(&key(&format!("short {number}")), b"", SHORT).await.unwrap();
        }
        kv.set(&key("long"), b"", LONG).await.unwrap();
        let first = kv.lock("short", SHORT).await.unwrap().unwrap();
        let long = kv.lock("long", LONG).await.unwrap().unwrap();
        assert_eq!(kv.sweep().await.unwrap(), 0);

        let later = Clock::steered(move || start + SHORT);
        let kv = Kv::open(&settings, test.db.clone(), later).await.unwrap();
        assert_eq!(kv.get(&key("short 0")).await.unwrap(), None, "gone before it is swept");
        let mut swept = 0;
        loop {
            match kv.sweep().await.unwrap() {
                0 => break,
                some => swept += some,
            }
        }
        assert_eq!(swept, 2_501);
        let left = entities::kv_entry::Entity::find().all(test.db.read()).await.unwrap();
        assert_eq!(
            left.into_iter().map(|entry| entry.key).collect::<BTreeSet<_>>(),
            ["test:once:long".to_owned()].into()
        );
        let left = entities::kv_lock::Entity::find().all(test.db.read()).await.unwrap();
        assert_eq!(left.into_iter().map(|lock| lock.key).collect::<Vec<_>>(), ["test:lock:long"]);

        // By this clock, which stands still, and although nothing is left of the first holding.
        let second = kv.lock("short", SHORT).await.unwrap().unwrap();
        assert!(second.fence().number() > first.fence().number().max(long.fence().number()));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_a_store_is_refused() {
    let test = crate::support::database::sqlite().await;
    for (url, namespace) in [(Some("http://localhost"), "a"), (Some("redis://"), "a:b"), (None, "")] {
        let settings = stores::settings(url.map(str::to_owned), namespace.to_owned());
        let error = in_time(Kv::open(&settings, test.db.clone(), Clock::system())).await.unwrap_err();
        assert_eq!(error.reason(), "CONFIG_INVALID");
    }
}
