//! Registration, heartbeats and fencing of brokers.
//!
//! ```text
//!   (none) ──register──► fenced ──heartbeat, ready──► active ──heartbeat, wants to stop──►
//!   stopping
//!                          ▲ │ register (ready)         │ ▲                                   │
//!                          │ └──────────────────────────┼─┘                                   │
//!                          └──── session ends ──────────┴──────── session ends, register ─────┘
//! ```
//!
//! Input: what a broker says of itself, who is alive. Output: records of the broker and, in the
//! same entry, of all partitions it holds.
//!
//! Invariants:
//! - a registration gets an epoch that was never given before, and whatever an older epoch says is
//!   refused (STALE_BROKER_EPOCH);
//! - of two processes with one id the second is refused while the first one's session lives, unless
//!   both hold the same `metadata.log.dir`: that is locked, so the first is dead;
//! - a member that was forgotten is refused whatever id it asks for;
//! - a broker whose disk hangs for a session is fenced as one that is silent, until it goes on,
//!   unless it is the only one;
//! - a broker whose disk may have lost records leaves every ISR and ELR in the same entry.
//!
//! Source: KIP-631, KIP-841, KIP-966; DUPLICATE_BROKER_REGISTRATION as in Kafka's
//! `ClusterControlManager`.

use skein_metadata::{Broker, Endpoint, Image, Record};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{BrokerEpoch, BrokerId, ClusterId, ErrorCode, Millis, Uuid};

use crate::batch::{Context, Decision, effective_config};
use crate::election::{Change, Departure, change_partitions};
use crate::unregister_broker::FORGOTTEN;
use crate::{Refusal, Response};

/// Most endpoints of a broker.
const ENDPOINTS_MAX: usize = 32;

/// What a broker's disk kept since its last epoch, as the broker can prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskState {
    /// It stopped in order: all logs were flushed.
    Clean,
    /// The page cache outlived the process: same boot, same mounts.
    IntactCache,
    /// Neither can be shown.
    Unclean,
}

/// A process of a broker asks to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    /// `node.id`; `None` lets the controller choose.
    pub broker_id: Option<BrokerId>,
    /// The cluster that it believes to be in.
    pub cluster_id: Option<ClusterId>,
    /// Drawn at the start of the process.
    pub incarnation: Uuid,
    /// Raft id of its `metadata.log.dir`.
    pub raft_id: u64,
    /// Where clients and peers reach it.
    pub endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// The epoch it last ran under; [`BrokerEpoch::NONE`] if it never ran.
    pub previous_epoch: BrokerEpoch,
    /// What its disk kept since that epoch began.
    pub disk: DiskState,
    /// Whether it can serve as soon as its registration is applied. If not, it is fenced until a
    /// heartbeat says so.
    pub ready: bool,
}

/// A broker is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerRegistered {
    /// Its id.
    pub broker_id: BrokerId,
    /// The epoch of this registration.
    pub broker_epoch: BrokerEpoch,
}

/// A broker says that it lives, and what it wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who.
    pub broker_id: BrokerId,
    /// Under which registration.
    pub broker_epoch: BrokerEpoch,
    /// Index of the last log entry that its image has seen.
    pub applied_index: u64,
    /// Whether it wants to be fenced: it can't serve now.
    pub want_fence: bool,
    /// Whether it wants to stop.
    pub want_shut_down: bool,
    /// How long its oldest write to a log has not ended, in ms; 0 if there is none.
    pub oldest_write_ms: Millis,
}

/// What a heartbeat is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// Whether its image has all that is decided.
    pub is_caught_up: bool,
    /// Whether it is fenced.
    pub is_fenced: bool,
    /// Whether it may stop: it leads nothing any more.
    pub should_shut_down: bool,
    /// For how long after it sent the heartbeat nobody else can have been made a leader in its
    /// place for its silence, in ms; 0 if it is fenced.
    pub leads_for_ms: Millis,
}

/// The sessions of these registrations have ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceBrokers {
    /// Who, under which registration.
    pub brokers: Vec<(BrokerId, BrokerEpoch)>,
}

