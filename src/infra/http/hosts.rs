//! What is known of each host: how many ask it, and whether it answers. Bounded: hosts that nobody asks are forgotten.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use metrics::{counter, gauge};
use tokio::sync::Semaphore;
use url::Url;

use crate::infra::resilience::{Breaker, Policy, State};

/// Requests to one host at a time; politeness, and a bound on what one slow host can hold.
pub(super) const PER_HOST: usize = 4;
/// Hosts that are remembered while nobody uses them.
const MOST: usize = 1_024;
/// One that fails so often in a row is left alone: PDSes are restarted, and then answer within seconds.
const POLICY: Policy = Policy { failures: 5, first: Duration::from_secs(5), longest: Duration::from_mins(5) };

/// One host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) places: Arc<Semaphore>,
    pub(super) breaker: Arc<Breaker>,
}

#[derive(Default)]
pub(super) struct Hosts(Mutex<HashMap<String, Arc<Host>>>);

impl Hosts {
    /// The host of a URL, with its port: on a local network several share a name.
    pub(super) fn of(&self, url: &Url) -> Arc<Host> {
        let name =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        let mut hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST && !hosts.contains_key(&name) {
            let is_used = |host: &Arc<Host>| Arc::strong_count(host) > 1;
            hosts.retain(|_, host| is_used(host) || !host.breaker.is_blank());
            if hosts.len() >= MOST {
                // Somebody names hosts that do not answer, one after the other: they may be asked again.
                hosts.retain(|_, host| is_used(host));
            }
        }
        let host = || Host { places: Arc::new(Semaphore::new(PER_HOST)), breaker: Arc::new(Breaker::new(POLICY)) };
        Arc::clone(hosts.entry(name).or_insert_with(|| Arc::new(host())))
    }

    /// A circuit has opened: of a host of this kind.
    pub(super) fn opened(&self, service: &'static str) {
        counter!("gateway_circuit_openings_total", "dependency" => service).increment(1);
        self.changed();
    }

    /// Circuits have opened or closed.
    pub(super) fn changed(&self) {
        let hosts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
        let hosts = Hosts::default();
        let busy = hosts.of(&url(0));
        let dead = hosts.of(&url(1));
        dead.breaker.admit().unwrap().rests(Duration::from_mins(1));
        drop(dead);
        for number in 2..5 * MOST {
            hosts.of(&url(number));
            assert!(hosts.0.lock().unwrap().len() <= MOST);
        }
        assert!(Arc::ptr_eq(&busy, &hosts.of(&url(0))), "its limit holds while somebody uses it");
        assert_eq!(hosts.of(&url(1)).breaker.state(), State::Open);
        for number in 0..5 * MOST {
            hosts.of(&url(number)).breaker.admit().map(|pass| pass.rests(Duration::from_mins(1))).ok();
            assert!(hosts.0.lock().unwrap().len() <= MOST, "whatever strangers name");
        }
    }
}
