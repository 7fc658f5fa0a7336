//! Whether a leader can be sure that no other has taken its place for its silence.
//!
//! Input: until when the controller has confirmed the node, fetches of followers, time. Output:
//! whether what depends on being the only leader may be answered: `acks` 0 and 1, the end of the
//! log, everything that a coordinator says.
//!
//! ```text
//!   an answer of the controller          nobody is made leader in this node's place for a session
//!   a fetch in this leader epoch from    nobody who could be elected knows of another leader
//!   every other member of ISR and ELR
//!   nobody else in ISR and ELR           nobody else can be elected
//! ```
//!
//! `acks=all` needs none of it: a successor comes from the ISR, and has stopped to fetch.
//!
//! Invariants, checked by the scenarios:
//! - both kinds of evidence end one `broker.session.timeout.ms` after they were given, which is not
//!   when they came: what a cut held back arrives when it is healed;
//! - who has left the ISR counts until the image says whether it is eligible: the controller's
//!   answer does not tell.
//!
//! Source: own design; leases as in Gray and Cheriton, and KIP-966 for who may be elected.

use skein_types::Millis;

use crate::replica::{Replica, Role};
use crate::{Acks, Refusal};

/// Before all time: never confirmed.
const NEVER: Millis = Millis(i64::MIN);

impl Replica {
    /// The controller has confirmed this node up to here, on the monotonic clock.
    pub fn controller_confirms_until(&mut self, until: Millis) {
        self.confirmed_until = until;
    }

    /// Up to when this replica's followers confirm that it leads, on the monotonic clock; the end
    /// of time where nobody else could be elected.
    #[must_use]
    pub fn followers_confirm_until(&self) -> Millis {
        match &self.role {
            Role::Leader(leader) => {
                let session = self.settings.session_timeout_ms;
                leader.followers.confirm_until(session).unwrap_or(NEVER)
            }
            Role::Unassigned | Role::Follower(_) | Role::Offline => NEVER,
        }
    }

    /// Whether a produce that nobody else has to have may be answered.
    ///
    /// # Errors
    /// [`Refusal::Unconfirmed`].
    pub(crate) fn check_confirmed(&self, acks: Acks) -> Result<(), Refusal> {
        let is_confirmed = acks == Acks::All
            || self.now < self.confirmed_until
            || self.now < self.followers_confirm_until();
        is_confirmed.then_some(()).ok_or(Refusal::Unconfirmed)
    }
}
