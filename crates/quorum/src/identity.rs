//! Who this node is in the quorum, for ever.
//!
//! ```text
//!  (no file) ──draw Raft id──► new ──founding record, or a cluster to join──► founding
//!      │                                                                         ▲   │
//!      └── no peers: both at once ───────────────────────────────────────────────┘   │
//!  retired: a new Raft id, joins ◄── vote or log lost ── initialised ◄───────────────┘
//!                                                  vote, log and first entries flushed
//! ```
//!
//! Input: the file `identity` in `metadata.log.dir`. Output: the node's Raft id and what it has
//! founded or joined.
//!
//! Invariants:
//! - the identity is flushed before the node answers anybody;
//! - an identity marked initialised whose vote or log is missing or corrupt never initialises again
//!   ([`Identity::check`]): the node may have given votes and acknowledgements that it forgot. It
//!   stays away, or comes back as somebody else ([`Identity::retired`]);
//! - a node accepts one founding record in its life.
//!
//! Source: own design; Raft's rule that a vote given is never forgotten.

use std::path::Path;

use serde::{Deserialize, Serialize};
use skein_env::{Disk, Rng};
use skein_metadata::{EnvelopeError, envelope};
use skein_types::{ClusterId, ParseClusterIdError, Uuid};

use crate::frozen::{IDENTITY, SMALL_FILE_MAX, SMALL_PAYLOAD_MAX, only_envelope};
use crate::{QuorumError, small_file};

/// Name of the file, beside vote and log.
pub const IDENTITY_FILE: &str = "identity";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Random, not 0.
    pub(crate) raft_id: u64,
    /// Whether vote and log are there, and were acknowledged to somebody.
    pub(crate) initialised: bool,
    /// The cluster that this node founds or belongs to.
    pub(crate) founding: Option<Founding>,
}

/// What the founders of a cluster agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Founding {
    pub(crate) cluster_id: ClusterId,
    /// Raft ids and addresses of the founders, sorted by address; empty where others founded it
    /// and this node joins.
    pub(crate) members: Vec<(u64, String)>,
}

impl Founding {
    /// A cluster that others have founded.
    pub(crate) fn joined(cluster_id: ClusterId) -> Self {
        let members = Vec::new();
        Self {
            cluster_id,
            members,
        }
    }

    /// Whether it is a founding record: who joins holds none.
    pub(crate) fn is_record(&self) -> bool {
        !self.members.is_empty()
    }

    /// Where the record says that this member is reached.
    pub(crate) fn address_of(&self, raft_id: u64) -> Option<&str> {
        let member = self.members.iter().find(|(id, _)| *id == raft_id)?;
        Some(&member.1)
    }
}

#[derive(Serialize, Deserialize)]
struct FoundingV0 {
    cluster_id: [u8; 16],
    members: Vec<(u64, String)>,
}

#[derive(Serialize, Deserialize)]
struct IdentityV0 {
    raft_id: u64,
    initialised: bool,
    founding: Option<FoundingV0>,
}

/// An identity of a cluster whose id is not the text of 16 bytes, which are zeros then; those of
/// others are written as before.
#[derive(Serialize, Deserialize)]
struct IdentityV1 {
    v0: IdentityV0,
    cluster_id: String,
}

impl Identity {
    /// A new node that will hear from its peers what it belongs to.
    pub(crate) fn new(rng: &dyn Rng) -> Self {
        Self {
            raft_id: rng.next_u64().max(1),
            initialised: false,
            founding: None,
        }
    }

    /// A new node that founds a cluster of its own; `address` is where others will reach it.
    pub(crate) fn found_alone(rng: &dyn Rng, address: String) -> Self {
        let Self { raft_id, .. } = Self::new(rng);
        Self::found_as(raft_id, new_cluster_id(rng), address)
    }

    /// A new node that founds this cluster.
    pub(crate) fn found_as(raft_id: u64, cluster_id: ClusterId, address: String) -> Self {
        let members = vec![(raft_id, address)];
        Self {
            raft_id,
            initialised: false,
            founding: Some(Founding {
                cluster_id,
                members,
            }),
        }
    }

    /// Who this node becomes when its votes or entries are lost: somebody new, who joins the same
    /// cluster.
    pub(crate) fn retired(&self, rng: &dyn Rng) -> Self {
        let cluster_id = self.founding.as_ref().map(|founding| founding.cluster_id);
        Self {
            founding: cluster_id.map(Founding::joined),
            ..Self::new(rng)
        }
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, QuorumError> {
        let path = directory.join(IDENTITY_FILE);
        let Some(bytes) = small_file::read(disk, &path, SMALL_FILE_MAX)? else {
            return Ok(None);
        };
        let identity = Self::from_bytes(&bytes);
        identity
            .map(Some)
            .map_err(|error| QuorumError::lost(&path, format!("corrupt: {error}")))
    }

    /// Writes the file, durably.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), QuorumError> {
        let bytes = self
            .to_bytes()
            .map_err(|error| QuorumError::lost(directory, error.to_string()))?;
        small_file::replace(disk, directory, IDENTITY_FILE, &[&bytes])
    }

