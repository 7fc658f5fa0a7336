//! The contract of [`Net`](skein_env::Net), [`Listener`] and [`Stream`].
//!
//! Input: a server and a client, each with a disk, that reach each other. Output: assertions.
//!
//! Invariant: as for the suite.
//!
//! Source: none.

use std::future::poll_fn;
use std::io;
use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use skein_env::real::{RealOptions, RealWorld};
use skein_env::{Env, File, Listener, OpenMode, Stream};
use tokio::time::timeout;

/// Two ends, and where to put files.
struct Ends {
    server: Env,
    client: Env,
    server_address: IpAddr,
    directory: PathBuf,
}

fn on_real<F: Future<Output = ()>>(test: impl FnOnce(Ends) -> F) {
    let directory = tempfile::tempdir().unwrap();
    let world = RealWorld::new(RealOptions {
        network_threads: 1,
        io_threads: 1,
    })
    .unwrap();
    let ends = Ends {
        server: world.env(),
        client: world.env(),
        server_address: "127.0.0.1".parse().unwrap(),
        directory: directory.path().to_owned(),
    };
    world.block_on(test(ends));
    assert!(world.shutdown(Duration::from_secs(10)));
}

#[cfg(feature = "sim")]
fn on_simulated<F: Future<Output = ()>>(test: impl Fn(Ends) -> F) {
    for seed in 0..32 {
        let world = skein_env::sim::SimWorld::new(seed);
        let ends = Ends {
            server: world.node("server"),
            client: world.node("client"),
            server_address: world.address("server"),
            directory: "/".into(),
        };
        world.block_on(test(ends));
    }
}

macro_rules! on_every_net {
    ($($name:ident),* $(,)?) => {
        mod real {
            $(#[test]
            fn $name() {
                super::on_real(super::$name);
            })*
        }

        #[cfg(feature = "sim")]
        mod simulated {
            $(#[test]
            fn $name() {
                super::on_simulated(super::$name);
            })*
        }
    };
}

on_every_net!(
    bytes_arrive_whole_and_in_order_through_full_buffers,
    pieces_are_sent_one_after_the_other,
    a_read_stays_within_its_limit_and_its_buffer,
    a_read_without_room_is_an_error,
    a_half_closed_connection_still_carries_the_other_direction,
    a_dropped_stream_ends_after_what_was_written,
    readable_waits_for_bytes_and_for_the_end,
    a_file_is_sent_between_other_bytes,
    a_file_that_ends_early_is_sent_short,
    writing_to_nobody_fails_in_the_end,
    writing_waits_for_a_reader,
    nothing_listens_at_a_closed_port,
    addresses_that_are_taken_or_foreign_are_refused,
    many_connections_are_accepted_in_turn,
);

async fn accept(listener: &mut Box<dyn Listener>) -> (Box<dyn Stream>, SocketAddr) {
    poll_fn(|context| listener.poll_accept(context))
        .await
        .unwrap()
}

async fn connected(ends: &Ends) -> (Box<dyn Stream>, Box<dyn Stream>) {
    let mut listener = ends
        .server
        .net
        .bind((ends.server_address, 0).into())
        .unwrap();
    let address = listener.local_address().unwrap();
    let host = address.ip().to_string();
    let (client, (server, peer)) = tokio::join!(
        ends.client.net.connect(&host, address.port()),
        accept(&mut listener)
    );
    assert_ne!(peer, address);
    (client.unwrap(), server)
}

async fn try_write(stream: &mut Box<dyn Stream>, bytes: &[u8], more: bool) -> io::Result<usize> {
    poll_fn(|context| stream.poll_write(context, &[IoSlice::new(bytes)], more)).await
}

async fn write_all(stream: &mut Box<dyn Stream>, mut bytes: &[u8], more: bool) {
    while !bytes.is_empty() {
        let count = try_write(stream, bytes, more).await.unwrap();
        assert!(count > 0);
        bytes = &bytes[count..];
    }
}

async fn shutdown(stream: &mut Box<dyn Stream>) {
    poll_fn(|context| stream.poll_shutdown(context))
        .await
        .unwrap();
}

async fn read(stream: &mut Box<dyn Stream>, into: &mut BytesMut, limit: usize) -> usize {
    poll_fn(|context| stream.poll_read(context, into, limit))
        .await
        .unwrap()
}

async fn read_exactly(stream: &mut Box<dyn Stream>, count: usize) -> Vec<u8> {
    let mut bytes = BytesMut::with_capacity(count);
    while bytes.len() < count {
        let left = count - bytes.len();
        assert!(
            read(stream, &mut bytes, left).await > 0,
            "ended after {} bytes",
            bytes.len()
        );
    }
    bytes.to_vec()
}

