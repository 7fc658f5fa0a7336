//! Incremental fetch sessions: a client says once what it reads, and then only what changes.
//!
//! Input: the session fields of a Fetch request. Output: the whole list of partitions to read, and
//! afterwards which of the results the client does not know yet.
//!
//! ```text
//!   id 0, epoch 0    full fetch, make a session        id n, epoch k   next of session n
//!   id n, epoch 0    forget n, make another            id n, epoch -1  forget n, no session
//!   id 0, epoch -1   no session                        (epoch: 1, 2, … i32::MAX, 1, …)
//! ```
//!
//! Invariants:
//! - the node keeps at most `slots` sessions; a new one takes the place of the one unused for
//!   longest if that is more than [`EVICTABLE_AFTER`], else the client goes without;
//! - all sessions together hold at most [`PARTITIONS_MAX`] partitions; who wants more goes without;
//! - a request with another epoch than the next changes nothing: the client has missed a response;
//! - partitions with data move to the end of their session, so that none starves.
//!
//! Source: KIP-227; KIP-516 for topic ids.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skein_protocol::Str;
use skein_protocol::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchRequest, PartitionData,
};
#[cfg(feature = "mutations")]
use skein_types::mutation::{self, Mutation};
use skein_types::{ErrorCode, Uuid};
use tokio::time::Instant;

/// A session may be evicted for another when it has not been used for this long.
const EVICTABLE_AFTER: Duration = Duration::from_secs(120);

/// Partitions that all sessions of a node may hold; what a client names costs memory whether it
/// exists or not.
const PARTITIONS_MAX: usize = 1_000_000;

/// Epoch of a request that starts anew.
const INITIAL_EPOCH: i32 = 0;

/// Epoch of a request that ends its session, or wants none.
const FINAL_EPOCH: i32 = -1;

/// First version that names topics by id.
const TOPIC_ID_VERSION: i16 = 13;

/// One partition of one topic, as the client names it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
}

/// A partition to read.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) key: PartitionKey,
    pub(crate) fetch: FetchPartition,
    /// The high watermark that the session was told last; `None` if none, or without a session.
    pub(crate) told_high_watermark: Option<i64>,
}

/// What the client knows of a partition.
struct Known {
    wanted: Wanted,
    told: Option<Told>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start_offset: i64,
}

struct Session {
    epoch: i32,
    uses_topic_ids: bool,
    /// Partitions in the order in which they are read.
    partitions: BTreeMap<u64, Known>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
    used: Instant,
    /// Partitions of all sessions.
    held: Arc<AtomicUsize>,
}

/// The sessions of a node.
pub(crate) struct FetchSessions {
    sessions: Mutex<BTreeMap<i32, Arc<Mutex<Session>>>>,
    slots: usize,
    held: Arc<AtomicUsize>,
}

/// One fetch in its session, or in none.
pub(crate) struct SessionFetch {
    /// What to read, in order.
    pub(crate) wanted: Vec<Wanted>,
    /// Id for the response; 0 for none.
    pub(crate) session_id: i32,
    session: Option<Arc<Mutex<Session>>>,
    is_incremental: bool,
    /// When the request before it in the session was taken: this one was sent after the answer.
    pub(crate) sent_after: Option<Instant>,
}

impl FetchSessions {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            sessions: Mutex::new(BTreeMap::new()),
            slots,
            held: Arc::default(),
        }
    }

    /// Finds what `request` is to read. `random` gives the id of a new session.
    pub(crate) fn open(
        &self,
        request: &FetchRequest,
        version: i16,
        random: u64,
    ) -> Result<SessionFetch, ErrorCode> {
        match (request.session_id, request.session_epoch) {
            (id, FINAL_EPOCH) => {
                self.sessions.lock().remove(&id);
                Ok(SessionFetch::without_session(request))
            }
            (id, INITIAL_EPOCH) => {
                self.sessions.lock().remove(&id);
                Ok(self.create(request, version, random))
            }
            (id, epoch) => self.go_on(id, epoch, request, version),
        }
    }

    fn create(&self, request: &FetchRequest, version: i16, random: u64) -> SessionFetch {
        let mut fetch = SessionFetch::without_session(request);
        if self.has_no_room_for(fetch.wanted.len()) {
            return fetch;
        }
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.slots && !evict_oldest(&mut sessions) {
            return fetch;
        }
        // Ids are positive; a taken one is passed over.
        let first = i32::try_from(random >> 33).unwrap_or(1).max(1);
        let free = (first..=i32::MAX)
            .chain(1..first)
            .find(|id| !sessions.contains_key(id));
        let Some(id) = free else { return fetch };
        let mut session = Session::new(version >= TOPIC_ID_VERSION, &self.held);
        for wanted in &fetch.wanted {
            session.want(wanted.clone());
        }
        let session = Arc::new(Mutex::new(session));
        sessions.insert(id, Arc::clone(&session));
        fetch.session_id = id;
        fetch.session = Some(session);
        fetch
    }

    fn has_no_room_for(&self, partitions: usize) -> bool {
        self.held.load(Ordering::Relaxed).saturating_add(partitions) > PARTITIONS_MAX
    }

    fn go_on(
        &self,
        id: i32,
        epoch: i32,
        request: &FetchRequest,
        version: i16,
    ) -> Result<SessionFetch, ErrorCode> {
        let found = self.sessions.lock().get(&id).cloned();
        let shared = found.ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let mut session = shared.lock();
        if session.epoch != epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if session.uses_topic_ids != (version >= TOPIC_ID_VERSION) {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if self.has_no_room_for(wanted(request).count()) {
            // The client comes again with all of its partitions, and gets no session. One lock at a
            // time: who looks for the oldest session takes them the other way round.
            drop(session);
            self.sessions.lock().remove(&id);
            return Err(ErrorCode::FetchSessionIdNotFound);
        }
        session.epoch = next_epoch(epoch);
        let sent_after = std::mem::replace(&mut session.used, Instant::now());
        for key in forgotten(request) {
            session.forget(&key);
        }
        for wanted in wanted(request) {
            session.want(wanted);
        }
        let wanted = session
            .partitions
            .values()
            .map(|known| Wanted {
                told_high_watermark: known.told.map(|told| told.high_watermark),
                ..known.wanted.clone()
            })
            .collect();
        drop(session);
        Ok(SessionFetch {
            wanted,
            session_id: id,
            session: Some(shared),
            is_incremental: true,
            sent_after: Some(sent_after),
        })
    }
}

