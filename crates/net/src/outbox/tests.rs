//! Tests of [`super`], one poll at a time.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use super::*;
use crate::FileRange;
use crate::testing::Sent as Call;
use crate::testing::{MemoryStream, Peer, TestFile, response};

/// Bytes of an answer without extra ones.
const ANSWER: usize = 8;

/// An outbox on a stream.
struct Sending {
    outbox: Outbox,
    peer: Peer,
    stream: MemoryStream,
    turn: Turn,
    counters: Counters,
}

impl Sending {
    fn new() -> Self {
        let peer = Peer::default();
        peer.open_window(usize::MAX);
        Self {
            outbox: Outbox::default(),
            stream: MemoryStream(peer.clone()),
            peer,
            turn: Turn::new(),
            counters: Counters::default(),
        }
    }

    /// One poll.
    async fn poll(&mut self) -> Poll<io::Result<Sent>> {
        self.turn.start();
        poll_fn(|context| {
            let polled =
                self.outbox
                    .poll_send(context, &mut self.stream, &self.turn, &self.counters);
            Poll::Ready(polled)
        })
        .await
    }

    async fn expect(&mut self, expected: Poll<Sent>) {
        let polled = self.poll().await.map(|sent| sent.unwrap());
        assert_eq!(polled, expected);
    }

    fn later(&mut self) -> oneshot::Sender<Option<Response>> {
        let (sender, receiver) = oneshot::channel();
        let answer = async move { receiver.await.ok().flatten() };
        self.outbox.push_later(Box::pin(answer));
        sender
    }

    fn concurrent(&mut self) -> oneshot::Sender<Option<Response>> {
        let (sender, receiver) = oneshot::channel();
        let answer = async move { receiver.await.ok().flatten() };
        self.outbox.push_concurrent(Box::pin(answer));
        sender
    }

    fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.peer.state().events)
    }
}

fn memory(count: usize, more: bool) -> Call {
    Call::Memory { count, more }
}

/// An answer whose last `range` bytes are those of a file of `file` bytes.
fn with_file(id: i32, file: u64, range: usize) -> Response {
    let mut response = response(id, 0);
    response.parts.push(Part::File(FileRange {
        file: Arc::new(TestFile(file)),
        offset: 0,
        length: range,
    }));
    response
}

