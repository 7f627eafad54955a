//! The states of a circuit. Rests are short enough to be waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{sleep, timeout};

use super::*;
use crate::error::Error;

const POLICY: Policy = Policy { failures: 3, first: Duration::from_millis(40), longest: Duration::from_millis(160) };

fn breaker() -> Arc<Breaker> {
    Arc::new(Breaker::new(POLICY))
}

fn away() -> Result<(), Error> {
    Err(Error::Unavailable { service: "database", source: anyhow::anyhow!("gone") })
}

/// Fails until it opens; how long it rests.
fn open(breaker: &Arc<Breaker>) -> Duration {
    for _ in 0..2 {
        assert!(!breaker.admit().unwrap().fails());
    }
    assert!(breaker.admit().unwrap().fails());
    breaker.admit().unwrap_err().retry_after
}

#[tokio::test]
async fn failures_in_a_row_open_it_and_one_success_between_does_not() {
    let breaker = breaker();
    for _ in 0..10 {
        breaker.admit().unwrap().fails();
        breaker.admit().unwrap().fails();
        breaker.admit().unwrap().works();
    }
    assert_eq!(breaker.state(), State::Closed);
    assert!(breaker.is_blank());
    let rest = open(&breaker);
    assert!(rest <= POLICY.first && !rest.is_zero(), "{rest:?}");
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn after_the_rest_one_probes_and_decides() {
    let breaker = breaker();
    let first = open(&breaker);
    sleep(first).await;
    let probe = breaker.admit().unwrap();
    assert_eq!(breaker.state(), State::HalfOpen);
    assert!(breaker.admit().is_err(), "there is one probe");
    assert!(!probe.fails(), "it was open before");
    let second = breaker.rest().unwrap();
    assert!(second > POLICY.first / 2 && second <= 2 * POLICY.first, "{second:?}");
    sleep(second).await;
    assert!(breaker.admit().unwrap().works());
    assert_eq!(breaker.state(), State::Closed);
    assert!(open(&breaker) <= POLICY.first, "the next outage begins anew");
}

#[tokio::test]
async fn a_rest_is_never_longer_than_the_longest() {
    let breaker = breaker();
    let mut rest = open(&breaker);
    for _ in 0..5 {
        sleep(rest).await;
        breaker.admit().unwrap().fails();
        rest = breaker.rest().unwrap();
        assert!(rest <= POLICY.longest);
    }
    assert!(rest >= POLICY.longest / 3, "{rest:?}");
}

#[tokio::test]
async fn a_probe_that_says_nothing_leaves_the_place_to_the_next() {
    let breaker = breaker();
    sleep(open(&breaker)).await;
    drop(breaker.admit().unwrap());
    assert!(breaker.admit().unwrap().works());
}

#[tokio::test]
async fn who_passed_before_it_opened_is_no_longer_heard() {
    let breaker = breaker();
    let (early, late) = (breaker.admit().unwrap(), breaker.admit().unwrap());
    open(&breaker);
    assert!(!early.works() && !late.fails());
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test]
async fn a_rest_that_is_asked_for_is_kept() {
    let breaker = breaker();
    let (first, second, third) = (breaker.admit().unwrap(), breaker.admit().unwrap(), breaker.admit().unwrap());
    first.rests(Duration::from_mins(10));
    second.rests(Duration::from_millis(400));
    assert!(!third.works(), "an answer from before is no reason");
    let resting = breaker.admit().unwrap_err();
    assert!(resting.was_asked && resting.retry_after > POLICY.longest, "{resting:?}");
    sleep(resting.retry_after).await;
    assert!(breaker.admit().unwrap().works());
}

#[tokio::test]
async fn a_server_is_looked_for_by_one_and_found_by_all() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let circuit = Circuit::looking(Dependency::Database, POLICY, move || {
        let is_back = counted.fetch_add(1, Ordering::SeqCst) == 3;
        Box::pin(async move { if is_back { Ok(()) } else { away() } })
    });
    for _ in 0..3 {
        circuit.judge(circuit.admit().unwrap(), &away());
    }
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let circuit = circuit.clone();
            tokio::spawn(async move {
                let mut recovery = Recovery::new("use the database", [circuit.clone()]);
                while let Err(error) = circuit.admit().map(drop) {
                    recovery.pause(&error).await;
                }
                recovery.works();
            })
        })
        .collect();
    for waiting in waiting {
        timeout(Duration::from_mins(2), waiting).await.expect("all go on").unwrap();
    }
    assert_eq!(looks.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn errors_of_others_do_not_open_it() {
    let circuit = Circuit::new(Dependency::Broker, POLICY);
    for _ in 0..10 {
        circuit.judge(circuit.admit().unwrap(), &away());
        circuit.suffer(&Error::bug(anyhow::anyhow!("ours")));
    }
    assert!(circuit.is_closed());
}
