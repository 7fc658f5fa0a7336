//! Which transitions of state machines a simulation has seen, and under which fault. Only with the
//! feature `mutations`, which never ships.
//!
//! Input: each transition, as it is made. Output: how often each was made while which fault lasted.
//!
//! Invariant: a simulated node lives on one thread, so what is counted is the thread's.
//!
//! Source: coverage of states and faults, as in the swarm testing of Groce et al. (ISSTA 2012).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write as _};

/// How often each transition was made, by its name and by the fault.
pub type Counts = BTreeMap<(String, &'static str), u64>;

struct Counting {
    fault: &'static str,
    counts: Counts,
}

thread_local! {
    static COUNTING: RefCell<Option<Counting>> = const { RefCell::new(None) };
}

/// Begins to count, in this thread.
pub fn count() {
    COUNTING.with_borrow_mut(|counting| {
        *counting = Some(Counting {
            fault: "",
            counts: Counts::new(),
        });
    });
}

/// Whether this thread counts.
#[must_use]
pub fn is_counting() -> bool {
    COUNTING.with_borrow(Option::is_some)
}

/// What is made from here on is made under `fault`, or after it.
pub fn under(fault: &'static str) {
    COUNTING.with_borrow_mut(|counting| {
        if let Some(counting) = counting {
            counting.fault = fault;
        }
    });
}

/// A transition was made. `name` is asked for only where it is counted.
pub fn made(name: impl FnOnce() -> String) {
    COUNTING.with_borrow_mut(|counting| {
        if let Some(counting) = counting {
            let key = (name(), counting.fault);
            *counting.counts.entry(key).or_default() += 1;
        }
    });
}

/// What was counted; it ends.
#[must_use]
pub fn counted() -> Counts {
    let counting = COUNTING.with_borrow_mut(Option::take);
    counting.map_or_else(Counts::new, |counting| counting.counts)
}

/// The name of an enum's variant: how its text for debugging begins.
pub fn variant(value: &dyn Debug) -> String {
    /// Takes letters up to the first other sign, which ends the writing.
    struct Name(String);

    impl fmt::Write for Name {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let letters = text.chars().take_while(|letter| letter.is_alphanumeric());
            let before = self.0.len();
            self.0.extend(letters);
            match self.0.len() - before == text.len() {
                true => Ok(()),
                false => Err(fmt::Error),
            }
        }
    }

    let mut name = Name(String::new());
    // An error is how it ends.
    let _ = write!(name, "{value:?}");
    name.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    #[allow(dead_code, reason = "only its text is wanted")]
    enum Event {
        Written { end: i64 },
        Changed(Vec<u8>),
        Resigned,
    }

    #[test]
    fn transitions_are_counted_under_their_fault() {
        made(|| panic!("nobody counts"));
        count();
        for fault in ["", "kill", "kill"] {
            under(fault);
            made(|| "a -> b".to_owned());
        }
        let counts = counted();
        let key = |fault| ("a -> b".to_owned(), fault);
        assert_eq!((counts[&key("")], counts[&key("kill")]), (1, 2));
        assert_eq!(counted(), Counts::new());
    }

    #[test]
    fn a_variant_has_its_name_without_what_it_holds() {
        let names = [
            Event::Written { end: 3 },
            Event::Changed(vec![1]),
            Event::Resigned,
        ];
        let names = names.each_ref().map(|event| variant(event));
        assert_eq!(names, ["Written", "Changed", "Resigned"]);
    }
}
