//! How willingly a thread gives way to others.
//!
//! Input: what is wanted of the calling thread. Output: its policy and nice value, as far as the
//! system grants them.
//!
//! Invariant: the only unsafe code here are the calls that set policy and slice, which `rustix` has
//! not.
//!
//! Source: `sched(7)`, `sched_setscheduler(2)`, `sched_setattr(2)`; Stoica and Abdel-Wahab,
//! "Earliest Eligible Virtual Deadline First" (1995).

/// Where the idle policy is refused, or is too little: beside a thread that always wants to run a
/// tenth of a processor.
const NICE: i32 = 10;

/// What a thread runs at a stretch if it asks for short turns, in nanoseconds: the least that Linux
/// grants.
const SHORT_SLICE_NS: u64 = 100_000;

/// Of `sched_attr` in its first version, which all kernels take.
const ATTRIBUTES_BYTES: u32 = 48;
const _: () = assert!(size_of::<libc::sched_attr>() == ATTRIBUTES_BYTES as usize);

/// How willingly a thread gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Courtesy {
    /// As willingly as the thread that starts it.
    None,
    /// It gets as much as others, in short turns. In return its turn comes early when it wakes up:
    /// the deadline of a short turn lies before those of others. Linux before 6.12 has one slice
    /// for all.
    Brief,
    /// It gets a tenth of a processor that others want all the time, and may finish its slice
    /// before one that wakes up gets its turn: 3 ms on two processors.
    Nice,
    /// It gets what others leave, and is out of the way at once when one of them wakes up.
    Idle,
}

impl Courtesy {
    /// Takes effect on the calling thread, for good: the way back needs a privilege.
    pub(super) fn take_effect(self) {
        // Each is only a hint: where it is refused, the thread is as all others.
        match self {
            Self::None => {}
            Self::Brief => set_slice(SHORT_SLICE_NS),
            Self::Nice => set_nice(),
            Self::Idle => {
                set_nice();
                set_idle_policy();
            }
        }
    }
}

fn set_nice() {
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[allow(unsafe_code)] // no crate that is here has the call
fn set_idle_policy() {
    const THIS_THREAD: libc::pid_t = 0;
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `parameters`, which outlive it, and changes nothing in memory.
    unsafe { libc::sched_setscheduler(THIS_THREAD, libc::SCHED_IDLE, &raw const parameters) };
}

#[allow(unsafe_code)] // as above
fn set_slice(nanoseconds: u64) {
    const THIS_THREAD: libc::pid_t = 0;
    const NO_FLAGS: libc::c_uint = 0;
    // What is not kept would be set to zero.
    let Ok(nice) = rustix::process::getpriority_process(None) else {
        return;
    };
    let attributes = libc::sched_attr {
        size: ATTRIBUTES_BYTES,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: nanoseconds,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the call reads `attributes`, which outlive it, and changes nothing in memory.
    unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            THIS_THREAD,
            &raw const attributes,
            NO_FLAGS,
        )
    };
}

/// What this thread runs at a stretch, in nanoseconds; 0 where Linux does not tell.
#[cfg(test)]
#[allow(unsafe_code)] // as above
pub(super) fn slice() -> u64 {
    const THIS_THREAD: libc::pid_t = 0;
    const NO_FLAGS: libc::c_uint = 0;
    // SAFETY: all of its fields are numbers, of which zero is one.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let attributes_ptr = &raw mut attributes;
    // SAFETY: the call writes no more than its size to `attributes`, which outlive it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_sched_getattr,
            THIS_THREAD,
            attributes_ptr,
            ATTRIBUTES_BYTES,
            NO_FLAGS,
        )
    };
    assert_eq!(result, 0);
    attributes.sched_runtime
}
