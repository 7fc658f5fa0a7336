//! UpdateFeatures: levels of features for the whole cluster.
//!
//! Input: features with the levels that they shall have. Output: a record for each level that
//! changes, or why none does.
//!
//! Invariants: a request changes all of its features or none; a level is one that this version
//! knows; a level goes down only where the request says so.
//!
//! Source: KIP-584, KIP-778; `FeatureControlManager` of Kafka 4.1.

use std::collections::BTreeMap;

use skein_metadata::{Image, Record};
use skein_types::ErrorCode;

use crate::batch::Decision;
use crate::{Refusal, Response};

/// The features of this version: none yet that clients would act on.
pub const SUPPORTED: &[SupportedFeature] = &[];

/// Features of Kafka 4.1 that a cluster can do without, as one of this version does. To take one of
/// them away, which is what `kafka-features.sh disable` asks for, changes nothing and is granted.
const ABSENT: &[&str] = &[
    "eligible.leader.replicas.version",
    "group.version",
    "kraft.version",
    "share.version",
    "streams.version",
    "transaction.version",
];

/// A feature, and the levels that this version can go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name, such as `group.version`.
    pub name: &'static str,
    /// The lowest level; 0 where the cluster can do without it.
    pub min_level: i16,
    /// The highest level.
    pub max_level: i16,
}

/// Finalizes levels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateFeatures {
    /// Of which features.
    pub updates: Vec<FeatureUpdate>,
    /// Whether to look only, and change nothing.
    pub validate_only: bool,
}

/// The new level of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    /// Which.
    pub feature: String,
    /// Its level; 0 takes it away.
    pub level: i16,
    /// Whether the level may go down; `None` where the request says neither.
    pub upgrade_type: Option<UpgradeType>,
}

/// Which way a level may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeType {
    /// Up.
    Upgrade,
    /// Down, if nothing is lost by it.
    SafeDowngrade,
    /// Down, whatever is lost by it.
    UnsafeDowngrade,
}

impl UpgradeType {
    /// The type that UpdateFeatures carries as `code`.
    #[must_use]
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            1 => Some(Self::Upgrade),
            2 => Some(Self::SafeDowngrade),
            3 => Some(Self::UnsafeDowngrade),
            _ => None,
        }
    }
}

/// # Errors
/// INVALID_UPDATE_VERSION for the first level that no cluster of this version can have.
pub(crate) fn decide(
    image: &Image,
    request: &UpdateFeatures,
    supported: &[SupportedFeature],
) -> Result<Decision, Refusal> {
    let mut levels = BTreeMap::new();
    for update in &request.updates {
        let name = update.feature.as_str();
        let current = levels.get(name).copied();
        let current = current.unwrap_or_else(|| image.feature(name));
        check(update, current, supported).map_err(|reason| {
            let level = update.level;
            let message =
                format!("no feature is changed: {name} can't have level {level}: {reason}");
            Refusal::new(ErrorCode::InvalidUpdateVersion, message)
        })?;
        levels.insert(name, update.level);
    }
    levels.retain(|name, level| *level != image.feature(name) && !request.validate_only);
    let records = levels.into_iter().map(|(name, level)| Record::Feature {
        name: name.to_owned(),
        level,
    });
    Ok(Decision {
        records: records.collect(),
        response: Response::UpdateFeatures(()),
    })
}