pub(crate) fn register(
    image: &Image,
    request: &RegisterBroker,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    check_request(image, request)?;
    if image.is_forgotten(request.raft_id) {
        return Err(Refusal::new(ErrorCode::InvalidRegistration, FORGOTTEN));
    }
    let id = request
        .broker_id
        .unwrap_or_else(|| choose_id(image, request));
    let former = image.broker(id);
    if let Some(former) = former {
        if former.incarnation == request.incarnation {
            // The answer to its first attempt was lost.
            return Ok(registered(id, former.epoch, Vec::new()));
        }
        // A new controller gives sessions away. Who is fenced, and was not heard since, would else
        // be alive for a successor that has the controller in its process, after each of its
        // starts.
        let is_alive = context.sessions.is_alive(id, context.now)
            && (!former.fenced || context.sessions.has_heard(id));
        if former.raft_id != request.raft_id && is_alive {
            return Err(Refusal::new(
                ErrorCode::DuplicateBrokerRegistration,
                format!("another process is registered as broker {id} and alive"),
            ));
        }
    }
    let epoch = image.next_broker_epoch();
    let broker = Broker {
        id,
        epoch,
        incarnation: request.incarnation,
        raft_id: request.raft_id,
        endpoints: request.endpoints.clone(),
        rack: request.rack.clone(),
        fenced: !request.ready,
        stopping: false,
    };
    let departure = former.map_or(Departure::Replaced, |former| departure(former, request));
    let config = effective_config(image, context.config);
    let is_active = |other: BrokerId| {
        if other == id {
            request.ready
        } else {
            image.is_active(other)
        }
    };
    let mut records = vec![Record::Broker(broker)];
    records.extend(change_partitions(
        image,
        &config,
        |partition| partition.replicas.contains(&id),
        |change| {
            change.register(id, departure);
            change.elect(is_active);
        },
    ));
    Ok(registered(id, epoch, records))
}

pub(crate) fn heartbeat(
    image: &Image,
    request: &Heartbeat,
    context: &Context<'_>,
) -> Result<Decision, Refusal> {
    let broker = check_epoch(image, request.broker_id, request.broker_epoch)?;
    let stopping = broker.stopping || request.want_shut_down;
    // It hears and answers, and nothing that it takes gets on its disk: it would lead for ever.
    let id = request.broker_id;
    // Alone it goes on: there is nobody to lead instead, and what needs no disk is served.
    let has_others = image
        .brokers()
        .any(|other| other.id != id && image.is_active(other.id));
    let hangs = has_others && request.oldest_write_ms >= context.sessions.timeout_ms();
    let fenced = if request.want_fence || hangs {
        true
    } else {
        broker.fenced && stopping
    };
    let applied = image
        .last_decision()
        .is_none_or(|last| request.applied_index >= last.index);
    let records = change_state(image, broker, fenced, stopping, context);
    let answer = HeartbeatAnswer {
        is_caught_up: applied,
        is_fenced: fenced,
        // The records of this decision take all leaderships away.
        should_shut_down: stopping,
        leads_for_ms: leads_for(context, fenced),
    };
    Ok(Decision {
        records,
        response: Response::Heartbeat(answer),
    })
}

/// A session less the time since the controller knew that it is one. Another controller gives every
/// broker a full session too, and none can have been elected before this one last heard from a
/// majority; so whatever this one's broker is told ends before the other one fences it.
fn leads_for(context: &Context<'_>, is_fenced: bool) -> Millis {
    if is_fenced {
        return Millis(0);
    }
    let left = context
        .sessions
        .timeout_ms()
        .saturating_sub(context.quorum_silence_ms);
    left.max(Millis(0))
}

pub(crate) fn fence(image: &Image, request: &FenceBrokers, context: &Context<'_>) -> Decision {
    let mut scratch = image.clone();
    let mut records = Vec::new();
    for (id, epoch) in &request.brokers {
        let Some(broker) = scratch
            .broker(*id)
            .filter(|broker| broker.epoch == *epoch)
            .cloned()
        else {
            continue; // it has registered anew meanwhile
        };
        let fencing = change_state(&scratch, &broker, true, broker.stopping, context);
        if scratch.apply_records(&fencing).is_ok() {
            records.extend(fencing);
        }
    }
    Decision {
        records,
        response: Response::FenceBrokers(()),
    }
}

