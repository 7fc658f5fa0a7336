//! The HTTP listener under requests that nobody should send.
//!
//! Input: random bytes, half requests, huge heads, many requests at once, wrong methods, broken
//! bodies, senders that drip; from a seed, which a failure names. Output: each connection ends with
//! at most one answer, the node takes a bounded number of them and a bounded memory, and serves.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use skein_tests::wire::{Batch, Connection, error};
use skein_tests::{Node, System};

const SEED: u64 = 0x5EED;
const THREADS: u64 = 4;
const REQUESTS_PER_THREAD: usize = 500;
/// Fewer than the connections that the listener takes, so that others get through beside them.
const DRIPPING: u64 = 8;
/// A connection lives for 10 s; one that waits for its turn on a slow machine, longer.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// What the listener takes at a time, and some for the clients and files of the node.
const DESCRIPTORS_MAX: usize = 32 + 16;
const GROWTH_MAX_KIB: u64 = 16 << 10;

#[test]
fn no_request_takes_the_node_down_or_more_than_its_share() {
    let node = Node::start(System::Skein, &[]);
    let mut connection = Connection::open(node.ports().client).unwrap();
    assert_eq!(
        connection.create_topic("beside", 1, &[]).unwrap(),
        error::NONE
    );
    let (port, id) = (node.ports().http, node.id());
    let (memory, descriptors) = (resident_kib(id), open_descriptors(id));
    thread::scope(|scope| {
        for number in 0..DRIPPING {
            scope.spawn(move || drip(port, &mut Random::new(number)));
        }
        let talkers: Vec<_> = (0..THREADS)
            .map(|number| scope.spawn(move || talk(port, Random::new(SEED + number))))
            .collect();
        while !talkers.iter().all(thread::ScopedJoinHandle::is_finished) {
            let open = open_descriptors(id);
            assert!(open <= descriptors + DESCRIPTORS_MAX, "{open} descriptors");
            let batch = Batch::of(["beside"]).encode();
            let produced = connection.produce("beside", 0, &batch).unwrap();
            assert_eq!(produced.error_code, error::NONE, "{}", node.log_tail());
        }
    });
    // A release aborts when it panics.
    assert!(node.is_alive(), "{}", node.log_tail());
    assert!(!node.log().contains("panicked"), "{}", node.log_tail());
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = node.get(path).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let grown = resident_kib(id).saturating_sub(memory);
    assert!(grown <= GROWTH_MAX_KIB, "{grown} KiB more");
}

/// Sends what is wrong in all ways but too slow, one connection after the other.
fn talk(port: u16, mut random: Random) {
    for _ in 0..REQUESTS_PER_THREAD {
        let request = request(&mut random);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(CONNECTION_MAX)).unwrap();
        // The node may close before all is sent.
        let _ = stream.write_all(&request);
        // Who still waits for more would wait for the rest of the connection's life.
        let _ = stream.shutdown(Shutdown::Write);
        assert_answered_once(&mut stream, &request);
    }
}

/// Sends a good request, but for its end, a byte now and then.
fn drip(port: u16, random: &mut Random) {
    let began = Instant::now();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    for byte in b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: "
        .iter()
        .chain([b'x'].iter().cycle())
    {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        assert!(began.elapsed() < CONNECTION_MAX, "it lives for ever");
        thread::sleep(Duration::from_millis(50 + random.below(100)));
    }
}

/// Reads to the end of the connection, which must come.
fn assert_answered_once(stream: &mut TcpStream, request: &[u8]) {
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        // Closed with bytes that were not taken.
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    let text = String::from_utf8_lossy(&answer);
    let sent = || String::from_utf8_lossy(&request[..request.len().min(500)]).into_owned();
    assert!(
        answer.is_empty() || text.starts_with("HTTP/1."),
        "{text:?} to {:?}",
        sent()
    );
    assert!(
        text.matches("HTTP/1.").count() <= 1,
        "{text:?} to {:?}",
        sent()
    );
}

fn request(random: &mut Random) -> Vec<u8> {
    const PATHS: [&str; 6] = [
        "/metrics",
        "/healthz",
        "/readyz",
        "/",
        "/../etc/passwd",
        "*",
    ];
    const METHODS: [&str; 8] = [
        "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "get", "PRI",
    ];
    const BODIES: [&str; 6] = [
        "Content-Length: 5\r\n\r\nhello",
        "Content-Length: 18446744073709551616\r\n\r\nx",
        "Content-Length: -1\r\n\r\n",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    ];
    let path = random.pick(&PATHS);
    let good = format!("GET {path} HTTP/1.1\r\nHost: skein\r\n\r\n").into_bytes();
    match random.below(8) {
        0 => random.bytes(4_000),
        1 => {
            let end = random.below(good.len() as u64);
            good[..usize::try_from(end).unwrap()].to_vec()
        }
        2 => {
            let (name, value) = (random.below(40_000), random.below(40_000));
            let text = |length| "x".repeat(usize::try_from(length).unwrap());
            let (name, value) = (text(name), text(value));
            format!("GET {path} HTTP/1.1\r\n{name}: {value}\r\n\r\n").into_bytes()
        }
        3 => {
            let count = usize::try_from(random.below(1_000)).unwrap();
            let heads = "A: b\r\n".repeat(count);
            format!("GET {path} HTTP/1.1\r\n{heads}\r\n").into_bytes()
        }
        4 => good.repeat(usize::try_from(2 + random.below(50)).unwrap()),
        5 => {
            let method = random.pick(&METHODS);
            format!("{method} {path} HTTP/1.1\r\nHost: skein\r\n\r\n").into_bytes()
        }
        6 => {
            let body = random.pick(&BODIES);
            format!("POST {path} HTTP/1.1\r\nHost: skein\r\n{body}").into_bytes()
        }
        _ => {
            let mut changed = good;
            for _ in 0..=random.below(3) {
                let at = usize::try_from(random.below(changed.len() as u64)).unwrap();
                changed[at] = u8::try_from(random.below(256)).unwrap();
            }
            changed
        }
    }
}

fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect("a size").parse().unwrap()
}

fn open_descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Numbers that look random and are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()]
    }

    fn bytes(&mut self, length_max: u64) -> Vec<u8> {
        let length = self.below(length_max);
        (0..length).map(|_| self.next().to_le_bytes()[0]).collect()
    }
}