async fn read_to_end(stream: &mut Box<dyn Stream>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(65_536);
        if read(stream, &mut bytes, 65_536).await == 0 {
            return bytes.to_vec();
        }
    }
}

async fn send_file(
    stream: &mut Box<dyn Stream>,
    file: &dyn File,
    offset: u64,
    length: usize,
) -> usize {
    let mut sent = 0;
    while sent < length {
        let at = offset + sent as u64;
        let left = length - sent;
        let count = poll_fn(|context| stream.poll_send_file(context, file, at, left))
            .await
            .unwrap();
        assert!(count <= left);
        if count == 0 {
            break;
        }
        sent += count;
    }
    sent
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from((index * 7 + index / 4096) % 251).unwrap())
        .collect()
}

async fn bytes_arrive_whole_and_in_order_through_full_buffers(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    let sent = pattern(3_000_000);
    let writing = async {
        write_all(&mut client, &sent, false).await;
        shutdown(&mut client).await;
        read_to_end(&mut client).await
    };
    let echoing = async {
        let found = read_to_end(&mut server).await;
        write_all(&mut server, &found[..1_000_000], false).await;
        shutdown(&mut server).await;
        found
    };
    let (back, there) = tokio::join!(writing, echoing);
    assert!(there == sent);
    assert!(back == sent[..1_000_000]);
}

async fn pieces_are_sent_one_after_the_other(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    let long = pattern(10_000);
    let whole = [b"head", &long[..], b"tail"].concat();
    let mut done = 0;
    while done < whole.len() {
        // What is left of each piece, as a caller would keep it.
        let spans = [(0, 4), (4, 4), (4, 10_004), (10_004, 10_008)];
        let left = spans
            .map(|(from, to): (usize, usize)| IoSlice::new(&whole[from.max(done).min(to)..to]));
        done += poll_fn(|context| client.poll_write(context, &left, true))
            .await
            .unwrap();
    }
    assert_eq!(
        poll_fn(|context| client.poll_write(context, &[], false))
            .await
            .unwrap(),
        0
    );
    shutdown(&mut client).await;
    assert_eq!(read_to_end(&mut server).await, whole);
}

async fn a_read_stays_within_its_limit_and_its_buffer(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    write_all(&mut client, &pattern(1000), false).await;
    let mut buffer = BytesMut::with_capacity(64);
    buffer.extend_from_slice(b"before");
    let (capacity, start) = (buffer.capacity(), buffer.as_ptr());
    let first = read(&mut server, &mut buffer, 10).await;
    assert!((1..=10).contains(&first));
    while buffer.len() < capacity {
        read(&mut server, &mut buffer, usize::MAX).await;
    }
    assert_eq!(
        (buffer.capacity(), buffer.as_ptr()),
        (capacity, start),
        "it was not moved"
    );
    assert_eq!(&buffer[..6], b"before");
    assert_eq!(buffer[6..], pattern(1000)[..capacity - 6]);
}

