//! Records become state: those that a former coordinator left, and the shard's own.
//!
//! Input: keys and values, in the order of the log. Output: groups and offsets; or what is wrong.
//!
//! A record of a type that is not known is told and let pass, as Kafka does: it belongs to a kind
//! of group that is not served here, and every type has keys of its own. A record of a known type
//! that cannot be read ends the load. Its checksum is right, so that it was written like that, by a
//! newer version perhaps; and without it an offset, or a generation, from before it would be alive
//! again: records read twice without a word, two owners of one partition.
//!
//! Invariant: a commit changes the table of offsets in one place, [`Shard::apply_commit`], whoever
//! made its record.
//!
//! Source: `CoordinatorLoaderImpl`, and the `replay` methods of Kafka 4.1.1.

use bytes::Bytes;
use skein_protocol::messages::coordinator_records::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue,
};
use skein_protocol::{GroupRecord, GroupRecordError};
use skein_types::ProducerId;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};

use super::{Phase, Shard};
use crate::group::{Group, GroupDamage};

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is part of the state.
    Applied,
    /// It is of a type that is not known here, and was let pass.
    Skipped {
        /// The type.
        record_type: i16,
    },
}

/// A record without which the state would be a false one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// Its bytes cannot be read.
    #[error(transparent)]
    Broken(GroupRecordError),
    /// It can be read, and makes no sense.
    #[error("the record of group {group_id:?} has {damage}")]
    Damaged {
        /// Whose it is.
        group_id: String,
        /// What is wrong.
        damage: GroupDamage,
    },
}

impl Shard {
    /// Takes the next record of the log; with a producer id, one that is part of a transaction.
    ///
    /// # Errors
    /// [`ReplayError`]. The shard is of no use then.
    ///
    /// # Panics
    /// The shard has [loaded](Self::loaded).
    pub fn replay(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        transaction: Option<ProducerId>,
    ) -> Result<Replayed, ReplayError> {
        assert_eq!(self.phase, Phase::Loading, "replay comes first");
        let record = match GroupRecord::decode(key, value) {
            Ok(record) => record,
            Err(GroupRecordError::UnknownType(record_type)) => {
                return Ok(Replayed::Skipped { record_type });
            }
            Err(broken) => return Err(ReplayError::Broken(broken)),
        };
        #[cfg(feature = "mutations")]
        if self.is_passed_over(&record) {
            return Ok(Replayed::Applied);
        }
        match record {
            GroupRecord::OffsetCommit(key, value) => {
                self.apply_commit(&key, value.as_ref(), transaction);
            }
            GroupRecord::GroupMetadata(key, Some(value)) => self.replay_group(&key, &value)?,
            GroupRecord::GroupMetadata(key, None) => self.apply_group_tombstone(&key),
        }
        Ok(Replayed::Applied)
    }

    #[cfg(feature = "mutations")]
    fn is_passed_over(&self, record: &GroupRecord) -> bool {
        match record {
            GroupRecord::OffsetCommit(_, None) => mutation::has(Mutation::TombstoneNotReplayed),
            GroupRecord::GroupMetadata(key, Some(_)) => {
                let known = self.groups.get(&key.group);
                mutation::has(Mutation::FirstGroupReplayed)
                    && known.is_some_and(|known| !known.is_empty())
            }
            _ => false,
        }
    }

    /// Takes the marker that ends a producer's transaction.
    ///
    /// # Panics
    /// The shard has [loaded](Self::loaded).
    pub fn replay_end_of_transaction(&mut self, producer: ProducerId, is_commit: bool) {
        assert_eq!(self.phase, Phase::Loading, "replay comes first");
        for group_id in self.open_transactions.remove(&producer).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.offsets.end_transaction(producer, is_commit);
            }
        }
    }

    fn replay_group(
        &mut self,
        key: &GroupMetadataKey,
        value: &GroupMetadataValue,
    ) -> Result<(), ReplayError> {
        let mut group =
            Group::from_record(&key.group, value).map_err(|damage| ReplayError::Damaged {
                group_id: key.group.to_string(),
                damage,
            })?;
        if let Some(former) = self.groups.remove(&key.group) {
            group.offsets = former.offsets;
        }
        group.check();
        self.groups.insert(group.id().clone(), group);
        Ok(())
    }

    /// Applies what a step of this shard has ordered. Members are ahead of their records.
    pub(super) fn apply_own(&mut self, record: &GroupRecord) {
        match record {
            GroupRecord::OffsetCommit(key, value) => self.apply_commit(key, value.as_ref(), None),
            GroupRecord::GroupMetadata(_, Some(_)) => {}
            GroupRecord::GroupMetadata(key, None) => self.apply_group_tombstone(key),
        }
    }

    fn apply_commit(
        &mut self,
        key: &OffsetCommitKey,
        value: Option<&OffsetCommitValue>,
        transaction: Option<ProducerId>,
    ) {
        if value.is_some() && !self.groups.contains_key(&key.group) {
            // Somebody keeps offsets here who is a member of nothing.
            let group = Group::new(&key.group, None);
            self.groups.insert(group.id().clone(), group);
        }
        let Some(group) = self.groups.get_mut(&key.group) else {
            return;
        };
        if let (Some(producer), Some(_)) = (transaction, value) {
            let groups = self.open_transactions.entry(producer).or_default();
            groups.insert(group.id().clone());
        }
        self.order += 1;
        group.offsets.apply(key, value, transaction, self.order);
    }

    /// A group is gone, but for offsets that were not forgotten before it: those outlive their
    /// group when it became one of another kind.
    fn apply_group_tombstone(&mut self, key: &GroupMetadataKey) {
        let Some(group) = self.groups.get_mut(&key.group) else {
            return;
        };
        group.forget_members(&mut self.timers);
        if group.offsets.is_empty() {
            self.groups.remove(&key.group);
        }
    }
}
