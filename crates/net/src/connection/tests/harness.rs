//! A connection on a stream that the test controls, and a session that does what a request's API
//! key says.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use skein_env::{BoxFuture, Lane, TaskHandle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::super::*;
pub(super) use crate::testing::{MemoryStream, Peer, Sent, TestFile, response};
use crate::{BytesPermit, FileRange, Part, Response};

pub(super) const STREAMED: i16 = 0;
pub(super) const LATER: i16 = 1;
pub(super) const BARRIER_LATER: i16 = 2;
pub(super) const SILENT: i16 = 3;
pub(super) const CLOSE: i16 = 5;
pub(super) const FILE: i16 = 6;
pub(super) const NOW: i16 = 7;
pub(super) const REFUSED: i16 = 8;
pub(super) const STREAMED_UNREAD: i16 = 9;
/// A barrier whose `start` itself waits for the test.
pub(super) const BARRIER_SLOW_START: i16 = 10;
/// Answered when its burst ends.
pub(super) const GATHERED: i16 = 11;

/// What the session has seen, and what the test decides for it.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) started: Vec<i32>,
    /// Correlation id, position in the stream (counted by the session), address and bytes.
    pub(super) batches: Vec<(usize, Bytes)>,
    pub(super) keep_batches: bool,
    /// Those that the end of the burst answers, one at a time.
    pub(super) gathered: VecDeque<i32>,
    pub(super) waiting: HashMap<i32, oneshot::Sender<Option<Response>>>,
    pub(super) file_length: u64,
    pub(super) range_length: usize,
    /// What batches are reserved from.
    pub(super) budget: Option<Budget>,
    pub(super) permits: Vec<BytesPermit>,
    pub(super) keep_permits: bool,
    pub(super) answer_bytes: usize,
}

#[derive(Clone, Default)]
pub(super) struct SeenBy(pub(super) Arc<Mutex<Seen>>);

impl SeenBy {
    pub(super) fn started(&self) -> Vec<i32> {
        self.0.lock().started.clone()
    }

    pub(super) fn answer(&self, id: i32) {
        let sender = self.0.lock().waiting.remove(&id).unwrap();
        sender.send(Some(response(id, 0))).ok();
    }

    pub(super) fn answer_nothing(&self, id: i32) {
        let sender = self.0.lock().waiting.remove(&id).unwrap();
        sender.send(None).ok();
    }

    fn wait(&self, id: i32) -> BoxFuture<'static, Option<Response>> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().waiting.insert(id, sender);
        Box::pin(async move { receiver.await.ok().flatten() })
    }
}

impl Session for SeenBy {
    fn admit(&self, api_key: i16, _api_version: i16) -> Admission {
        let header_version = 1;
        match api_key {
            STREAMED | STREAMED_UNREAD => Admission::Streamed { header_version },
            BARRIER_LATER | BARRIER_SLOW_START => Admission::Barrier { header_version },
            REFUSED => Admission::Refused { reason: "unknown" },
            _ => Admission::Pipelined { header_version },
        }
    }

    fn burst(&self) -> Arc<dyn Burst> {
        Arc::new(self.clone())
    }

    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started> {
        Box::pin(async move {
            let id = request.head.correlation_id;
            self.0.lock().started.push(id);
            match (request.head.api_key, request.body) {
                (STREAMED, Body::Stream(body)) => match receive_batches(body, &self.0).await {
                    Ok(()) => Started::Answered(response(id, 0)),
                    Err(error) => Started::Close {
                        reason: error.to_string(),
                    },
                },
                (STREAMED_UNREAD, _) => Started::Answered(response(id, 0)),
                (GATHERED, _) => {
                    self.0.lock().gathered.push_back(id);
                    Started::Later(self.wait(id))
                }
                (LATER | BARRIER_LATER, _) => Started::Later(self.wait(id)),
                (BARRIER_SLOW_START, _) => match self.wait(id).await {
                    Some(response) => Started::Answered(response),
                    None => Started::Close {
                        reason: "told so".into(),
                    },
                },
                (SILENT, _) => Started::Answered(Response::default()),
                (CLOSE, _) => Started::Close {
                    reason: "told so".into(),
                },
                (FILE, _) => Started::Answered(self.file_response(id)),
                (_, Body::Whole(_, permit)) => {
                    let mut seen = self.0.lock();
                    if seen.keep_permits {
                        seen.permits.push(permit);
                    }
                    Started::Answered(response(id, seen.answer_bytes))
                }
                (_, Body::Stream(_)) => Started::Close {
                    reason: "a stream".into(),
                },
            }
        })
    }
}

/// Each call answers one request, as if that had woken others.
impl Burst for SeenBy {
    fn end(&self) -> bool {
        let next = self.0.lock().gathered.pop_front();
        if let Some(id) = next {
            self.answer(id);
        }
        self.0.lock().gathered.is_empty()
    }
}

