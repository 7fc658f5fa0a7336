//! `UpdateFeatures` (57): levels of features for the whole cluster, decided by the controller.
//!
//! Input: features with their levels. Output: that all have them now, or why none has.
//!
//! Invariant: all or none; new levels are in this node's image before the client hears of them.
//!
//! Source: KIP-584, KIP-778 (upgrade types), KIP-1022 (one error for all).

use std::sync::Arc;

use skein_controller::{FeatureUpdate, UpdateFeatures, UpgradeType};
use skein_protocol::Str;
use skein_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use skein_types::ErrorCode;

use super::create_topics::call_within;
use crate::node::Shared;
use crate::router::Context;

/// The first version with upgrade types; before it there was a flag.
const UPGRADE_TYPE_VERSION: i16 = 1;

/// The last version with a result for each feature.
const RESULTS_VERSION_MAX: i16 = 1;

/// Has the controller finalize the levels.
pub(crate) async fn handle(
    shared: &Arc<Shared>,
    context: &Context,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    let version = context.head.api_version;
    let update = UpdateFeatures {
        updates: (request.feature_updates.iter())
            .map(|update| feature_update(update, version))
            .collect(),
        validate_only: request.validate_only,
    };
    let decided = call_within(shared, request.timeout_ms, update).await;
    let mut response = UpdateFeaturesResponse {
        error_message: None,
        ..Default::default()
    };
    match decided {
        Err(refusal) => {
            response.error_code = refusal.code.code();
            response.error_message = Some(refusal.message.into());
        }
        Ok(()) if version <= RESULTS_VERSION_MAX => {
            let updates = request.feature_updates.into_iter();
            response.results = updates.map(|update| granted(update.feature)).collect();
        }
        Ok(()) => {}
    }
    response
}

fn feature_update(update: &FeatureUpdateKey, version: i16) -> FeatureUpdate {
    let upgrade_type = if version >= UPGRADE_TYPE_VERSION {
        UpgradeType::from_code(update.upgrade_type)
    } else if update.allow_downgrade {
        Some(UpgradeType::SafeDowngrade)
    } else {
        Some(UpgradeType::Upgrade)
    };
    FeatureUpdate {
        feature: update.feature.as_str().to_owned(),
        level: update.max_version_level,
        upgrade_type,
    }
}

fn granted(feature: Str) -> UpdatableFeatureResult {
    UpdatableFeatureResult {
        feature,
        error_code: ErrorCode::None.code(),
        // Kafka's word for it.
        error_message: Some(Str::from_static("NONE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_of_version_0_says_which_way_a_level_may_go() {
        let update = |allow_downgrade, upgrade_type, version| {
            let update = FeatureUpdateKey {
                feature: Str::from_static("feature"),
                max_version_level: 1,
                allow_downgrade,
                upgrade_type,
            };
            feature_update(&update, version).upgrade_type
        };
        assert_eq!(update(false, 1, 0), Some(UpgradeType::Upgrade));
        assert_eq!(update(true, 1, 0), Some(UpgradeType::SafeDowngrade));
        assert_eq!(update(false, 2, 1), Some(UpgradeType::SafeDowngrade));
        assert_eq!(update(false, 3, 2), Some(UpgradeType::UnsafeDowngrade));
        assert_eq!(update(false, 0, 1), None);
        assert_eq!(update(false, 4, 1), None);
    }
}
