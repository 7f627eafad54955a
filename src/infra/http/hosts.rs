//! What is known of each host: how many ask it, how fast, and whether it answers. Bounded: hosts that nobody asks are forgotten.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use url::Url;

use crate::infra::resilience::{Breaker, Policy, State};

/// Requests to one host at a time; politeness, and a bound on what one slow host can hold.
pub(super) const PER_HOST: usize = 4;
/// Hosts that are remembered while nobody uses them.
const MOST: usize = 1_024;
/// One that fails so often in a row is left alone: PDSes are restarted, and then answer within seconds.
const POLICY: Policy = Policy { failures: 5, first: Duration::from_secs(5), longest: Duration::from_mins(5) };

/// How fast one host is asked. It is a process's own: several ask several times as fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Between two requests, on average; not zero.
    pub every: Duration,
    /// Requests that may come at once after a time of rest.
    pub burst: u32,
}

impl Pace {
    /// So many requests in a second, and three times as many after a rest. `None` for nought: as fast as it answers.
    pub fn per_second(requests: u32) -> Option<Self> {
        let every = Duration::from_secs(1).checked_div(requests)?;
        Some(Self { every, burst: requests.saturating_mul(3) })
    }
}

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) places: Arc<Semaphore>,
    pub(super) breaker: Arc<Breaker>,
    pace: Option<Pace>,
    /// When the next request would come if all so far had kept the average.
    next: Mutex<Option<Instant>>,
}

impl Host {
    /// Waits until the host may be asked. Whoever calls holds one of the few places, so nobody waits behind many.
    pub(super) async fn turn(&self) {
        if let Some(at) = self.next_turn(Instant::now()) {
            sleep_until(at).await;
        }
    }

    /// When whoever comes now may ask; it is reserved. `None`: at once.
    fn next_turn(&self, now: Instant) -> Option<Instant> {
        let pace = self.pace?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.map_or(now, |next| next.max(now));
        *next = Some(due + pace.every);
        due.checked_sub(pace.every.saturating_mul(pace.burst.saturating_sub(1))).filter(|at| *at > now)
    }
}

pub(super) struct Hosts {
    pace: Option<Pace>,
    known: Mutex<HashMap<String, Arc<Host>>>,
}

impl Hosts {
    pub(super) fn new(pace: Option<Pace>) -> Self {
        Self { pace, known: Mutex::default() }
    }

    /// The host of a URL, with its port: on a local network several share a name.
    pub(super) fn of(&self, url: &Url) -> Arc<Host> {
        let name =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut hosts = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST && !hosts.contains_key(&name) {
            let is_used = |host: &Arc<Host>| Arc::strong_count(host) > 1;
            hosts.retain(|_, host| is_used(host) || !host.breaker.is_blank());
            if hosts.len() >= MOST {
                // Somebody names hosts that do not answer, one after the other: they may be asked again.
                hosts.retain(|_, host| is_used(host));
            }
        }
        let host = || Host {
            places: Arc::new(Semaphore::new(PER_HOST)),
            breaker: Arc::new(Breaker::new(POLICY)),
            pace: self.pace,
            next: Mutex::default(),
        };
        Arc::clone(hosts.entry(name).or_insert_with(|| Arc::new(host())))
    }

    /// A circuit has opened: of a host of this kind.
    pub(super) fn opened(&self, service: &'static str) {
        counter!("gateway_circuit_openings_total", "dependency" => service).increment(1);
        self.changed();
    }

    /// Circuits have opened or closed.
    pub(super) fn changed(&self) {
        let hosts = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = hosts.values().filter(|host| host.breaker.state() != State::Closed).count();
        #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
        gauge!("gateway_circuit_hosts").set(resting as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(number: usize) -> Url {
        format!("https://host{number}.example.com/").parse().unwrap()
    }

    #[test]
    fn memory_is_bounded_and_keeps_those_that_rest() {
        let hosts = Hosts::new(None);
        let busy = hosts.of(&url(0));
        let dead = hosts.of(&url(1));
        dead.breaker.admit().unwrap().rests(Duration::from_mins(1));
        drop(dead);
        for number in 2..5 * MOST {
            hosts.of(&url(number));
            assert!(hosts.known.lock().unwrap().len() <= MOST);
        }
        assert!(Arc::ptr_eq(&busy, &hosts.of(&url(0))), "its limit holds while somebody uses it");
        assert_eq!(hosts.of(&url(1)).breaker.state(), State::Open);
        for number in 0..5 * MOST {
            hosts.of(&url(number)).breaker.admit().map(|pass| pass.rests(Duration::from_mins(1))).ok();
            assert!(hosts.known.lock().unwrap().len() <= MOST, "whatever strangers name");
        }
    }

    #[test]
    fn no_stretch_of_time_holds_more_than_the_pace_allows() {
        for (per_second, pauses) in [(1, vec![0; 9]), (10, vec![0; 80]), (10, vec![3_000, 0, 5_000, 0, 40, 700])] {
            let pace = Pace::per_second(per_second).unwrap();
            let hosts = Hosts::new(Some(pace));
            let mut asked: Vec<Instant> = Vec::new();
            let mut now = Instant::now();
            for pause in pauses.into_iter().flat_map(|pause| [pause; 5]) {
                now = asked.last().map_or(now, |last| now.max(*last)) + Duration::from_millis(pause);
                asked.push(hosts.of(&url(0)).next_turn(now).unwrap_or(now));
            }
            for (first, from) in asked.iter().enumerate() {
                for (last, to) in asked.iter().enumerate().skip(first) {
                    let allowed = (*to - *from).as_secs_f64() * f64::from(per_second) + f64::from(pace.burst);
                    let count = f64::from(u32::try_from(last - first + 1).unwrap());
                    assert!(count <= allowed + 1e-6, "{count} from {first} to {last}, {allowed} allowed");
                }
            }
            assert_eq!(hosts.of(&url(1)).next_turn(now), None, "each host has its own");
        }
        assert_eq!(Pace::per_second(0), None);
        assert_eq!(Hosts::new(None).of(&url(0)).next_turn(Instant::now()), None);
    }
}
