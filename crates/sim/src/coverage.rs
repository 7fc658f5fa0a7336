//! Which transitions of the node's state machines were made under which fault.
//!
//! Input: what the node counts as it runs. Output: a line for each transition: how often, and the
//! faults under which it was never made.
//!
//! A fault lasts, here, until the next one strikes: what a kill brings about comes after it.
//!
//! Invariant: without the feature `mutations`, nothing is counted.
//!
//! Source: as `skein_types::transitions`.

use std::collections::{BTreeMap, BTreeSet};

#[cfg(feature = "mutations")]
use skein_types::transitions;

/// Before the first fault.
const NONE: &str = "";
/// All faults are over.
pub(crate) const HEALED: &str = "healed";

/// Counts over many runs.
#[derive(Debug, Default)]
pub struct Coverage {
    counts: BTreeMap<(String, &'static str), u64>,
}

/// What the node does from here on it does under `fault`, or after it.
pub(crate) fn under(fault: &'static str) {
    #[cfg(feature = "mutations")]
    transitions::under(fault);
    #[cfg(not(feature = "mutations"))]
    let _ = fault;
}

impl Coverage {
    /// Counts what the next run of this thread does, which `run` is.
    pub fn of<T>(&mut self, run: impl FnOnce() -> T) -> T {
        #[cfg(feature = "mutations")]
        transitions::count();
        let result = run();
        #[cfg(feature = "mutations")]
        for (key, count) in transitions::counted() {
            *self.counts.entry(key).or_default() += count;
        }
        result
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// A line for each transition, and one for all.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let of_all = |(_, fault): &(String, &'static str)| *fault;
        let faults: BTreeSet<_> = self.counts.keys().map(of_all).collect();
        let faults: BTreeSet<_> = &faults - &BTreeSet::from([NONE, HEALED]);
        let mut transitions: BTreeMap<&str, (u64, BTreeSet<&str>)> = BTreeMap::new();
        for ((transition, fault), count) in &self.counts {
            let (sum, under) = transitions.entry(transition).or_default();
            *sum += count;
            under.extend(faults.get(fault));
        }
        let mut lines = Vec::new();
        let mut filled = 0;
        for (transition, (sum, under)) in &transitions {
            filled += under.len();
            let never: Vec<_> = faults
                .iter()
                .filter(|fault| !under.contains(*fault))
                .collect();
            let never = never.into_iter().copied().collect::<Vec<_>>().join(", ");
            let share = format!("{}/{}", under.len(), faults.len());
            let mut line = format!("{sum:>12} {share:>6}  {transition}");
            if !never.is_empty() {
                line += &format!("; never under {never}");
            }
            lines.push(line);
        }
        lines.push(format!(
            "{} transitions under {} faults: {filled} of {} pairs were seen",
            transitions.len(),
            faults.len(),
            transitions.len() * faults.len(),
        ));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_tells_the_faults_that_it_never_met() {
        let mut coverage = Coverage::default();
        for (transition, fault, count) in [
            ("a -> b", NONE, 5),
            ("a -> b", "kill", 2),
            ("a -> b", "power cut", 1),
            ("a -> c", "kill", 1),
            ("a -> c", HEALED, 1),
        ] {
            let key = (transition.to_owned(), fault);
            coverage.counts.insert(key, count);
        }
        let lines = coverage.lines();
        assert_eq!(lines[0].trim(), "8    2/2  a -> b");
        assert_eq!(lines[1].trim(), "2    1/2  a -> c; never under power cut");
        assert_eq!(
            lines[2],
            "2 transitions under 2 faults: 3 of 4 pairs were seen"
        );
    }
}
