//! One connection to one broker, with the versions that both sides know.
//!
//! Input: an address. Output: requests in the newest version that both know, and their responses.
//!
//! Invariant: no request is sent before ApiVersions has been answered.
//!
//! Source: KIP-35, KIP-511 (ApiVersions).

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use skein_config::Address;
use skein_env::{Env, Lane};
use skein_net::{CallError, CallLimits, Caller, Pending};
use skein_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use skein_protocol::{Request, Str};
use skein_types::ErrorCode;

use crate::error::ClientError;
use crate::options::ClientOptions;

/// The first flexible version; every broker since Kafka 2.4 knows it.
const API_VERSIONS_VERSION: i16 = 3;
/// What brokers log beside the client id.
const SOFTWARE_NAME: &str = "skein-client";

/// A connection that is ready for requests.
pub(crate) struct Connection {
    caller: Caller,
    address: String,
    /// By API key: lowest and highest version that the broker serves.
    versions: BTreeMap<i16, (i16, i16)>,
}

impl Connection {
    /// Connects and asks for the broker's versions.
    pub(crate) async fn open(
        env: &Env,
        address: &Address,
        options: &ClientOptions,
    ) -> Result<Self, ClientError> {
        let name = address.to_string();
        let failed = |source| ClientError::Connection {
            address: name.clone(),
            source,
        };
        let opened = tokio::time::timeout(options.connect_timeout, async {
            let stream = env.net.connect(&address.host, address.port).await;
            let stream = stream.map_err(|error| failed(CallError::Io(Arc::new(error))))?;
            let client_id = Some(Str::from(&options.client_id));
            let (caller, driver) = Caller::new(stream, client_id, CallLimits::default());
            env.spawn
                .spawn(Lane::Data, "client-connection", Box::pin(driver.run()));
            let served = api_versions(&caller, options.connect_timeout)
                .await
                .map_err(failed)?;
            let code = ErrorCode::from_code(served.error_code);
            if !code.is_none() {
                return Err(ClientError::refused(
                    format!("ApiVersions of {name}"),
                    code,
                    None,
                ));
            }
            Ok((caller, served))
        });
        let (caller, served) = opened.await.unwrap_or_else(|_| {
            Err(ClientError::Connection {
                address: name.clone(),
                source: CallError::Io(Arc::new(std::io::ErrorKind::TimedOut.into())),
            })
        })?;
        let versions = served.api_keys.iter();
        let versions = versions.map(|api| (api.api_key, (api.min_version, api.max_version)));
        Ok(Self {
            caller,
            versions: versions.collect(),
            address: name,
        })
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.caller.is_closed()
    }

    /// The newest version that both sides know, and that is not above `max`.
    pub(crate) fn version<R: Request>(&self, max: i16) -> Result<i16, ClientError> {
        let ours = R::KEY.versions();
        let newest = self.versions.get(&R::KEY.code()).and_then(|(low, high)| {
            let newest = (*high).min(*ours.end()).min(max);
            (newest >= *low && newest >= *ours.start()).then_some(newest)
        });
        newest.ok_or_else(|| ClientError::Unsupported {
            address: self.address.clone(),
            api_key: R::KEY,
        })
    }

    /// Sends a request and waits for its response.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        self.call_as::<R, _>(i16::MAX, |_| request, timeout).await
    }

    /// The same with a request that depends on the version, which is not above `version_max`.
    pub(crate) async fn call_as<R: Request, B: Borrow<R>>(
        &self,
        version_max: i16,
        request: impl Fn(i16) -> B,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version::<R>(version_max)?;
        let request = request(version);
        let response = self.caller.call(request.borrow(), version, timeout).await;
        response.map_err(|source| self.failed(source))
    }

    /// Sends a request of which `version` has been agreed; the response is waited for elsewhere.
    pub(crate) async fn start<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<Pending<R>, ClientError> {
        let pending = self.caller.start(request, version, timeout).await;
        pending.map_err(|source| self.failed(source))
    }

    /// Sends a request that is not answered.
    pub(crate) async fn tell<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let told = self.caller.tell(request, version, timeout).await;
        told.map_err(|source| self.failed(source))
    }

    pub(crate) fn failed(&self, source: CallError) -> ClientError {
        ClientError::Connection {
            address: self.address.clone(),
            source,
        }
    }
}

async fn api_versions(
    caller: &Caller,
    timeout: Duration,
) -> Result<ApiVersionsResponse, CallError> {
    let request = ApiVersionsRequest {
        client_software_name: Str::from_static(SOFTWARE_NAME),
        client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
    };
    match caller.call(&request, API_VERSIONS_VERSION, timeout).await {
        // A broker that does not know the version answers in version 0 (KIP-511).
        Err(CallError::Decode { .. }) => caller.call(&request, 0, timeout).await,
        answered => answered,
    }
}
