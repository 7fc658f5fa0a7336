//! Connections.
//!
//! Input: addresses, bytes, ranges of files. Output: the same at the other end, or an error.
//!
//! Invariants:
//! - a stream is polled by one task for both directions; each `poll_*` wakes that task;
//! - `poll_send_file` moves no byte through user space on a plain connection, and reports a short
//!   count where the file ends early, never other bytes.
//!
//! Source: `sendfile(2)`, `send(2)` (`MSG_MORE`), `tcp(7)` (`TCP_NODELAY`).

use std::io;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::{BoxFuture, File};

/// Connections that wait to be accepted, if nothing else is said; the kernel lowers it to
/// `net.core.somaxconn`.
const BACKLOG: u32 = 1024;

/// What a listener asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// `SO_SNDBUF` of accepted connections, in bytes; `None` lets the kernel adapt it.
    pub send_buffer_bytes: Option<u32>,
    /// `SO_RCVBUF` of accepted connections, in bytes; `None` lets the kernel adapt it.
    pub receive_buffer_bytes: Option<u32>,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: BACKLOG,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
        }
    }
}

/// Opens connections, from and to a node.
pub trait Net: Send + Sync {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// What the system says: the port is in use, the address is not this machine's.
    fn listen(&self, address: SocketAddr, options: &ListenOptions)
    -> io::Result<Box<dyn Listener>>;

    /// As [`Net::listen`], and asks nothing of the kernel.
    ///
    /// # Errors
    /// As there.
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        self.listen(address, &ListenOptions::default())
    }

    /// Resolves `host` and connects to it, trying each of its addresses.
    ///
    /// # Errors
    /// What the system says of the last address. It does not give up by itself: the caller bounds
    /// it.
    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>>;

    /// The addresses of `host`, which may be one itself.
    ///
    /// # Errors
    /// What the system says. It does not give up by itself: the caller bounds it.
    fn look_up<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Accepts connections.
pub trait Listener: Send + Sync {
    /// The address bound, with the port that port 0 became.
    ///
    /// # Errors
    /// What the system says.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Accepts the next connection.
    ///
    /// # Errors
    /// What the system says; `EMFILE` and the like pass, so the caller waits a little and goes on.
    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn Stream>, SocketAddr)>>;
}

/// One connection, in both directions.
pub trait Stream: Send {
    /// Waits until a read would not wait; may be ready without need. An idle connection waits here,
    /// so that it holds no buffer.
    ///
    /// # Errors
    /// What the system says; the connection is of no use afterwards.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Reads up to `limit` bytes into the spare capacity of `buffer`; neither may be 0. 0 means
    /// that the peer has ended.
    ///
    /// # Errors
    /// What the system says; the connection is of no use afterwards.
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>>;

    /// Writes some of `pieces`; `more` says that other bytes follow at once (`MSG_MORE`).
    ///
    /// # Errors
    /// What the system says; the connection is of no use afterwards.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>>;

    /// Sends up to `length` bytes of `file` from `offset`. 0 means that the file ends there.
    ///
    /// # Errors
    /// What the system says; the connection is of no use afterwards.
    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>>;

    /// Ends the sending direction after what was written.
    ///
    /// # Errors
    /// What the system says.
    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>>;
}
