//! The simulated world: nodes, disks, a network, clocks and tasks on one thread, decided by one
//! seed.
//!
//! Input: a seed, production code, faults that a test or the seed chooses. Output: what the code
//! does in that world, and a trace hash that is the same for the same seed.
//!
//! ```no_run
//! let world = skein_env::sim::SimWorld::new(7);
//! world.block_on(async {
//!     let node = world.node("node-1"); // an `Env`; the name is its host name as well
//!     // ... run production code on it ...
//!     world.kill("node-1");
//!     let node = world.node("node-1"); // the next process on the same disk
//! });
//! ```
//!
//! Invariants:
//! - nothing here reads a real clock, a random number or an unordered map: `tests/world.rs`
//!   compares two runs of each seed;
//! - a panic in any task of a living process ends the run;
//! - after a kill no call of the killed process has an effect.
//!
//! Source: none.

mod clock;
mod disk;
mod net;
mod rng;
mod spawn;
mod trace;
mod world;

pub use clock::SimClockControl;
pub use disk::{Death, DiskSpeed, Fault, FaultPlan, Killed, Operation, Rot, SimDisk, is_killed};
pub use net::{LinkPlan, SimNetControl};
pub use rng::SimRng;
pub use spawn::Schedule;
pub use world::SimWorld;
