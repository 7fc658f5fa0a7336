//! Proofs that a process knows the secret of its cluster.
//!
//! Input: the secret, and what both sides said in the first step of the handshake. Output: an
//! HMAC-SHA256 over that, or whether one is right.
//!
//! ```text
//! | protocol name | role | purpose | client's process id | server's | client's nonce | server's |
//!   23              1      1         16                    16         32               32
//! ```
//!
//! Invariants, checked by the tests below:
//! - every part has a fixed length, so that no two conversations give the same bytes;
//! - a proof is of one role, one purpose and one pair of nonces: neither a proof that comes back to
//!   its sender nor one of an earlier conversation is right again;
//! - comparing takes the same time wherever the bytes differ (`hmac` sees to it).
//!
//! Source: RFC 2104, RFC 4231 (test vectors).

use std::fmt;

use hmac::digest::Key;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use skein_types::Uuid;

use crate::peer::Purpose;

/// Bytes of a nonce: no two are ever the same.
pub(crate) const NONCE_BYTES: usize = 32;
/// Bytes of a proof.
pub(crate) const PROOF_BYTES: usize = 32;

/// Parts proofs of this protocol from all others that may use the same secret.
const PROTOCOL_NAME: &[u8; 23] = b"skein peer handshake 1\0";

/// Random bytes of one side, made for one connection.
pub(crate) type Nonce = [u8; NONCE_BYTES];

type HmacSha256 = Hmac<Sha256>;

/// The secret of a cluster, ready to prove it. Cheap to clone.
#[derive(Clone)]
pub struct PeerSecret(HmacSha256);

/// Who proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Who connected.
    Client,
    /// Who accepted.
    Server,
}

/// What both sides know after the first step, and neither chose alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) purpose: Purpose,
    pub(crate) client_id: Uuid,
    pub(crate) server_id: Uuid,
    pub(crate) client_nonce: Nonce,
    pub(crate) server_nonce: Nonce,
}

impl PeerSecret {
    /// The secret of these bytes; how many there must be is the configuration's business.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        // As RFC 2104 has it: a long key is hashed, a short one is padded with zeros.
        let mut key = Key::<HmacSha256>::default();
        if secret.len() > key.len() {
            let hashed = Sha256::digest(secret);
            key[..hashed.len()].copy_from_slice(&hashed);
        } else {
            key[..secret.len()].copy_from_slice(secret);
        }
        Self(<HmacSha256 as Mac>::new(&key))
    }

    /// The proof of `role` in `conversation`.
    pub(crate) fn prove(&self, role: Role, conversation: &Conversation) -> [u8; PROOF_BYTES] {
        self.over(role, conversation).finalize().into_bytes().into()
    }

    /// Whether `proof` is that of `role` in `conversation`.
    pub(crate) fn is_proof(&self, proof: &[u8], role: Role, conversation: &Conversation) -> bool {
        self.over(role, conversation).verify_slice(proof).is_ok()
    }

    fn over(&self, role: Role, conversation: &Conversation) -> HmacSha256 {
        let role: u8 = match role {
            Role::Client => 1,
            Role::Server => 2,
        };
        self.0
            .clone()
            .chain_update(PROTOCOL_NAME)
            .chain_update([role])
            .chain_update(conversation.purpose.code().to_be_bytes())
            .chain_update(conversation.client_id.0)
            .chain_update(conversation.server_id.0)
            .chain_update(conversation.client_nonce)
            .chain_update(conversation.server_nonce)
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONVERSATION: Conversation = Conversation {
        purpose: Purpose::Raft,
        client_id: Uuid([1; 16]),
        server_id: Uuid([2; 16]),
        client_nonce: [3; NONCE_BYTES],
        server_nonce: [4; NONCE_BYTES],
    };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn it_is_the_hmac_of_the_standard() {
        let check = |key: &[u8], data: &[u8], expected: &str| {
            let mac = PeerSecret::new(key).0.chain_update(data).finalize();
            assert_eq!(hex(&mac.into_bytes()), expected);
        };
        check(
            &[0x0b; 20],
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        );
        check(
            &[0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        );
    }

    #[test]
    fn a_proof_is_right_in_its_own_conversation_and_role() {
        let secret = PeerSecret::new(b"0123456789abcdef");
        for role in [Role::Client, Role::Server] {
            let proof = secret.prove(role, &CONVERSATION);
            assert!(secret.is_proof(&proof, role, &CONVERSATION));
            assert!(!secret.is_proof(&proof[1..], role, &CONVERSATION));
            assert!(!secret.is_proof(&[], role, &CONVERSATION));
            let other = PeerSecret::new(b"0123456789abcdeg");
            assert!(!other.is_proof(&proof, role, &CONVERSATION));
        }
    }

    #[test]
    fn a_proof_is_wrong_in_every_other_conversation_and_role() {
        let secret = PeerSecret::new(b"0123456789abcdef");
        let proof = secret.prove(Role::Client, &CONVERSATION);
        assert!(!secret.is_proof(&proof, Role::Server, &CONVERSATION));
        let others: [fn(&mut Conversation); 7] = [
            |one| one.purpose = Purpose::Fetch,
            |one| one.client_id.0[15] ^= 1,
            |one| one.server_id.0[0] ^= 1,
            |one| one.client_nonce[0] ^= 0x80,
            |one| one.client_nonce[31] ^= 1,
            |one| one.server_nonce[31] ^= 1,
            |one| std::mem::swap(&mut one.client_nonce, &mut one.server_nonce),
        ];
        for change in others {
            let mut other = CONVERSATION;
            change(&mut other);
            assert!(!secret.is_proof(&proof, Role::Client, &other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn no_other_bytes_are_a_proof(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let secret = PeerSecret::new(b"0123456789abcdef");
            prop_assert!(!secret.is_proof(&bytes, Role::Server, &CONVERSATION));
        }
    }
}
