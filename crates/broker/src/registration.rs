//! This node as a broker of its cluster: its registration, and its signs of life.
//!
//! Input: what the disk kept, where clients and peers reach the node. Output: its id and epoch; the
//! controller hears of it until it stops.
//!
//! Invariants:
//! - nothing is served before the node's own registration is in its image;
//! - a node without a quorum waits for one, and says so; one that the controller refuses ends;
//! - the controller's answers confirm the node as a leader (`confirmation.rs`), counted from when
//!   they were asked for;
//! - what the disk kept is proved by the marker of a clean stop, which names the epoch it ends.
//!
//! Source: KIP-631 (registration, heartbeats), KIP-966 (clean shutdown).

use std::sync::Arc;
use std::time::Duration;

use skein_config::BrokerConfig;
use skein_controller::{DiskState, Heartbeat, Refusal, RegisterBroker};
use skein_env::{Env, Lane};
use skein_metadata::{Endpoint, Image};
use skein_quorum::Controller;
use skein_storage::LogDirectory;
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerEpoch, ErrorCode, Millis, Uuid};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::node::{Identity, ReplicaBasis, Shared};
use crate::peers::ControllerLink;
use crate::progress::Progress;

/// How long one attempt to register waits for a controller; then the log says what is missing.
const ATTEMPT_MAX: Duration = Duration::from_secs(10);

/// Until the controller's decision is in this node's image, which may have to catch up first.
const APPLY_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Registers this broker, and waits until its image says so; `progress` tells others what for.
pub(crate) async fn register(
    env: &Env,
    config: &BrokerConfig,
    controller: &Controller,
    link: &ControllerLink,
    directory: &LogDirectory,
    endpoints: Vec<Endpoint>,
    progress: &Progress,
) -> Result<Identity, Refusal> {
    progress.registers("asking the controller");
    let mut incarnation = [0; 16];
    env.rng.fill(&mut incarnation);
    let raft_id = controller.raft_id();
    let image = controller.image();
    let former = image.brokers().find(|broker| broker.raft_id == raft_id);
    let marker = directory.clean_shutdown().map(|marker| marker.broker_epoch);
    let request = RegisterBroker {
        broker_id: config.node.node_id.or(former.map(|broker| broker.id)),
        cluster_id: Some(controller.cluster_id()),
        incarnation: Uuid::from_random(incarnation),
        raft_id,
        endpoints,
        rack: config.node.rack.clone(),
        previous_epoch: marker.unwrap_or(BrokerEpoch::NONE),
        disk: match marker {
            Some(_) => DiskState::Clean,
            None => DiskState::Unclean,
        },
        ready: true,
    };
    let registered = loop {
        match link.ask(request.clone(), ATTEMPT_MAX).await {
            Ok(registered) => break registered,
            Err(refusal) if is_no_controller(&refusal) => {
                tracing::warn!(%refusal, "no controller to register with yet; trying on");
                progress.registers(refusal.to_string());
            }
            Err(refusal) => return Err(refusal),
        }
    };
    let identity = Identity {
        broker_id: registered.broker_id,
        broker_epoch: registered.broker_epoch,
    };
    progress.registers("the registration is on its way to this node");
    #[cfg(feature = "mutations")]
    if mutation::has(Mutation::LeaderBeforeRegistration) {
        return Ok(identity);
    }
    wait_for_image(controller, identity).await;
    Ok(identity)
}

fn is_no_controller(refusal: &Refusal) -> bool {
    matches!(
        refusal.code,
        ErrorCode::NotController | ErrorCode::RequestTimedOut
    )
}

/// Waits until the registration, or a later one, is in this node's image.
async fn wait_for_image(controller: &Controller, identity: Identity) {
    let mut images = controller.subscribe();
    let has_come = |image: &Arc<Image>| {
        let broker = image.broker(identity.broker_id);
        broker.is_some_and(|broker| broker.epoch >= identity.broker_epoch)
    };
    loop {
        match tokio::time::timeout(APPLY_LOG_INTERVAL, images.wait_for(has_come)).await {
            Ok(_) => return,
            Err(_) => tracing::warn!("this node's registration has not come to it yet"),
        }
    }
}

/// How long the oldest write of the node has not ended.
fn oldest_write_ms(basis: &ReplicaBasis) -> Millis {
    let age = basis.disk_watch.oldest_age().as_millis();
    Millis(i64::try_from(age).unwrap_or(i64::MAX))
}

/// Tells the controller that this broker lives, on the lane where no data traffic is.
pub(crate) fn spawn_heartbeats(shared: &Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let interval = shared.config.replica.heartbeat_interval_ms.get();
    let interval = Duration::from_millis(u64::try_from(interval).unwrap_or(1).max(1));
    let controller = shared.controller.clone();
    let link = shared.controller_link.clone();
    let basis = Arc::clone(&shared.basis);
    let session = shared.config.replica.session_timeout_ms;
    let Identity {
        broker_id,
        broker_epoch,
    } = shared.identity;
    let heartbeats = async move {
        // A refusal is told once, not with each heartbeat until it ends.
        let mut refused: Option<ErrorCode> = None;
        loop {
            let applied_index = controller.image().last_applied().map_or(0, |id| id.index);
            let heartbeat = Heartbeat {
                broker_id,
                broker_epoch,
                applied_index,
                want_fence: false,
                want_shut_down: false,
                oldest_write_ms: oldest_write_ms(&basis),
            };
            // One that got no answer is late, and the next one says more.
            let sent = Instant::now();
            let refusal = match link.ask(heartbeat, interval).await {
                Ok(answer) => {
                    basis.confirmed(sent, answer.leads_for_ms.min(session));
                    None
                }
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = &refusal
                && refused != Some(refusal.code)
            {
                tracing::warn!(%refusal, "the controller refuses heartbeats");
            }
            refused = refusal.map(|refusal| refusal.code);
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    };
    shared
        .env
        .spawn
        .spawn(Lane::Control, "heartbeats", Box::pin(heartbeats));
}
