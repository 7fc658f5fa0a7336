//! Tests of the client's side of a connection, against a peer that the test plays.

use std::future::poll_fn;

use skein_env::File;
use skein_protocol::Decoder;
use skein_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex,
};

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

/// One end of a pipe as a stream; the test holds the other.
struct Pipe(DuplexStream);

impl Stream for Pipe {
    fn poll_readable(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut bytes = vec![0; limit];
        let mut room = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.0).poll_read(context, &mut room))?;
        buffer.extend_from_slice(room.filled());
        Poll::Ready(Ok(room.filled().len()))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        _more: bool,
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, &pieces[0])
    }

    fn poll_send_file(
        &mut self,
        _context: &mut Context<'_>,
        _file: &dyn File,
        _offset: u64,
        _length: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

/// A caller whose driver runs, and the peer's end.
fn connected(limits: CallLimits) -> (Caller, DuplexStream) {
    // A small pipe, so that frames arrive and leave in pieces.
    let (ours, peers) = duplex(7);
    let (caller, driver) = Caller::new(Box::new(Pipe(ours)), Some("test".into()), limits);
    tokio::spawn(driver.run());
    (caller, peers)
}

/// Reads one request; returns its correlation id.
async fn read_request(peer: &mut DuplexStream) -> i32 {
    let length = peer.read_i32().await.unwrap();
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    peer.read_exact(&mut bytes).await.unwrap();
    let bytes = Bytes::from(bytes);
    let header = frame::decode_request_header(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(header.client_id.unwrap(), "test");
    header.correlation_id
}

async fn answer(peer: &mut DuplexStream, correlation_id: i32, throttle_time_ms: i32) {
    let response = ApiVersionsResponse {
        throttle_time_ms,
        ..Default::default()
    };
    let frame = frame::encode_response(ApiKey::ApiVersions, 3, correlation_id, &response).unwrap();
    peer.write_all(&frame.into_bytes().unwrap()).await.unwrap();
}

async fn start(caller: &Caller) -> Pending<ApiVersionsRequest> {
    let request = ApiVersionsRequest::default();
    caller.start(&request, 3, PATIENCE).await.unwrap()
}

#[tokio::test]
async fn responses_reach_their_requests_when_many_are_in_flight() {
    let (caller, mut peer) = connected(CallLimits::default());
    let pending = [
        start(&caller).await,
        start(&caller).await,
        start(&caller).await,
    ];
    for throttle in [10, 11, 12] {
        let correlation_id = read_request(&mut peer).await;
        answer(&mut peer, correlation_id, throttle).await;
    }
    let mut throttles = Vec::new();
    for pending in pending {
        throttles.push(pending.response().await.unwrap().throttle_time_ms);
    }
    assert_eq!(throttles, [10, 11, 12]);
}

#[tokio::test]
async fn a_response_to_something_else_ends_the_connection_for_all() {
    let (caller, mut peer) = connected(CallLimits::default());
    let (first, second) = (start(&caller).await, start(&caller).await);
    let correlation_id = read_request(&mut peer).await;
    answer(&mut peer, correlation_id + 1, 0).await;
    for pending in [first, second] {
        let error = pending.response().await.unwrap_err();
        assert!(
            matches!(error, CallError::WrongCorrelationId { .. }),
            "{error}"
        );
    }
    assert!(caller.is_closed());
    let request = ApiVersionsRequest::default();
    let error = caller.call(&request, 3, PATIENCE).await.unwrap_err();
    assert!(
        matches!(error, CallError::WrongCorrelationId { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn silence_ends_the_connection_at_the_earliest_deadline() {
    let (caller, _peer) = connected(CallLimits::default());
    let request = ApiVersionsRequest::default();
    let patient = start(&caller).await;
    let begin = Instant::now();
    let timeout = Duration::from_millis(50);
    let error = caller.call(&request, 3, timeout).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut { .. }), "{error}");
    assert!(begin.elapsed() >= timeout && begin.elapsed() < PATIENCE);
    assert!(patient.response().await.is_err());
}

#[tokio::test]
async fn a_claimed_length_is_refused_or_costs_nothing() {
    for (length, is_refused) in [(-1, true), (3, true), (i32::MAX, true), (1024, false)] {
        let limits = CallLimits {
            response_max_bytes: 1024,
            ..Default::default()
        };
        let (caller, mut peer) = connected(limits);
        let pending = start(&caller).await;
        read_request(&mut peer).await;
        peer.write_all(&i32::to_be_bytes(length)).await.unwrap();
        if !is_refused {
            drop(peer);
        }
        let error = pending.response().await.unwrap_err();
        let refused = matches!(error, CallError::ResponseLength { .. });
        assert_eq!(refused, is_refused, "{length}: {error}");
    }
}

#[tokio::test]
async fn no_more_requests_leave_than_may_be_in_flight() {
    let limits = CallLimits {
        in_flight_max: 1,
        ..Default::default()
    };
    let (caller, mut peer) = connected(limits);
    let first = start(&caller).await;
    let second = start(&caller).await;
    let correlation_id = read_request(&mut peer).await;
    let early = tokio::time::timeout(Duration::from_millis(30), peer.read_u8()).await;
    assert!(early.is_err(), "the second one waits");
    answer(&mut peer, correlation_id, 0).await;
    first.response().await.unwrap();
    let correlation_id = read_request(&mut peer).await;
    answer(&mut peer, correlation_id, 0).await;
    second.response().await.unwrap();
}

#[tokio::test]
async fn a_request_without_answer_is_done_when_it_is_written() {
    let (caller, mut peer) = connected(CallLimits::default());
    let request = ApiVersionsRequest::default();
    let (told, _) = tokio::join!(caller.tell(&request, 3, PATIENCE), read_request(&mut peer));
    told.unwrap();
    drop(peer);
    poll_fn(|context| {
        context.waker().wake_by_ref();
        if caller.is_closed() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    assert!(caller.tell(&request, 3, PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_call_that_takes_its_place_as_the_connection_ends_has_an_end_too() {
    let (ours, peers) = duplex(7);
    let (caller, driver) = Caller::new(Box::new(Pipe(ours)), None, CallLimits::default());
    let permit = caller.calls.reserve().await.unwrap();
    drop(peers);
    driver.run().await;
    let (answer, _answered) = oneshot::channel();
    let call = Call {
        pieces: Vec::new(),
        api_key: ApiKey::ApiVersions,
        correlation_id: 0,
        timeout: PATIENCE,
        answer: Answer::Response(answer),
    };
    let refused = caller.hand_over(permit, call).unwrap_err();
    assert!(matches!(refused, CallError::ClosedByPeer), "{refused}");
}