impl SeenBy {
    fn file_response(&self, id: i32) -> Response {
        let seen = self.0.lock();
        let mut response = response(id, 0);
        let length = u32::try_from(4 + seen.range_length).unwrap();
        let mut head = length.to_be_bytes().to_vec();
        head.extend(id.to_be_bytes());
        response.parts[0] = Part::Bytes(head.into());
        response.parts.push(Part::File(FileRange {
            file: Arc::new(TestFile(seen.file_length)),
            offset: 0,
            length: seen.range_length,
        }));
        response
    }
}

/// A body is a row of batches, each behind its length.
async fn receive_batches(mut body: BodyReader<'_>, seen: &Mutex<Seen>) -> Result<(), ReceiveError> {
    let mut left = body.length();
    while left > 0 {
        body.fill(4).await?;
        let length = usize::try_from(body.buffer().get_u32()).unwrap();
        let budget = seen.lock().budget.clone();
        let _permit = match &budget {
            Some(budget) => Some(budget.reserve(length).await),
            None => None,
        };
        body.fill(length).await?;
        let batch = body.buffer().split_to(length).freeze();
        let address = batch.as_ptr().addr();
        {
            let mut seen = seen.lock();
            let kept = if seen.keep_batches {
                batch
            } else {
                Bytes::new()
            };
            seen.batches.push((address, kept));
        }
        left -= 4 + length;
        body.yield_if_spent().await;
    }
    Ok(())
}

/// A request frame.
pub(super) fn frame_of(api_key: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(10 + body.len())
        .unwrap()
        .to_be_bytes()
        .to_vec();
    bytes.extend(api_key.to_be_bytes());
    bytes.extend(0_i16.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// The body of a streamed request.
pub(super) fn batches_of(batches: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for batch in batches {
        body.extend(u32::try_from(batch.len()).unwrap().to_be_bytes());
        body.extend(*batch);
    }
    body
}

pub(super) struct TestSpawn;

struct Detached;

impl TaskHandle for Detached {
    fn abort(&self) {}

    fn is_finished(&self) -> bool {
        false
    }
}

impl Spawn for TestSpawn {
    fn spawn(
        &self,
        _lane: Lane,
        _name: &'static str,
        future: BoxFuture<'static, ()>,
    ) -> Box<dyn TaskHandle> {
        tokio::spawn(future);
        Box::new(Detached)
    }

    fn offload(
        &self,
        _lane: Lane,
        _name: &'static str,
        work: Box<dyn FnOnce() + Send>,
    ) -> BoxFuture<'static, ()> {
        work();
        Box::pin(async {})
    }

    fn yield_now(&self) -> BoxFuture<'static, ()> {
        Box::pin(tokio::task::yield_now())
    }
}

pub(super) const LIMITS: ConnectionLimits = ConnectionLimits {
    request_max_bytes: 100 << 20,
    idle_max: Duration::from_secs(600),
    stall_max: Duration::from_secs(30),
};

/// A connection that runs.
pub(super) struct Running {
    pub(super) peer: Peer,
    pub(super) seen: SeenBy,
    pub(super) counters: Arc<Counters>,
    pub(super) budget: Budget,
    pub(super) stop: watch::Sender<bool>,
    pub(super) task: JoinHandle<Result<(), String>>,
}

impl Running {
    pub(super) fn new() -> Self {
        Self::with_budget(Budget::new(u32::MAX >> 4))
    }

    pub(super) fn with_budget(budget: Budget) -> Self {
        let peer = Peer::default();
        peer.open_window(usize::MAX);
        let seen = SeenBy::default();
        seen.0.lock().budget = Some(budget.clone());
        let stream = Box::new(MemoryStream(peer.clone()));
        let (stop, connection) = connection(stream, seen.clone(), budget.clone());
        let counters = Arc::clone(&connection.counters);
        let task = tokio::spawn(connection.run());
        Self {
            peer,
            seen,
            counters,
            budget,
            stop,
            task,
        }
    }

    /// Waits for the end; returns the reason.
    pub(super) async fn ended(self) -> Result<(), String> {
        tokio::time::timeout(Duration::from_secs(3600), self.task)
            .await
            .expect("the connection goes on")
            .unwrap()
    }
}

pub(super) fn connection(
    stream: Box<dyn Stream>,
    seen: SeenBy,
    budget: Budget,
) -> (watch::Sender<bool>, Connection) {
    let (sender, stop) = watch::channel(false);
    let connection = Connection {
        stream,
        session: Box::new(seen),
        limits: LIMITS,
        pool: Arc::new(BufferPool::new()),
        budget,
        counters: Arc::new(Counters::default()),
        spawn: Arc::new(TestSpawn),
        stop,
    };
    (sender, connection)
}

/// Lets the connection run until it waits for something.
pub(super) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