/// Makes a place for a new session, if one is unused for long enough.
fn evict_oldest(sessions: &mut BTreeMap<i32, Arc<Mutex<Session>>>) -> bool {
    let oldest = sessions
        .iter()
        .min_by_key(|(_, session)| session.lock().used);
    let Some((&id, session)) = oldest else {
        return false;
    };
    if session.lock().used.elapsed() <= EVICTABLE_AFTER {
        return false;
    }
    sessions.remove(&id);
    true
}

impl SessionFetch {
    fn without_session(request: &FetchRequest) -> Self {
        Self {
            wanted: wanted(request).collect(),
            session_id: 0,
            session: None,
            is_incremental: false,
            sent_after: None,
        }
    }

    /// Whether it will be remembered what the client is told.
    pub(crate) fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether the client must be told `result`; if so, it is noted as told.
    pub(crate) fn must_tell(&self, key: &PartitionKey, result: &PartitionData) -> bool {
        let Some(session) = &self.session else {
            return true;
        };
        let mut session = session.lock();
        let is_new = session.tell(key, result);
        is_new || !self.is_incremental
    }
}

impl Session {
    fn new(uses_topic_ids: bool, held: &Arc<AtomicUsize>) -> Self {
        Self {
            held: Arc::clone(held),
            epoch: 1,
            uses_topic_ids,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
            used: Instant::now(),
        }
    }

    fn want(&mut self, wanted: Wanted) {
        if let Some(place) = self.places.get(&wanted.key)
            && let Some(known) = self.partitions.get_mut(place)
        {
            #[cfg(feature = "mutations")]
            if mutation::has(Mutation::SessionKeepsPosition) {
                return;
            }
            // A follower, which alone tells where its log starts, may have dropped what it was told
            // for another place or in a former leader epoch: it is told again.
            if wanted.fetch.log_start_offset >= 0 {
                known.told = None;
            }
            known.wanted = wanted;
            return;
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        self.append(Known { wanted, told: None });
    }

    fn append(&mut self, known: Known) {
        self.places
            .insert(known.wanted.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, known);
        self.next_place += 1;
    }

    fn forget(&mut self, key: &PartitionKey) {
        if let Some(place) = self.places.remove(key) {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.partitions.remove(&place);
        }
    }

    fn tell(&mut self, key: &PartitionKey, result: &PartitionData) -> bool {
        let Some(place) = self.places.get(key).copied() else {
            return true;
        };
        let Some(known) = self.partitions.get_mut(&place) else {
            return true;
        };
        let now = Told {
            high_watermark: result.high_watermark,
            log_start_offset: result.log_start_offset,
        };
        let has_records = result
            .records
            .as_ref()
            .is_some_and(|records| !records.is_empty());
        let has_failed = result.error_code != ErrorCode::None.code();
        let diverges = result.diverging_epoch != EpochEndOffset::default();
        let is_new = known.told != Some(now) || has_records || has_failed || diverges;
        // After an error the next good answer is told, whatever it says.
        known.told = (!has_failed).then_some(now);
        if has_records && let Some(known) = self.partitions.remove(&place) {
            self.append(known);
        }
        is_new
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.held.fetch_sub(self.places.len(), Ordering::Relaxed);
    }
}

fn next_epoch(epoch: i32) -> i32 {
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}

fn wanted(request: &FetchRequest) -> impl Iterator<Item = Wanted> + '_ {
    request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|fetch| Wanted {
            key: PartitionKey {
                topic: topic.topic.clone(),
                topic_id: topic.topic_id,
                partition: fetch.partition,
            },
            fetch: fetch.clone(),
            told_high_watermark: None,
        })
    })
}

fn forgotten(request: &FetchRequest) -> impl Iterator<Item = PartitionKey> + '_ {
    request.forgotten_topics_data.iter().flat_map(|topic| {
        topic.partitions.iter().map(|&partition| PartitionKey {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partition,
        })
    })
}

#[cfg(test)]
mod tests;
