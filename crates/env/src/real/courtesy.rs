//! How willingly a thread gives way to others.
//!
//! Input: what is wanted of the calling thread. Output: its policy and nice value, as far as the
//! system grants them.
//!
//! Invariant: the only unsafe code here is the call that sets the policy, which `rustix` has not.
//!
//! Source: `sched(7)`, `sched_setscheduler(2)`.

/// Where the idle policy is refused, or is too little: beside a thread that always wants to run a
/// tenth of a processor.
const NICE: i32 = 10;

/// How willingly a thread gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Courtesy {
    /// As willingly as the thread that starts it.
    None,
    /// It gets a tenth of a processor that others want all the time, and may finish its slice
    /// before one that wakes up gets its turn: 3 ms on two processors.
    Nice,
    /// It gets what others leave, and is out of the way at once when one of them wakes up.
    Idle,
}

impl Courtesy {
    /// Takes effect on the calling thread, for good: the way back needs a privilege.
    pub(super) fn take_effect(self) {
        if self != Self::None {
            // Only a hint: where it is refused, the thread is as all others.
            let _ = rustix::process::setpriority_process(None, NICE);
        }
        if self == Self::Idle {
            set_idle_policy();
        }
    }
}

/// Only a hint, as well.
#[allow(unsafe_code)] // no crate that is here has the call
fn set_idle_policy() {
    const THIS_THREAD: libc::pid_t = 0;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `parameters`, which outlive it, and changes nothing in memory.
    unsafe { libc::sched_setscheduler(THIS_THREAD, libc::SCHED_IDLE, &raw const parameters) };
}
