//! Tests of [`super`], over real connections.

use skein_env::Net;
use skein_env::real::RealNet;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::*;

/// More than any step of a test takes.
const SOON: Duration = Duration::from_secs(60);

struct Server {
    net: RealNet,
    port: u16,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    fn start(readiness: Result<(), String>, limits: Limits) -> Self {
        let net = RealNet::new(Handle::current());
        let listener = net.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = listener.local_address().unwrap().port();
        let missing = readiness.clone().err();
        let metrics = missing.map_or(Ok("# EOF\n".to_owned()), Err);
        let pages = Pages {
            metrics: Arc::new(move || Box::pin(std::future::ready(metrics.clone()))),
            readiness: Arc::new(move || readiness.clone()),
        };
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve_pages(pages, listener, limits, stopped));
        Self {
            net,
            port,
            stop,
            task,
        }
    }

    async fn connect(&self) -> Box<dyn Stream> {
        self.net.connect("127.0.0.1", self.port).await.unwrap()
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = self.connect().await;
        send(
            &mut stream,
            &format!("GET {path} HTTP/1.1\r\nHost: skein\r\n\r\n"),
        )
        .await
        .unwrap();
        receive(&mut stream).await
    }
}

async fn send(stream: &mut Box<dyn Stream>, text: &str) -> io::Result<()> {
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        let pieces = [IoSlice::new(bytes)];
        let written = poll_fn(|context| stream.poll_write(context, &pieces, false)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// All that comes before the connection ends, in whatever way.
async fn receive(stream: &mut Box<dyn Stream>) -> String {
    let mut received = BytesMut::new();
    loop {
        received.reserve(1024);
        let read = poll_fn(|context| stream.poll_read(context, &mut received, 1024));
        match timeout(SOON, read).await.unwrap() {
            Ok(0) | Err(_) => return String::from_utf8(received.to_vec()).unwrap(),
            Ok(_) => {}
        }
    }
}

#[tokio::test]
async fn pages_tell_metrics_life_and_readiness_and_close_the_connection() {
    let server = Server::start(Ok(()), LIMITS);
    let metrics = server.get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(
        metrics.contains(&format!("content-type: {OPEN_METRICS}\r\n")),
        "{metrics}"
    );
    assert!(metrics.contains("connection: close\r\n"), "{metrics}");
    assert!(metrics.ends_with("\r\n\r\n# EOF\n"), "{metrics}");
    let healthz = server.get("/healthz").await;
    assert!(healthz.starts_with("HTTP/1.1 200 OK\r\n") && healthz.ends_with("\r\n\r\nok\n"));
    assert!(
        server
            .get("/readyz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
}

#[tokio::test]
async fn a_node_that_does_not_serve_lives_and_says_why_it_is_not_ready() {
    let server = Server::start(Err("broker 1 is fenced".to_owned()), LIMITS);
    let readyz = server.get("/readyz").await;
    assert!(
        readyz.starts_with("HTTP/1.1 503 Service Unavailable\r\n"),
        "{readyz}"
    );
    assert!(readyz.ends_with("\r\n\r\nbroker 1 is fenced\n"), "{readyz}");
    // A page without metrics would say that all is zero.
    let metrics = server.get("/metrics").await;
    assert!(metrics.starts_with("HTTP/1.1 503 "), "{metrics}");
    assert!(
        server
            .get("/healthz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
}

#[tokio::test]
async fn a_connection_without_a_head_is_closed_and_takes_nobodys_place() {
    let limits = Limits {
        connections: 1,
        head_time: Duration::from_secs(1),
        // Who is answered must not be taken for who is not.
        life: SOON,
        ..LIMITS
    };
    let server = Server::start(Ok(()), limits);
    let begun = Instant::now();
    let mut slow = Vec::new();
    for part in [
        "",
        "GET /healthz",
        "GET /healthz HTTP/1.1\r\nHost: skein\r\n",
    ] {
        let mut stream = server.connect().await;
        send(&mut stream, part).await.unwrap();
        slow.push(stream);
    }
    let next = server.get("/healthz").await;
    assert!(next.starts_with("HTTP/1.1 200 OK\r\n"), "{next}");
    assert!(begun.elapsed() < limits.head_time, "it has waited for them");
    for stream in &mut slow {
        assert_eq!(receive(stream).await, "");
    }
    assert!(begun.elapsed() >= limits.head_time);
}

#[tokio::test]
async fn of_too_many_connections_without_a_head_the_oldest_goes() {
    let limits = Limits {
        heads: 3,
        head_time: SOON,
        ..LIMITS
    };
    let server = Server::start(Ok(()), limits);
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        send(&mut stream, "GET /healthz HTTP/1.1\r\n")
            .await
            .unwrap();
        slow.push(stream);
    }
    assert_eq!(receive(&mut slow[0]).await, "");
    let next = server.get("/healthz").await;
    assert!(next.starts_with("HTTP/1.1 200 OK\r\n"), "{next}");
    // The last one is still waited for.
    send(&mut slow[3], "Host: skein\r\n\r\n").await.unwrap();
    let last = receive(&mut slow[3]).await;
    assert!(last.starts_with("HTTP/1.1 200 OK\r\n"), "{last}");
}

#[tokio::test]
async fn a_request_beyond_its_bytes_closes_the_connection() {
    let server = Server::start(Ok(()), LIMITS);
    let mut stream = server.connect().await;
    let large = "x".repeat(2 * LIMITS.request_bytes);
    let header = format!("GET /healthz HTTP/1.1\r\nHost: skein\r\nX: {large}\r\n\r\n");
    // The other end may close while this is sent.
    let _ = send(&mut stream, &header).await;
    assert_eq!(receive(&mut stream).await, "");
}

#[tokio::test]
async fn a_connection_has_one_answer_whatever_is_asked() {
    let server = Server::start(Ok(()), LIMITS);
    for (first, status) in [
        ("GET /healthz", "200"),
        ("HEAD /metrics", "200"),
        ("GET /absent", "404"),
        ("POST /healthz", "405"),
        ("OPTIONS *", "4"),
    ] {
        let mut stream = server.connect().await;
        let head = " HTTP/1.1\r\nHost: skein\r\n\r\n";
        let requests = format!("{first}{head}GET /healthz{head}");
        send(&mut stream, &requests).await.unwrap();
        let answer = receive(&mut stream).await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{first}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{first}: {answer}");
    }
}

#[tokio::test]
async fn the_server_ends_with_the_node_whatever_is_connected() {
    let server = Server::start(Ok(()), LIMITS);
    let mut slow = server.connect().await;
    send(&mut slow, "GET /healthz").await.unwrap();
    assert!(
        server
            .get("/healthz")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    server.stop.send(true).unwrap();
    timeout(SOON, server.task).await.unwrap().unwrap();
}
