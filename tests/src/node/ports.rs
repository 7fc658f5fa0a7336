//! Free loopback ports.
//!
//! Input: nothing. Output: ports that were free a moment ago and that no other test process is
//! likely to try.
//!
//! They lie below the range from which the kernel takes the ports of outgoing connections, and each
//! process starts at a place of its own, so that between the choice and the node's bind nobody else
//! takes them.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Ports;

const FIRST: u32 = 15_000;
const COUNT: u32 = 16_000;
/// Steps of this size spread the processes, whose ids are neighbours, over the range; odd and prime
/// to `COUNT`.
const STRIDE: u32 = 7_919;

/// Three free ports.
pub(crate) fn free() -> Ports {
    Ports {
        client: one(),
        peer: one(),
        http: one(),
    }
}

fn one() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(STRIDE) % COUNT;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + (start + step) % COUNT).expect("within the range");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!(
        "no free port on 127.0.0.1 between {FIRST} and {}",
        FIRST + COUNT
    );
}
