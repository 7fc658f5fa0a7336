//! What the nodes of one cluster ask of each other.
//!
//! Input: requests to the controller, from this node's own parts and from its clients. Output:
//! their answers, from whichever node is the controller.
//!
//! ```text
//!   part of this node ──► ControllerLink ──► Controller, if it is here
//!                               └──► the controller's peer listener ──► PeerService ──► Controller
//! ```
//!
//! Invariant: a request of a broker can be asked twice, as an answer may get lost: a registration
//! has its incarnation, a block of producer ids may stay unused, and the others say what is so.
//!
//! Source: KIP-590 (requests to the controller are forwarded), KIP-631; Kafka's own messages, so
//! that a rolling upgrade has versions. What Kafka's lack is in tags from 110 on.

mod controller_calls;
mod controller_link;
pub(crate) mod deaths;
pub(crate) mod forward;
mod patience;
mod service;
mod side;
mod transport;

pub(crate) use controller_calls::ControllerCall;
pub(crate) use controller_link::ControllerLink;
pub(crate) use service::PeerService;
pub(crate) use side::PeerSide;
pub(crate) use transport::{QuorumTransport, peer_address_of, peer_endpoint};

#[cfg(test)]
mod tests;