    /// Checks that what an initialised identity once wrote is still there.
    pub(crate) fn check(
        &self,
        directory: &Path,
        has_vote: bool,
        has_entries: bool,
    ) -> Result<(), QuorumError> {
        if !self.initialised || (has_vote && has_entries) {
            return Ok(());
        }
        let name = if has_vote { "*.log" } else { "vote" };
        Err(QuorumError::lost(&directory.join(name), "missing"))
    }

    fn to_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        let cluster_id = self.founding.as_ref().map(|founding| founding.cluster_id);
        let uuid = cluster_id.and_then(|id| id.uuid());
        let founding = self.founding.as_ref().map(|founding| FoundingV0 {
            cluster_id: uuid.unwrap_or_default().0,
            members: founding.members.clone(),
        });
        let frozen = IdentityV0 {
            raft_id: self.raft_id,
            initialised: self.initialised,
            founding,
        };
        let mut bytes = Vec::new();
        match cluster_id.filter(|_| uuid.is_none()) {
            None => envelope::write(IDENTITY, 0, &frozen, SMALL_PAYLOAD_MAX, &mut bytes)?,
            Some(id) => {
                let (v0, cluster_id) = (frozen, id.to_string());
                let frozen = IdentityV1 { v0, cluster_id };
                envelope::write(IDENTITY, 1, &frozen, SMALL_PAYLOAD_MAX, &mut bytes)?;
            }
        }
        Ok(bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope = only_envelope(bytes)?;
        let (frozen, named) = match (envelope.kind, envelope.version) {
            (IDENTITY, 0) => (envelope.decode::<IdentityV0>()?, None),
            (IDENTITY, 1) => {
                let IdentityV1 { v0, cluster_id } = envelope.decode()?;
                let named: Result<ClusterId, ParseClusterIdError> = cluster_id.parse();
                let named = named.map_err(|error| envelope.malformed(error.to_string()))?;
                (v0, Some(named))
            }
            _ => return Err(envelope.unknown()),
        };
        let founding = frozen.founding.map(|founding| Founding {
            cluster_id: named.unwrap_or_else(|| Uuid(founding.cluster_id).into()),
            members: founding.members,
        });
        Ok(Self {
            raft_id: frozen.raft_id,
            initialised: frozen.initialised,
            founding,
        })
    }
}

/// An id for a new cluster.
pub(crate) fn new_cluster_id(rng: &dyn Rng) -> ClusterId {
    let mut cluster_id = [0; 16];
    rng.fill(&mut cluster_id);
    Uuid::from_random(cluster_id).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_v0() {
        let identity = Identity {
            raft_id: 7,
            initialised: true,
            founding: Some(Founding {
                cluster_id: Uuid([1; 16]).into(),
                members: vec![(7, "a:1".into())],
            }),
        };
        let bytes = identity.to_bytes().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden: String = "cd00000035000000 \
         0700000000000000010101010101010101010101010101010101010000000000 \
         000007000000000000000300000000000000613a31 \
         595ce8e1"
            .split_whitespace()
            .collect();
        assert_eq!(hex, golden);
        assert_eq!(Identity::from_bytes(&bytes).unwrap(), identity);
    }

    #[test]
    fn identity_v1() {
        let cluster_id = "MkU3OEVBNTcwNTJENDM2Qk".parse().unwrap();
        let identity = Identity::found_as(7, cluster_id, String::new());
        let bytes = identity.to_bytes().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let golden: String = "cd00010050000000 \
         07000000000000000001000000000000000000000000000000000100000000000000 \
         07000000000000000000000000000000 \
         16000000000000004d6b55334f4556424e5463774e544a454e444d32516b \
         193d47f8"
            .split_whitespace()
            .collect();
        assert_eq!(hex, golden);
        assert_eq!(Identity::from_bytes(&bytes).unwrap(), identity);
    }

    #[test]
    fn an_initialised_identity_needs_vote_and_log() {
        let directory = Path::new("/d");
        let mut identity = Identity {
            raft_id: 7,
            initialised: false,
            founding: None,
        };
        identity.check(directory, false, false).unwrap();
        identity.initialised = true;
        identity.check(directory, true, true).unwrap();
        let message = identity
            .check(directory, false, true)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("/d/vote is missing."), "{message}");
        assert!(identity.check(directory, true, false).is_err());
    }
}