#[tokio::test(start_paused = true)]
async fn an_answer_leaves_when_all_before_it_have_and_those_that_are_ready_together() {
    let mut sending = Sending::new();
    let first = sending.later();
    sending.outbox.push_ready(response(2, 0));
    let third = sending.later();
    sending.outbox.push_ready(response(4, 0));
    sending.expect(Poll::Pending).await;
    third.send(Some(response(3, 0))).unwrap_or_default();
    sending.expect(Poll::Pending).await;
    assert!(sending.calls().is_empty(), "the first is not there");
    first.send(Some(response(1, 0))).unwrap_or_default();
    sending.expect(Poll::Ready(Sent::Everything)).await;
    assert_eq!(sending.calls(), [memory(4 * ANSWER, false)], "one call");
    assert_eq!(sending.peer.answers(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_answered_when_the_socket_has_taken_the_last_byte() {
    let mut sending = Sending::new();
    assert!(sending.outbox.is_empty());
    sending.outbox.push_ready(response(1, 0));
    for left in [3, 4] {
        assert!(!sending.outbox.is_empty());
        sending.peer.open_window(left);
        let before = sending.outbox.progress();
        sending.expect(Poll::Pending).await;
        assert!(sending.outbox.is_blocked());
        assert!(sending.outbox.progress() > before);
        let before = sending.outbox.progress();
        sending.expect(Poll::Pending).await;
        assert_eq!(
            sending.outbox.progress(),
            before,
            "the socket takes nothing"
        );
    }
    sending.peer.open_window(1);
    sending.expect(Poll::Ready(Sent::Everything)).await;
    assert!(sending.outbox.is_empty() && !sending.outbox.is_blocked());
    // An answer of no bytes is answered too.
    sending.outbox.push_ready(Response::default());
    assert!(!sending.outbox.is_empty());
    sending.expect(Poll::Ready(Sent::Everything)).await;
    assert!(sending.outbox.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_goes_out_between_what_stands_before_and_behind_it() {
    let mut sending = Sending::new();
    sending.outbox.push_ready(response(1, 0));
    sending.outbox.push_ready(with_file(2, 100, 100));
    sending.outbox.push_ready(response(3, 0));
    sending.peer.open_window(2 * ANSWER + 30);
    sending.expect(Poll::Pending).await;
    let first = Call::File {
        offset: 0,
        count: 30,
    };
    assert_eq!(sending.calls(), [memory(2 * ANSWER, true), first]);
    sending.peer.open_window(usize::MAX);
    sending.expect(Poll::Ready(Sent::Everything)).await;
    let rest = Call::File {
        offset: 30,
        count: 70,
    };
    assert_eq!(sending.calls(), [rest, memory(ANSWER, false)]);
    assert_eq!(Counters::read(&sending.counters.sent_file_bytes), 100);
    assert_eq!(
        Counters::read(&sending.counters.sent_bytes),
        3 * ANSWER as u64
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_cut_short_is_an_error_and_nothing_follows_it() {
    for file in [0, 60] {
        let mut sending = Sending::new();
        sending.outbox.push_ready(with_file(1, file, 100));
        sending.outbox.push_ready(response(2, 0));
        let polled = sending.poll().await;
        let Poll::Ready(Err(error)) = polled else {
            panic!("a file of {file} bytes: {polled:?}");
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let sent = sending.peer.state().sent.len() as u64;
        assert_eq!(sent, ANSWER as u64 + file);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_full_of_requests_or_of_bytes_in_memory() {
    let mut sending = Sending::new();
    sending.peer.open_window(0);
    for _ in 0..SLOTS_MAX {
        assert!(!sending.outbox.is_full());
        sending.outbox.push_ready(response(1, 0));
    }
    assert!(sending.outbox.is_full());
    sending.peer.open_window(ANSWER);
    sending.expect(Poll::Pending).await;
    assert!(!sending.outbox.is_full(), "one has left");

    let mut sending = Sending::new();
    sending.peer.open_window(0);
    sending.outbox.push_ready(with_file(1, 1 << 30, 1 << 30));
    let later = sending.later();
    sending.expect(Poll::Pending).await;
    assert!(
        !sending.outbox.is_full(),
        "bytes of files are not in memory"
    );
    sending
        .outbox
        .push_ready(response(3, OWED_MAX_BYTES - 3 * ANSWER));
    assert!(!sending.outbox.is_full());
    sending.outbox.push_ready(response(4, 0));
    assert!(sending.outbox.is_full(), "the bytes are owed");
    drop(later);

    // Those of an answer that comes later count from then on.
    let mut sending = Sending::new();
    sending.peer.open_window(0);
    let later = sending.later();
    sending.expect(Poll::Pending).await;
    assert!(!sending.outbox.is_full());
    later
        .send(Some(response(1, OWED_MAX_BYTES)))
        .unwrap_or_default();
    sending.expect(Poll::Pending).await;
    assert!(sending.outbox.is_full());
    sending.peer.open_window(ANSWER);
    sending.expect(Poll::Pending).await;
    assert!(sending.outbox.is_full(), "exactly the bound is left");
    sending.peer.open_window(1);
    sending.expect(Poll::Pending).await;
    assert!(!sending.outbox.is_full());
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_what_was_ready_before_is_sent_and_nothing_behind_it() {
    let mut sending = Sending::new();
    sending.outbox.push_ready(response(1, 0));
    let second = sending.later();
    sending.outbox.push_ready(response(3, 0));
    let unasked = poll_fn(|_| -> Poll<Option<Response>> { panic!("nobody waits for it") });
    sending.outbox.push_later(Box::pin(unasked));
    sending.peer.open_window(0);
    sending.expect(Poll::Pending).await;
    second.send(None).unwrap_or_default();
    sending.expect(Poll::Ready(Sent::Close)).await;
    sending.peer.open_window(usize::MAX);
    sending.expect(Poll::Ready(Sent::Everything)).await;
    assert_eq!(sending.peer.answers(), [1]);
    assert!(sending.outbox.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_spent_sends_something_and_comes_again() {
    let mut sending = Sending::new();
    let large = 3 << 20;
    sending.outbox.push_ready(with_file(1, large, 3 << 20));
    let mut polls = 0;
    while sending.poll().await.is_pending() {
        polls += 1;
        let sent = Counters::read(&sending.counters.sent_file_bytes);
        assert!(sent > 0 && sent < large, "{sent} bytes after {polls} polls");
    }
    assert!(polls >= 1, "all of it in one turn");
}

/// Work that counts how often it is polled, and never ends.
fn counted(polls: &Arc<AtomicUsize>) -> BoxFuture<'static, Option<Response>> {
    let polls = Arc::clone(polls);
    Box::pin(poll_fn(move |_| {
        polls.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    }))
}

#[tokio::test(start_paused = true)]
async fn what_is_concurrent_goes_on_behind_others_and_leaves_in_its_turn() {
    let mut sending = Sending::new();
    let [waiting, going_on] = [0, 0].map(|_| Arc::new(AtomicUsize::new(0)));
    let first = sending.concurrent();
    let second = sending.later();
    let third = sending.concurrent();
    sending.outbox.push_later(counted(&waiting));
    sending.outbox.push_concurrent(counted(&going_on));
    sending.expect(Poll::Pending).await;
    third
        .send(Some(response(3, OWED_MAX_BYTES)))
        .unwrap_or_default();
    assert!(!sending.outbox.is_full());
    sending.expect(Poll::Pending).await;
    assert!(sending.outbox.is_full(), "the bytes of the third are owed");
    let polls = |polls: &AtomicUsize| polls.load(Ordering::Relaxed);
    assert_eq!((polls(&waiting), polls(&going_on)), (0, 2));
    second.send(Some(response(2, 0))).unwrap_or_default();
    sending.expect(Poll::Pending).await;
    assert!(sending.calls().is_empty(), "the first is not there");
    first.send(Some(response(1, 0))).unwrap_or_default();
    sending.expect(Poll::Pending).await;
    assert_eq!(sending.peer.answers(), [1, 2, 3]);
    assert!(polls(&waiting) > 0, "it is at the head now");
}

#[tokio::test(start_paused = true)]
async fn what_is_concurrent_and_has_no_answer_closes_in_its_turn() {
    let mut sending = Sending::new();
    let first = sending.later();
    let second = sending.concurrent();
    let behind = Arc::new(AtomicUsize::new(0));
    sending.outbox.push_concurrent(counted(&behind));
    second.send(None).unwrap_or_default();
    sending.expect(Poll::Pending).await;
    first.send(Some(response(1, 0))).unwrap_or_default();
    sending.peer.open_window(0);
    sending.expect(Poll::Ready(Sent::Close)).await;
    sending.peer.open_window(usize::MAX);
    sending.expect(Poll::Ready(Sent::Everything)).await;
    assert_eq!(sending.peer.answers(), [1]);
    assert_eq!(behind.load(Ordering::Relaxed), 2, "it is not asked again");
    assert!(sending.outbox.is_empty());
}
