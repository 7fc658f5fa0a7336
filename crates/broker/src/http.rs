//! `/metrics`, `/healthz` and `/readyz` on `http.listener`, for monitoring and supervisors.
//!
//! Input: HTTP/1.1 requests. Output: what the node counts, as OpenMetrics text; whether it lives;
//! whether it serves. All three are answered from the node's beginning on.
//!
//! Invariants:
//! - whoever asks here costs little: [`LIMITS`] bounds the connections, the bytes and the life of
//!   each; a connection has one request;
//! - who has not sent the head of a request takes no place of one who has (`heads.rs`);
//! - nothing that is told is a secret, and nothing can be changed: there are only GET and HEAD;
//! - the server ends within [`STOP_MAX`] of the node's stop.
//!
//! Source: the OpenMetrics specification (content type); the health checks of Kubernetes.

use std::future::poll_fn;
use std::io;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::{Buf, BytesMut};
use skein_env::{Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Sleep;

use self::heads::{Arrived, Heads};
use crate::progress::Progress;

mod heads;

/// What is allowed on the listener.
const LIMITS: Limits = Limits {
    heads: 64,
    head_time: Duration::from_secs(2),
    connections: 32,
    request_bytes: 16 * 1024,
    life: Duration::from_secs(10),
};

/// How long connections may go on after the node has been stopped.
const STOP_MAX: Duration = Duration::from_millis(500);

/// How long a failed accept waits: descriptors come back when connections close.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Content type of the OpenMetrics text format.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told when it has been looked up.
type Later<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is told.
#[derive(Clone)]
struct Pages {
    /// The metrics, or why there are none yet.
    metrics: Arc<dyn Fn() -> Later<Result<String, String>> + Send + Sync>,
    /// Whether the node serves, or why not.
    readiness: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
}

#[derive(Clone, Copy)]
struct Limits {
    /// Connections that have not sent the head of their request; the oldest makes room.
    heads: usize,
    /// How long that may take.
    head_time: Duration,
    /// Connections that are answered at one time; others wait, at last in the kernel's queue.
    connections: usize,
    /// Bytes received on one connection.
    request_bytes: usize,
    /// Life of a connection whose request's head has come.
    life: Duration,
}

/// Serves until the node stops.
pub(crate) async fn serve(
    progress: Arc<Progress>,
    listener: Box<dyn Listener>,
    stop: watch::Receiver<bool>,
) {
    let pages = Pages {
        metrics: {
            let progress = Arc::clone(&progress);
            Arc::new(move || Box::pin(metrics_of(Arc::clone(&progress))))
        },
        readiness: Arc::new(move || progress.readiness()),
    };
    serve_pages(pages, listener, LIMITS, stop).await;
}

async fn metrics_of(progress: Arc<Progress>) -> Result<String, String> {
    let Some(shared) = progress.broker() else {
        let missing = progress.readiness().err().unwrap_or_default();
        return Err(format!("no metrics yet: {missing}"));
    };
    shared.groups.lag().refresh(&shared).await;
    Ok(shared.metrics.encode())
}

async fn serve_pages(
    pages: Pages,
    listener: Box<dyn Listener>,
    limits: Limits,
    stop: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .layer(map_response(close))
        .with_state(pages);
    let places = Arc::new(Semaphore::new(limits.connections));
    let acceptor = Acceptor {
        listener,
        limits,
        heads: Heads::new(limits),
        retry: None,
        places,
    };
    let server = axum::serve(acceptor, router).with_graceful_shutdown(stopped(stop.clone()));
    let given_up = async {
        stopped(stop).await;
        tokio::time::sleep(STOP_MAX).await;
    };
    tokio::select! {
        result = async { server.await } => if let Err(error) = result {
            tracing::warn!(%error, "the HTTP listener has ended");
        },
        () = given_up => {}
    }
}

/// Ends when the node stops, also when nobody is left to say so.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Every answer is the last one of its connection, also that there is no such page.
async fn close(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn metrics(State(pages): State<Pages>) -> Response {
    match (pages.metrics)().await {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(reason) => unavailable(&reason).into_response(),
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(pages): State<Pages>) -> impl IntoResponse {
    match (pages.readiness)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => unavailable(&reason),
    }
}

fn unavailable(reason: &str) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
}

/// The node's listener as `axum` takes it.
struct Acceptor {
    listener: Box<dyn Listener>,
    limits: Limits,
    heads: Heads,
    /// After an accept that failed.
    retry: Option<Pin<Box<Sleep>>>,
    places: Arc<Semaphore>,
}

impl axum::serve::Listener for Acceptor {
    type Io = Io;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Io, SocketAddr) {
        let place = match Arc::clone(&self.places).acquire_owned().await {
            Ok(place) => place,
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        };
        let arrived = poll_fn(|context| {
            self.poll_accept(context);
            self.heads.poll_next(context)
        });
        let Arrived {
            stream,
            peer,
            received,
        } = arrived.await;
        (Io::new(stream, received, self.limits, place), peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }
}

impl Acceptor {
    /// Takes connections from the kernel, as many at a time as may wait.
    fn poll_accept(&mut self, context: &mut Context<'_>) {
        for _ in 0..self.limits.heads {
            if let Some(retry) = &mut self.retry {
                if retry.as_mut().poll(context).is_pending() {
                    return;
                }
                self.retry = None;
            }
            match self.listener.poll_accept(context) {
                Poll::Pending => return,
                Poll::Ready(Ok((stream, peer))) => self.heads.push(stream, peer),
                Poll::Ready(Err(error)) => {
                    tracing::warn!(%error, "cannot accept on http.listener");
                    self.retry = Some(Box::pin(tokio::time::sleep(ACCEPT_RETRY)));
                }
            }
        }
        context.waker().wake_by_ref();
    }
}

/// A connection as `hyper` takes it, with its limits.
struct Io {
    stream: Box<dyn Stream>,
    /// Received, not taken yet.
    received: BytesMut,
    /// Bytes that may still be received.
    left: usize,
    end_of_life: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Io {
    fn new(
        stream: Box<dyn Stream>,
        received: BytesMut,
        limits: Limits,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            stream,
            left: limits.request_bytes.saturating_sub(received.len()),
            received,
            end_of_life: Box::pin(tokio::time::sleep(limits.life)),
            _place: place,
        }
    }

    /// An error once the connection's time is over; else its task is woken when it is.
    fn poll_life(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.end_of_life.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if this.received.is_empty() {
            if let Poll::Ready(ended) = this.poll_life(context) {
                return Poll::Ready(ended);
            }
            if this.left == 0 {
                let message = "the request is too large";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, message)));
            }
            let limit = buffer.remaining().min(this.left);
            this.received.reserve(limit);
            let read = ready!(this.stream.poll_read(context, &mut this.received, limit))?;
            this.left -= read.min(this.left);
        }
        let taken = this.received.len().min(buffer.remaining());
        buffer.put_slice(&this.received[..taken]);
        this.received.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Poll::Ready(Err(error)) = this.poll_life(context) {
            return Poll::Ready(Err(error));
        }
        this.stream.poll_write(context, pieces, false)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is with the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream.poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