async fn a_read_without_room_is_an_error(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    write_all(&mut client, b"text", false).await;
    let mut full = BytesMut::with_capacity(8);
    full.extend_from_slice(&vec![0; full.capacity()]);
    let mut empty = BytesMut::with_capacity(8);
    for (buffer, limit) in [(&mut full, 8), (&mut empty, 0)] {
        let error = poll_fn(|context| server.poll_read(context, buffer, limit))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

async fn a_half_closed_connection_still_carries_the_other_direction(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    write_all(&mut client, b"question", false).await;
    shutdown(&mut client).await;
    assert_eq!(read_to_end(&mut server).await, b"question");
    write_all(&mut server, b"answer", false).await;
    assert_eq!(read_exactly(&mut client, 6).await, b"answer");
    shutdown(&mut server).await;
    assert_eq!(read_to_end(&mut client).await, b"");
    try_write(&mut client, b"more", false).await.unwrap_err();
}

async fn a_dropped_stream_ends_after_what_was_written(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    write_all(&mut client, &pattern(50_000), false).await;
    drop(client);
    assert!(read_to_end(&mut server).await == pattern(50_000));
}

async fn readable_waits_for_bytes_and_for_the_end(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    let mut buffer = BytesMut::with_capacity(8);
    assert_idle(&mut server, &mut buffer).await;
    write_all(&mut client, b"text", false).await;
    poll_fn(|context| server.poll_readable(context))
        .await
        .unwrap();
    assert_eq!(read_exactly(&mut server, 4).await, b"text");
    assert_idle(&mut server, &mut buffer).await;
    drop(client);
    poll_fn(|context| server.poll_readable(context))
        .await
        .unwrap();
    assert_eq!(read(&mut server, &mut buffer, 8).await, 0);
}

/// Nothing is to be read. A stream may call itself readable without need once, on a fresh
/// connection or after a read; a read puts that right.
async fn assert_idle(stream: &mut Box<dyn Stream>, buffer: &mut BytesMut) {
    let wait = Duration::from_millis(30);
    let reading = poll_fn(|context| stream.poll_read(context, buffer, 8));
    assert!(timeout(wait, reading).await.is_err());
    let idle = poll_fn(|context| stream.poll_readable(context));
    assert!(timeout(wait, idle).await.is_err());
}

fn file_on(ends: &Ends, bytes: &[u8]) -> Arc<dyn File> {
    let file = ends
        .server
        .disk
        .open(&ends.directory.join("f"), OpenMode::CreateNew)
        .unwrap();
    assert_eq!(
        file.write_at(&[IoSlice::new(bytes)], 0).unwrap(),
        bytes.len()
    );
    file
}

async fn a_file_is_sent_between_other_bytes(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    let bytes = pattern(2_000_000);
    let file = file_on(&ends, &bytes);
    let sending = async {
        write_all(&mut server, b"head", true).await;
        assert_eq!(
            send_file(&mut server, file.as_ref(), 5, 1_900_000).await,
            1_900_000
        );
        assert_eq!(send_file(&mut server, file.as_ref(), 7, 0).await, 0);
        write_all(&mut server, b"tail", false).await;
        drop(server);
    };
    let ((), found) = tokio::join!(sending, read_to_end(&mut client));
    assert!(found == [b"head", &bytes[5..1_900_005], b"tail"].concat());
}

async fn a_file_that_ends_early_is_sent_short(ends: Ends) {
    let (mut client, mut server) = connected(&ends).await;
    let file = file_on(&ends, &pattern(10_000));
    assert_eq!(
        send_file(&mut server, file.as_ref(), 9_000, 5_000).await,
        1_000
    );
    assert_eq!(
        send_file(&mut server, file.as_ref(), 10_000, 5_000).await,
        0
    );
    assert_eq!(
        send_file(&mut server, file.as_ref(), 1 << 40, 5_000).await,
        0
    );
    drop(server);
    assert_eq!(read_to_end(&mut client).await, pattern(10_000)[9_000..]);
}

async fn writing_to_nobody_fails_in_the_end(ends: Ends) {
    let (client, mut server) = connected(&ends).await;
    drop(client);
    for _ in 0..10_000 {
        match try_write(&mut server, &[0; 1000], false).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => {
                let expected = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                assert!(expected.contains(&error.kind()), "{error}");
                return;
            }
        }
    }
    panic!("10 MB went nowhere without an error");
}

async fn writing_waits_for_a_reader(ends: Ends) {
    const BOUND: usize = 64 << 20;
    let (mut client, mut server) = connected(&ends).await;
    let chunk = pattern(100_000);
    let mut written = 0;
    while let Ok(count) = timeout(
        Duration::from_millis(50),
        try_write(&mut client, &chunk, false),
    )
    .await
    {
        written += count.unwrap();
        assert!(written < BOUND, "a connection is a bounded buffer");
    }
    let read = read_exactly(&mut server, written).await;
    assert_eq!(read.len(), written);
    timeout(
        Duration::from_secs(5),
        try_write(&mut client, &chunk, false),
    )
    .await
    .unwrap()
    .unwrap();
}

async fn nothing_listens_at_a_closed_port(ends: Ends) {
    let listener = ends
        .server
        .net
        .bind((ends.server_address, 0).into())
        .unwrap();
    let address = listener.local_address().unwrap();
    drop(listener);
    let error = ends
        .client
        .net
        .connect(&address.ip().to_string(), address.port())
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

async fn addresses_that_are_taken_or_foreign_are_refused(ends: Ends) {
    let net = &ends.server.net;
    let listener = net.bind((ends.server_address, 0).into()).unwrap();
    let address = listener.local_address().unwrap();
    assert_ne!(address.port(), 0);
    let error = net.bind(address).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    let foreign = net.bind("192.0.2.1:9092".parse().unwrap()).err().unwrap();
    assert_eq!(foreign.kind(), ErrorKind::AddrNotAvailable);
    drop(listener);
    net.bind(address).unwrap();
}

async fn many_connections_are_accepted_in_turn(ends: Ends) {
    let mut listener = ends
        .server
        .net
        .bind((ends.server_address, 0).into())
        .unwrap();
    let address = listener.local_address().unwrap();
    let host = address.ip().to_string();
    for number in 0..50_u8 {
        let connecting = ends.client.net.connect(&host, address.port());
        let (client, (mut server, _)) = tokio::join!(connecting, accept(&mut listener));
        write_all(&mut client.unwrap(), &[number], false).await;
        assert_eq!(read_to_end(&mut server).await, [number]);
    }
}
