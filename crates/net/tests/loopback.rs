//! Connections over real sockets of this machine.
//!
//! Input: clients that send, read and end as real ones do. Output: their answers, and what the
//! server keeps of them.
//!
//! Source: none.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use skein_env::real::{RealOptions, RealWorld};
use skein_env::{BoxFuture, Lane};
use skein_net::{
    AcceptLimits, Acceptor, Admission, Body, Budget, BufferPool, ConnectionInfo, ConnectionLimits,
    Counters, ReceiveError, Request, Response, Service, Session, Started,
};
use tokio::net::TcpSocket;
use tokio::sync::watch;

/// Answers with the sum of the body's bytes.
const SUM: i16 = 0;
/// The same, of batches that are taken as they arrive.
const SUM_STREAMED: i16 = 1;
/// Answers with as many bytes as the body says.
const LARGE: i16 = 2;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the server has begun to serve.
#[derive(Clone, Default)]
struct Sums(Arc<AtomicUsize>);

impl Service for Sums {
    fn open(&self, _info: ConnectionInfo) -> Box<dyn Session> {
        Box::new(self.clone())
    }
}

fn answer(id: i32, content: &[u8]) -> Started {
    let length = i32::try_from(4 + content.len()).unwrap();
    let bytes = [&length.to_be_bytes()[..], &id.to_be_bytes(), content].concat();
    Started::Answered(Response::from_bytes(bytes.into()))
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

impl Session for Sums {
    fn admit(&self, api_key: i16, _api_version: i16) -> Admission {
        let header_version = 1;
        match api_key {
            SUM_STREAMED => Admission::Streamed { header_version },
            _ => Admission::Pipelined { header_version },
        }
    }

    fn start<'a>(&'a mut self, request: Request<'a>) -> BoxFuture<'a, Started> {
        Box::pin(async move {
            self.0.fetch_add(1, Ordering::SeqCst);
            let id = request.head.correlation_id;
            match (request.head.api_key, request.body) {
                (LARGE, Body::Whole(mut bytes, _)) => {
                    let count = usize::try_from(bytes.get_u32()).unwrap();
                    answer(id, &vec![7; count])
                }
                (_, Body::Whole(bytes, _)) => answer(id, &sum(&bytes).to_be_bytes()),
                (_, Body::Stream(body)) => match sum_batches(body).await {
                    Ok(sum) => answer(id, &sum.to_be_bytes()),
                    Err(error) => Started::Close {
                        reason: error.to_string(),
                    },
                },
            }
        })
    }
}

/// The body is one batch behind its length.
async fn sum_batches(mut body: skein_net::BodyReader<'_>) -> Result<u64, ReceiveError> {
    body.fill(4).await?;
    let length = usize::try_from(body.buffer().get_u32()).unwrap();
    body.fill(length).await?;
    let batch = body.buffer().split_to(length);
    Ok(sum(&batch))
}

struct Server {
    world: RealWorld,
    address: SocketAddr,
    served: Sums,
    counters: Arc<Counters>,
    budget: Budget,
    stop: watch::Sender<bool>,
}

impl Server {
    fn start() -> Self {
        let options = RealOptions {
            network_threads: 2,
            io_threads: 1,
        };
        let world = RealWorld::new(options).unwrap();
        let env = world.env();
        let (served, counters) = (Sums::default(), Arc::new(Counters::default()));
        let (stop, stopped) = watch::channel(false);
        let budget = Budget::new(8 << 20);
        let acceptor = Acceptor {
            listener_name: "TEST".into(),
            service: Arc::new(served.clone()),
            accept_limits: watch::channel(AcceptLimits {
                max_connections: 100,
                max_connections_per_ip: 100,
                ..AcceptLimits::default()
            })
            .1,
            limits: ConnectionLimits {
                request_max_bytes: 100 << 20,
                idle_max: Duration::from_secs(600),
                stall_max: Duration::from_secs(30),
            },
            pool: Arc::new(BufferPool::new()),
            budget: budget.clone(),
            counters: Arc::clone(&counters),
            spawn: Arc::clone(&env.spawn),
            stop: stopped,
        };
        let listener = env.net.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        env.spawn
            .spawn(Lane::Data, "acceptor", Box::pin(acceptor.run(listener)));
        Self {
            world,
            address,
            served,
            counters,
            budget,
            stop,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A client whose socket holds little of what it does not read.
    fn connect_with_little_room(&self) -> TcpStream {
        let stream = self.world.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(64 * 1024).unwrap();
            socket.connect(self.address).await.unwrap()
        });
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits until `count` connections are open.
    fn wait_for_connections(&self, count: u64) {
        let start = Instant::now();
        while Counters::read(&self.counters.connections) != count {
            assert!(start.elapsed() < PATIENCE, "connections stay open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // What a test has left open ends with the world.
        let _ = &self.world;
    }
}

fn frame(api_key: i16, id: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(10 + body.len()).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(api_key.to_be_bytes());
    bytes.extend(0_i16.to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn streamed(id: i32, batch: &[u8]) -> Vec<u8> {
    let length = u32::try_from(batch.len()).unwrap();
    frame(
        SUM_STREAMED,
        id,
        &[&length.to_be_bytes()[..], batch].concat(),
    )
}

/// The next answer: its correlation id and what follows.
fn receive(stream: &mut TcpStream) -> io::Result<(i32, Bytes)> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix)?;
    let mut content = vec![0; usize::try_from(i32::from_be_bytes(prefix)).unwrap()];
    stream.read_exact(&mut content)?;
    let mut content = Bytes::from(content);
    Ok((content.get_i32(), content))
}

fn expect_sum(stream: &mut TcpStream, id: i32, batch: &[u8]) {
    let (answered, mut content) = receive(stream).unwrap();
    assert_eq!((answered, content.get_u64()), (id, sum(batch)));
}

#[test]
fn requests_in_the_smallest_pieces_are_served() {
    let server = Server::start();
    let mut stream = server.connect();
    let batch = [3; 100];
    for byte in [frame(SUM, 1, &batch), streamed(2, &batch)].concat() {
        stream.write_all(&[byte]).unwrap();
    }
    expect_sum(&mut stream, 1, &batch);
    expect_sum(&mut stream, 2, &batch);
}

#[test]
fn many_requests_in_one_segment_are_answered_in_their_order() {
    let server = Server::start();
    let mut stream = server.connect();
    // More than may be unanswered at a time.
    let bytes: Vec<u8> = (0..1_000_u16)
        .flat_map(|id| {
            let body = id.to_be_bytes();
            match id % 2 {
                0 => frame(SUM, i32::from(id), &body),
                _ => streamed(i32::from(id), &body),
            }
        })
        .collect();
    stream.write_all(&bytes).unwrap();
    for id in 0..1_000_u16 {
        expect_sum(&mut stream, i32::from(id), &id.to_be_bytes());
    }
    assert_eq!(server.budget.in_flight_bytes(), 0);
}

#[test]
fn a_client_that_has_ended_its_sending_still_gets_its_answers() {
    // More than the sockets hold, and little enough that the end of the requests is read while the
    // server still owes some of it.
    const ANSWERS: i32 = 7;
    let server = Server::start();
    let mut stream = server.connect_with_little_room();
    let length = 1_u32 << 20;
    for id in 0..ANSWERS {
        stream
            .write_all(&frame(LARGE, id, &length.to_be_bytes()))
            .unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    for id in 0..ANSWERS {
        let (answered, content) = receive(&mut stream).unwrap();
        assert_eq!((answered, content.len()), (id, length as usize));
    }
    assert_eq!(
        stream.read(&mut [0]).unwrap(),
        0,
        "then the server ends too"
    );
    server.wait_for_connections(0);
}

/// A client that closes with answers unread resets the connection; so does one within a batch.
#[test]
fn a_reset_ends_its_connection_and_gives_back_what_it_held() {
    let server = Server::start();
    let mut other = server.connect();
    for within_a_batch in [false, true] {
        let mut stream = server.connect();
        stream.write_all(&frame(SUM, 1, b"x")).unwrap();
        if within_a_batch {
            let bytes = streamed(2, &vec![5; 300_000]);
            stream.write_all(&bytes[..200_000]).unwrap();
        }
        let start = Instant::now();
        while stream.peek(&mut [0; 8]).unwrap() < 8 {
            assert!(start.elapsed() < PATIENCE, "no answer");
        }
        drop(stream);
        server.wait_for_connections(1);
        assert_eq!(server.budget.in_flight_bytes(), 0);
        other.write_all(&frame(SUM, 3, b"y")).unwrap();
        expect_sum(&mut other, 3, b"y");
    }
}

#[test]
fn a_client_that_reads_slowly_gets_everything_and_costs_little_meanwhile() {
    const ANSWERS: i32 = 100;
    const BYTES: u32 = 1 << 20;
    let server = Server::start();
    let mut slow = server.connect();
    for id in 0..ANSWERS {
        slow.write_all(&frame(LARGE, id, &BYTES.to_be_bytes()))
            .unwrap();
    }
    // Long enough for the server to answer all, if it did.
    std::thread::sleep(Duration::from_millis(500));
    let started = server.served.0.load(Ordering::SeqCst);
    assert!(
        started < 40,
        "{started} answers in memory, or in the socket"
    );
    let mut other = server.connect();
    other.write_all(&frame(SUM, 1, b"x")).unwrap();
    expect_sum(&mut other, 1, b"x");
    for id in 0..ANSWERS {
        if id < 5 {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (answered, content) = receive(&mut slow).unwrap();
        assert_eq!((answered, content.len()), (id, BYTES as usize));
        assert!(content.iter().all(|byte| *byte == 7));
    }
}
