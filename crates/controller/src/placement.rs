//! Where new partitions go.
//!
//! Input: the registered brokers with their racks, a number of partitions and replicas, random
//! bits. Output: the replicas of each partition, the preferred leader first.
//!
//! Invariants, checked by the properties below:
//! - replicas of a partition are distinct, and in different racks as far as there are racks;
//! - the preferred leaders of a topic are spread evenly: two active brokers differ by one at most;
//! - a broker that is fenced or stopping is the preferred leader only if no broker is active, and
//!   holds a replica only if there are too few active ones.
//!
//! Source: the aims of Kafka's `StripedReplicaPlacer`; the method is our own: brokers in a circle
//! that alternates between racks, each partition one step further, each round with another
//! distance.

use std::collections::{BTreeMap, BTreeSet};

use skein_metadata::Image;
use skein_types::{BrokerId, ErrorCode};

use crate::{RandomBits, Refusal};

/// Places `partitions` partitions with `replication_factor` replicas each.
///
/// # Errors
/// INVALID_REPLICATION_FACTOR if there are fewer brokers than replicas, or none is active.
pub(crate) fn place(
    image: &Image,
    partitions: usize,
    replication_factor: usize,
    random: &mut RandomBits,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let refuse = |message| Refusal::new(ErrorCode::InvalidReplicationFactor, message);
    let registered = image.brokers().len();
    if replication_factor > registered {
        return Err(refuse(format!(
            "{replication_factor} replicas need as many brokers, and {registered} are registered"
        )));
    }
    let (active, others) = circles(image);
    if active.is_empty() {
        return Err(refuse(
            "no broker is active: all are fenced or stopping".to_owned(),
        ));
    }
    let start = random.below(active.len());
    let distance = random.below(active.len());
    let others_active = (active.len() - 1).max(1);
    let followers = replication_factor.saturating_sub(1);
    Ok((0..partitions)
        .map(|partition| {
            let leader = (start + partition) % active.len();
            // After each round the followers stand elsewhere, so that the partitions of a broker
            // that fails go to all others and not to its neighbour alone.
            let first = leader + 1 + (distance + partition / active.len()) % others_active;
            let candidates = (0..active.len()).map(|step| active[(first + step) % active.len()]);
            choose(
                active[leader],
                followers,
                candidates.chain(others.iter().copied()),
            )
        })
        .collect())
}

/// A broker with the rack it stands in; brokers without a rack share one.
type Placed<'a> = (BrokerId, Option<&'a str>);

/// The active brokers and the others, each in an order that alternates between racks.
fn circles(image: &Image) -> (Vec<Placed<'_>>, Vec<Placed<'_>>) {
    let circle = |active: bool| {
        let mut racks: BTreeMap<Option<&str>, Vec<BrokerId>> = BTreeMap::new();
        for broker in image
            .brokers()
            .filter(|broker| image.is_active(broker.id) == active)
        {
            racks
                .entry(broker.rack.as_deref())
                .or_default()
                .push(broker.id);
        }
        let longest = racks.values().map(Vec::len).max().unwrap_or(0);
        let row = |row: usize| {
            let racks = racks.iter();
            racks.filter_map(move |(rack, ids)| Some((*ids.get(row)?, *rack)))
        };
        (0..longest).flat_map(row).collect()
    };
    (circle(true), circle(false))
}

/// The leader and as many followers: first those in racks not used yet, then the others.
fn choose<'a>(
    leader: Placed<'a>,
    followers: usize,
    candidates: impl Iterator<Item = Placed<'a>> + Clone,
) -> Vec<BrokerId> {
    let mut replicas = vec![leader.0];
    let mut racks = BTreeSet::from([leader.1]);
    for new_racks_only in [true, false] {
        for (id, rack) in candidates.clone() {
            if replicas.len() > followers {
                return replicas;
            }
            let fits = !new_racks_only || !racks.contains(&rack);
            if fits && !replicas.contains(&id) {
                replicas.push(id);
                racks.insert(rack);
            }
        }
    }
    replicas
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn replicas_are_distinct_spread_over_racks_and_leaders_are_even(
            // Rack (0 to 2) and whether the broker is active.
            brokers in proptest::collection::vec((0_u8..3, proptest::bool::weighted(0.8)), 1..9),
            partitions in 1_usize..40,
            factor in 1_usize..5,
            seed: [u8; 32],
        ) {
            let image = testing::image_of(&brokers);
            let placed = place(&image, partitions, factor, &mut RandomBits::from_seed(seed));
            let active = brokers.iter().filter(|(_, active)| *active).count();
            if factor > brokers.len() || active == 0 {
                let code = placed.unwrap_err().code;
                prop_assert_eq!(code, ErrorCode::InvalidReplicationFactor);
                return Ok(());
            }
            let placed = placed.unwrap();
            prop_assert_eq!(placed.len(), partitions);
            let mut leaders: BTreeMap<BrokerId, usize> = BTreeMap::new();
            for replicas in &placed {
                prop_assert_eq!(BTreeSet::from_iter(replicas).len(), factor);
                prop_assert!(image.is_active(replicas[0]));
                *leaders.entry(replicas[0]).or_default() += 1;
                let rack = |id: &BrokerId| image.broker(*id).unwrap().rack.clone();
                let used = replicas.iter().map(rack).collect::<BTreeSet<_>>().len();
                let all = brokers.iter().map(|(rack, _)| rack).collect::<BTreeSet<_>>().len();
                prop_assert_eq!(used, factor.min(all), "as many racks as possible");
            }
            let most = leaders.values().max().unwrap();
            prop_assert!(most * active < partitions + active, "leaders are even");
        }
    }

    #[test]
    fn followers_of_one_leader_are_spread_over_all_others() {
        let image = testing::image_of_brokers(4);
        let placed = place(&image, 12, 2, &mut RandomBits::from_seed([3; 32])).unwrap();
        let of_one = placed.iter().filter(|replicas| replicas[0] == BrokerId(1));
        let followers: BTreeSet<_> = of_one.map(|replicas| replicas[1]).collect();
        assert_eq!(followers.len(), 3);
    }

    #[test]
    fn an_inactive_broker_holds_a_replica_only_if_there_are_too_few() {
        let image = testing::image_of(&[(0, true), (0, false), (0, true)]);
        let placed = place(&image, 6, 2, &mut RandomBits::from_seed([3; 32])).unwrap();
        assert!(placed.iter().flatten().all(|id| *id != BrokerId(2)));
        let placed = place(&image, 6, 3, &mut RandomBits::from_seed([3; 32])).unwrap();
        assert!(placed.iter().all(|replicas| replicas[2] == BrokerId(2)));
    }
}
