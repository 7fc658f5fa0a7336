//! What is left out of the run that a seed has drawn, to find the smallest one that still fails.
//!
//! Input: names of parts. Output: a plan without the others.
//!
//! ```text
//!   producer-0, consumer-1, lister-0, member-2, committer-0    clients
//!   delete-topic, create-partitions, delete-records,           what the admin does
//!   change-policy, hide-record
//!   strike-0, strike-1, …                                      faults, in their order
//!   yields, delays, fragments                                  tasks held up, split segments
//! ```
//!
//! Invariant: what is left in a run draws the numbers that it drew before: every part has a stream
//! of random numbers of its own. Only their interleaving changes.
//!
//! Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002).

use std::collections::BTreeSet;
use std::time::Duration;

use skein_env::sim::SimWorld;

use crate::plan::Plan;

/// What is left of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// The parts that are left; `None` for all.
    pub only: Option<BTreeSet<String>>,
    /// How long faults strike, at most.
    pub safety: Option<Duration>,
}

impl Cuts {
    /// Whether a part is in the run.
    pub(crate) fn keep(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(part))
    }

    pub(crate) fn apply(&self, plan: &mut Plan) {
        let safety = self.safety.unwrap_or(plan.safety);
        plan.safety = plan.safety.min(safety);
        for (part, weight) in plan.admin.operations() {
            if !self.keep(part) {
                *weight = 0;
            }
        }
        for (part, one_in) in plan.hindrances() {
            if !self.keep(part) {
                *one_in = 0;
            }
        }
    }
}

/// The name of a fault, by its number.
pub(crate) fn strike(number: u64) -> String {
    format!("strike-{number}")
}

/// The parts of a run whose faults struck `strikes` times.
#[must_use]
pub fn parts(seed: u64, strikes: u64) -> Vec<String> {
    let mut plan = Plan::draw(&mut SimWorld::new(seed).rng("plan"));
    let mut parts: Vec<_> = (0..strikes).map(strike).collect();
    parts.extend(plan.clients().iter().map(ToString::to_string));
    let of_admin = plan.admin.operations().into_iter();
    let is_on = of_admin.filter(|(_, weight)| **weight > 0);
    parts.extend(is_on.map(|(part, _)| part.to_owned()));
    let hindrances = plan.hindrances().into_iter();
    let is_on = hindrances.filter(|(_, one_in)| **one_in > 0);
    parts.extend(is_on.map(|(part, _)| part.to_owned()));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_that_is_named_can_be_left_out() {
        let seed = (1..50)
            .find(|seed| parts(*seed, 0).iter().any(|part| part == "delete-topic"))
            .unwrap();
        let mut plan = Plan::draw(&mut SimWorld::new(seed).rng("plan"));
        let all = parts(seed, 2);
        assert_eq!(all[..2], ["strike-0", "strike-1"]);
        let cuts = Cuts {
            only: Some(BTreeSet::from(["producer-0".to_owned()])),
            safety: Some(Duration::from_millis(10)),
        };
        cuts.apply(&mut plan);
        assert!(plan.admin.is_idle());
        assert!(plan.hindrances().iter().all(|(_, one_in)| **one_in == 0));
        assert_eq!(plan.safety, Duration::from_millis(10));
        assert!(cuts.keep("producer-0") && !cuts.keep("strike-0"));
    }
}
