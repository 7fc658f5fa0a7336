//! `ApiVersions` (18): what this broker serves.
//!
//! Input: nothing that matters. Output: the table of `apis`, and the finalized features.
//!
//! Invariants:
//! - a version from the future is answered in version 0 with `UNSUPPORTED_VERSION` and the table,
//!   so that the client can choose again;
//! - a feature that a cluster can do without is told from version 4 on only: clients of version 3
//!   take a range that begins with 0 for an error, and close the connection.
//!
//! Source: KIP-511 (fallback, client software), KIP-584 (features), KIP-1022 (level 0).

use std::sync::Arc;

use bytes::Bytes;
use skein_controller::{SUPPORTED_FEATURES, SupportedFeature};
use skein_net::Started;
use skein_protocol::ApiKey;
use skein_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use skein_protocol::{Message, Str};
use skein_types::ErrorCode;

use crate::apis;
use crate::node::Shared;
use crate::router::{self, Context};

/// First version whose clients know features with a level 0.
const LEVEL_0_VERSION: i16 = 4;

/// Answers, in version 0 if the asked one is unknown.
pub(crate) fn start(shared: &Arc<Shared>, context: &Context, bytes: &Bytes) -> Started {
    let mut context = context.clone();
    let mut response = response(shared, context.head.api_version);
    if ApiVersionsRequest::VERSIONS.contains(&context.head.api_version) {
        match router::decode::<ApiVersionsRequest>(&context, bytes) {
            Ok(request) if !is_valid(&context, &request) => {
                // Alone, without the table, as in Kafka.
                response = ApiVersionsResponse {
                    error_code: ErrorCode::InvalidRequest.code(),
                    ..Default::default()
                };
            }
            Ok(_) => {}
            Err(reason) => return Started::Close { reason },
        }
    } else {
        response.error_code = ErrorCode::UnsupportedVersion.code();
        context.head.api_version = 0;
    }
    match router::encode_response(ApiKey::ApiVersions, &context, &response, &[]) {
        Ok(response) => Started::Answered(response),
        Err(reason) => Started::Close { reason },
    }
}

/// From version 3 a client names its software, in letters, digits, dots and hyphens.
fn is_valid(context: &Context, request: &ApiVersionsRequest) -> bool {
    let is_name = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        text.bytes().all(inner) && ends(text.as_bytes().first()) && ends(text.as_bytes().last())
    };
    context.head.api_version < 3
        || (is_name(&request.client_software_name) && is_name(&request.client_software_version))
}

fn response(shared: &Shared, version: i16) -> ApiVersionsResponse {
    let image = shared.image();
    let api_keys = apis::advertised()
        .map(|(api, min_version, max_version)| ApiVersion {
            api_key: api.code(),
            min_version,
            max_version,
        })
        .collect();
    let finalized_features: Vec<_> = image
        .features()
        .map(|(name, level)| FinalizedFeatureKey {
            name: Str::from(name.to_owned()),
            max_version_level: level,
            min_version_level: level,
        })
        .collect();
    let finalized_features_epoch = image
        .last_applied()
        .map_or(-1, |id| i64::try_from(id.index).unwrap_or(i64::MAX));
    ApiVersionsResponse {
        api_keys,
        supported_features: supported(SUPPORTED_FEATURES, version),
        finalized_features_epoch,
        finalized_features,
        ..Default::default()
    }
}

/// The features as a response of that version has them.
fn supported(features: &[SupportedFeature], version: i16) -> Vec<SupportedFeatureKey> {
    let is_told = |feature: &&SupportedFeature| version >= LEVEL_0_VERSION || feature.min_level > 0;
    let told = features.iter().filter(is_told);
    told.map(|feature| SupportedFeatureKey {
        name: Str::from_static(feature.name),
        min_version: feature.min_level,
        max_version: feature.max_level,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_can_be_absent_is_not_told_to_those_who_would_refuse_it() {
        let feature = |name, min_level| SupportedFeature {
            name,
            min_level,
            max_level: 2,
        };
        let features = [feature("optional", 0), feature("required", 1)];
        let names = |version| {
            let told = supported(&features, version).into_iter();
            told.map(|feature| feature.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(3), ["required"]);
        assert_eq!(names(4), ["optional", "required"]);
    }
}
