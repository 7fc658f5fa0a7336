//! When a controller looks for leaders that are not the preferred ones.
//!
//! Input: time, what the last look found. Output: whether another one is due.
//!
//! Invariant: a new controller waits for one interval first: after an election, and after nodes
//! were started, leaders move enough by themselves.
//!
//! Source: `leader.imbalance.check.interval.seconds`.

use skein_config::BrokerConfig;
use skein_controller::LeadersBalanced;
use skein_types::Millis;

/// See the module.
#[derive(Debug)]
pub(crate) struct Balancing {
    /// `None` if `auto.leader.rebalance.enable` is off.
    interval_ms: Option<Millis>,
    due: Millis,
}

impl Balancing {
    pub(crate) fn new(config: &BrokerConfig, now: Millis) -> Self {
        let config = &config.replica;
        let interval_ms = config.leader_imbalance_check_interval_ms;
        Self {
            interval_ms: config.auto_leader_rebalance_enable.then_some(interval_ms),
            due: now.saturating_add(interval_ms),
        }
    }

    /// Whether it is time to look; the next time comes an interval later.
    pub(crate) fn is_due(&mut self, now: Millis) -> bool {
        let Some(interval_ms) = self.interval_ms.filter(|_| now >= self.due) else {
            return false;
        };
        self.due = now.saturating_add(interval_ms);
        true
    }

    /// A look has been had: where there was too much to do for one, the next one is due now.
    pub(crate) fn balanced(&mut self, balanced: LeadersBalanced, now: Millis) {
        if balanced.elected > 0 {
            tracing::info!(
                partitions = balanced.elected,
                "preferred replicas lead again"
            );
        }
        if balanced.is_full {
            self.due = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[&str]) -> BrokerConfig {
        let mut layers = skein_config::Layers::new();
        for setting in settings {
            layers = layers.set(setting);
        }
        layers.build().unwrap().0
    }

    #[test]
    fn it_is_looked_after_each_interval_and_again_where_there_is_more() {
        let config = config(&["leader.imbalance.check.interval.seconds=5"]);
        let mut balancing = Balancing::new(&config, Millis(1_000));
        assert!(!balancing.is_due(Millis(5_999)));
        assert!(balancing.is_due(Millis(6_000)));
        assert!(!balancing.is_due(Millis(10_999)));
        assert!(balancing.is_due(Millis(11_000)));
        let mut found = LeadersBalanced {
            elected: 3,
            is_full: false,
        };
        balancing.balanced(found, Millis(11_001));
        assert!(!balancing.is_due(Millis(11_002)));
        found.is_full = true;
        balancing.balanced(found, Millis(11_003));
        assert!(balancing.is_due(Millis(11_003)));
    }

    #[test]
    fn nobody_looks_if_it_is_switched_off() {
        let config = config(&["auto.leader.rebalance.enable=false"]);
        let mut balancing = Balancing::new(&config, Millis(0));
        assert!(!balancing.is_due(Millis(i64::MAX)));
    }
}