/// The registration of a broker, if `epoch` is its epoch.
///
/// # Errors
/// BROKER_ID_NOT_REGISTERED or STALE_BROKER_EPOCH.
pub(crate) fn check_epoch(
    image: &Image,
    id: BrokerId,
    epoch: BrokerEpoch,
) -> Result<&Broker, Refusal> {
    let Some(broker) = image.broker(id) else {
        let message = format!("broker {id} is not registered");
        return Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    if broker.epoch == epoch {
        return Ok(broker);
    }
    let message = format!("broker {id} has epoch {}, not {epoch}", broker.epoch);
    Err(Refusal::new(ErrorCode::StaleBrokerEpoch, message))
}

fn check_request(image: &Image, request: &RegisterBroker) -> Result<(), Refusal> {
    if let (Some(ours), Some(theirs)) = (image.cluster_id(), request.cluster_id)
        && ours != theirs
    {
        let message = format!("this is cluster {ours}, not {theirs}");
        return Err(Refusal::new(ErrorCode::InconsistentClusterId, message));
    }
    if request.broker_id.is_some_and(|id| id < BrokerId(0)) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "a broker id is not negative",
        ));
    }
    if request.endpoints.is_empty() || request.endpoints.len() > ENDPOINTS_MAX {
        let message = format!("a broker has 1 to {ENDPOINTS_MAX} endpoints");
        return Err(Refusal::new(ErrorCode::InvalidRegistration, message));
    }
    Ok(())
}

/// The id of a broker that names none: the one its disk had, or its address, or the lowest free.
fn choose_id(image: &Image, request: &RegisterBroker) -> BrokerId {
    let same_address = |broker: &Broker| {
        let address = |endpoint: &Endpoint| (endpoint.host.clone(), endpoint.port);
        let theirs: Vec<_> = broker.endpoints.iter().map(address).collect();
        request
            .endpoints
            .iter()
            .any(|endpoint| theirs.contains(&address(endpoint)))
    };
    let by_disk = image
        .brokers()
        .find(|broker| broker.raft_id == request.raft_id);
    let known = by_disk.or_else(|| image.brokers().find(|broker| same_address(broker)));
    match known {
        Some(broker) => broker.id,
        None => (1..)
            .map(BrokerId)
            .find(|id| image.broker(*id).is_none())
            .unwrap_or(BrokerId(1)),
    }
}

fn departure(former: &Broker, request: &RegisterBroker) -> Departure {
    let proven = request.disk != DiskState::Unclean && request.previous_epoch == former.epoch;
    #[cfg(feature = "mutations")]
    let proven = proven || mutation::has(Mutation::UncleanTakenForClean);
    match (former.raft_id == request.raft_id, proven) {
        (false, _) => Departure::Replaced,
        (true, false) => Departure::Unclean,
        (true, true) => Departure::Orderly,
    }
}

fn change_state(
    image: &Image,
    broker: &Broker,
    fenced: bool,
    stopping: bool,
    context: &Context<'_>,
) -> Vec<Record> {
    if (broker.fenced, broker.stopping) == (fenced, stopping) {
        return Vec::new();
    }
    let (id, epoch) = (broker.id, broker.epoch);
    let active = !fenced && !stopping;
    let is_active = |other: BrokerId| {
        if other == id {
            active
        } else {
            image.is_active(other)
        }
    };
    let config = effective_config(image, context.config);
    let mut records = vec![Record::BrokerState {
        id,
        epoch,
        fenced,
        stopping,
    }];
    records.extend(change_partitions(
        image,
        &config,
        |partition| partition.replicas.contains(&id),
        |change: &mut Change<'_>| {
            if !active {
                change.leave(id, Departure::Orderly);
            }
            change.elect(is_active);
        },
    ));
    records
}

fn registered(broker_id: BrokerId, broker_epoch: BrokerEpoch, records: Vec<Record>) -> Decision {
    let answer = BrokerRegistered {
        broker_id,
        broker_epoch,
    };
    Decision {
        records,
        response: Response::RegisterBroker(answer),
    }
}

#[cfg(test)]
mod tests;