fn check(
    update: &FeatureUpdate,
    current: i16,
    supported: &[SupportedFeature],
) -> Result<(), String> {
    let Some(upgrade_type) = update.upgrade_type else {
        return Err("the request says neither upgrade nor downgrade".to_owned());
    };
    if update.level < 0 {
        return Err("levels begin with 0".to_owned());
    }
    let Some(feature) = supported.iter().find(|one| one.name == update.feature) else {
        return match ABSENT.contains(&update.feature.as_str()) {
            true if update.level == 0 => Ok(()),
            true => Err("this version does without the feature".to_owned()),
            false => Err("this version does not know the feature".to_owned()),
        };
    };
    let (min, max) = (feature.min_level, feature.max_level);
    if !(min..=max).contains(&update.level) {
        return Err(format!("this version knows the levels {min} to {max}"));
    }
    match upgrade_type {
        UpgradeType::Upgrade if update.level < current => Err(format!(
            "it has level {current}, and the request is no downgrade"
        )),
        UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if update.level > current => Err(
            format!("it has level {current}, and the request is no upgrade"),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, code};

    const FEATURES: &[SupportedFeature] = &[
        SupportedFeature {
            name: "optional",
            min_level: 0,
            max_level: 2,
        },
        SupportedFeature {
            name: "required",
            min_level: 5,
            max_level: 7,
        },
    ];

    fn update(world: &mut World, updates: &[(&str, i16, i8)], validate_only: bool) -> ErrorCode {
        let updates = updates.iter().map(|(feature, level, kind)| FeatureUpdate {
            feature: (*feature).to_owned(),
            level: *level,
            upgrade_type: UpgradeType::from_code(*kind),
        });
        let request = UpdateFeatures {
            updates: updates.collect(),
            validate_only,
        };
        let decision = decide(&world.image, &request, FEATURES);
        let refused = code(&decision);
        if let Ok(decision) = decision
            && !decision.records.is_empty()
        {
            world.apply_records(decision.records);
        }
        refused
    }

    #[test]
    fn a_level_goes_up_and_down_as_the_request_says() {
        let mut world = World::of_brokers(1);
        let invalid = ErrorCode::InvalidUpdateVersion;
        assert_eq!(update(&mut world, &[("optional", 2, 2)], false), invalid);
        assert_eq!(
            update(&mut world, &[("optional", 2, 1)], true),
            ErrorCode::None
        );
        assert_eq!(world.image.feature("optional"), 0, "only looked");
        for (level, kind) in [(2, 1), (2, 2), (1, 2), (2, 1), (0, 3)] {
            let refused = update(&mut world, &[("optional", level, kind)], false);
            assert_eq!(refused, ErrorCode::None, "{level}");
            assert_eq!(world.image.feature("optional"), level);
        }
        assert_eq!(world.image.features().count(), 0);
    }

    #[test]
    fn a_feature_that_this_version_does_without_can_be_taken_away_and_not_be_had() {
        let world = World::of_brokers(1);
        let decided = |feature: &str, level, upgrade_type| {
            let update = FeatureUpdate {
                feature: feature.to_owned(),
                level,
                upgrade_type: Some(upgrade_type),
            };
            let request = UpdateFeatures {
                updates: vec![update],
                validate_only: false,
            };
            decide(&world.image, &request, SUPPORTED)
        };
        for feature in ABSENT {
            for upgrade_type in [UpgradeType::Upgrade, UpgradeType::SafeDowngrade] {
                let decision = decided(feature, 0, upgrade_type).unwrap();
                assert_eq!(decision.records, []);
                let refusal = decided(feature, 1, upgrade_type).err().unwrap();
                assert_eq!(refusal.code, ErrorCode::InvalidUpdateVersion);
                assert!(refusal.message.contains("does without"), "{refusal:?}");
            }
        }
        let unknown = decided("no.such.feature", 0, UpgradeType::SafeDowngrade);
        assert_eq!(code(&unknown), ErrorCode::InvalidUpdateVersion);
    }

    #[test]
    fn one_bad_level_refuses_the_whole_request() {
        let mut world = World::of_brokers(1);
        update(&mut world, &[("optional", 1, 1)], false);
        for bad in [
            ("absent", 1, 1),
            ("", 0, 1),
            ("optional", 3, 1),
            ("optional", -1, 3),
            ("optional", 0, 1),
            ("optional", 2, 0),
            ("optional", 2, 9),
            ("required", 4, 1),
            ("required", 0, 3),
        ] {
            let refused = update(&mut world, &[("required", 6, 1), bad], false);
            assert_eq!(refused, ErrorCode::InvalidUpdateVersion, "{bad:?}");
            assert_eq!(world.image.feature("required"), 0, "{bad:?}");
            assert_eq!(world.image.feature("optional"), 1, "{bad:?}");
        }
        // The second of two updates starts from the first.
        let down = [("optional", 2, 1), ("optional", 0, 2)];
        assert_eq!(update(&mut world, &down, false), ErrorCode::None);
        assert_eq!(world.image.feature("optional"), 0);
    }
}
