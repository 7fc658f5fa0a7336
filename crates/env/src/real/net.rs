//! Connections of the real world.
//!
//! Input and output: as in [`crate::Net`].
//!
//! Invariants:
//! - after a short read or write the socket counts as not ready, so that the next call waits for
//!   the kernel's word instead of asking and hearing `EAGAIN`;
//! - every stream has `TCP_NODELAY`: with sendfile, Nagle's algorithm costs 44 ms.
//!
//! Source: `socket(7)`, `tcp(7)`, `sendmsg(2)`, `sendfile(2)`, `epoll(7)` (edge-triggered).

use std::future::Future;
use std::io;
use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::{BoxFuture, File, ListenOptions, Listener, Net, Stream};

/// The kernel's limit of pieces in one call (`IOV_MAX`).
const SEND_PIECES_MAX: usize = 1024;

/// The kernel's limit of one `sendfile`, in bytes.
const SEND_FILE_MAX: usize = 0x7fff_f000;

/// TCP over tokio.
pub struct RealNet {
    /// Where a listener lives that is bound outside of every runtime.
    runtime: Handle,
}

impl RealNet {
    /// Connections on the runtime of the task that asks; from outside of all, on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

impl Net for RealNet {
    fn listen(
        &self,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>> {
        let socket = listening_socket(address, options)?;
        socket.set_nonblocking(true)?;
        let handle = Handle::try_current().unwrap_or_else(|_| self.runtime.clone());
        let _guard = handle.enter();
        Ok(Box::new(RealListener {
            listener: TcpListener::from_std(socket.into())?,
        }))
    }

    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(RealStream { stream }) as Box<dyn Stream>)
        })
    }

    fn look_up<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

pub(super) fn listening_socket(address: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit these.
    if let Some(bytes) = options.send_buffer_bytes {
        socket.set_send_buffer_size(bytes as usize)?;
    }
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes as usize)?;
    }
    let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
    socket
        .bind(&address.into())
        .and_then(|()| socket.listen(backlog))
        .map_err(|error| explain_bind_error(&error, address))?;
    Ok(socket)
}

fn explain_bind_error(error: &io::Error, address: SocketAddr) -> io::Error {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "it is no address of this machine".to_owned(),
        io::ErrorKind::PermissionDenied => "this user may not use that port".to_owned(),
        _ => error.to_string(),
    };
    io::Error::new(
        error.kind(),
        format!("cannot listen at {address}: {reason}"),
    )
}

struct RealListener {
    listener: TcpListener,
}

impl Listener for RealListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn Stream>, SocketAddr)>> {
        let (stream, peer) = ready!(self.listener.poll_accept(context))?;
        // It fails only for a connection that is gone already, whose first read will say so.
        let _ = stream.set_nodelay(true);
        Poll::Ready(Ok((Box::new(RealStream { stream }), peer)))
    }
}

struct RealStream {
    stream: TcpStream,
}

impl Stream for RealStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(context)
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        if limit == 0 || buffer.len() == buffer.capacity() {
            // Without room a read gives 0, which would pass for the peer's end.
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        }
        // The future holds only references, so making one per call costs nothing; tokio's read
        // clears the readiness after a short read.
        pin!(self.stream.read_buf(&mut buffer.limit(limit))).poll(context)
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let pieces = &pieces[..pieces.len().min(SEND_PIECES_MAX)];
        let wanted: usize = pieces.iter().map(|piece| piece.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, more);
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            let mut sent = 0;
            let result = self.stream.try_io(Interest::WRITABLE, || {
                let mut control = SendAncillaryBuffer::default();
                sent = rustix::net::sendmsg(&self.stream, pieces, &mut control, flags)?;
                // Short: the socket's buffer is full. "Would block" clears the readiness here.
                if sent < wanted {
                    Err(io::ErrorKind::WouldBlock.into())
                } else {
                    Ok(())
                }
            });
            if sent > 0 {
                return Poll::Ready(Ok(sent));
            }
            if let Some(error) = final_error(result) {
                return Poll::Ready(Err(error));
            }
        }
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        let Some(source) = borrow_descriptor(file) else {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        };
        let length = length.min(SEND_FILE_MAX);
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            // There is no MSG_NOSIGNAL for sendfile; a Rust process ignores SIGPIPE from its start.
            let result = self.stream.try_io(Interest::WRITABLE, || {
                let mut position = offset;
                let sent =
                    rustix::fs::sendfile(self.stream.as_fd(), source, Some(&mut position), length)?;
                Ok(sent)
            });
            match result {
                Ok(sent) => return Poll::Ready(Ok(sent)),
                Err(error) => {
                    if let Some(error) = final_error(Err(error)) {
                        return Poll::Ready(Err(error));
                    }
                }
            }
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The error that ends a loop over `try_io`; `None` to go round again.
fn final_error(result: io::Result<()>) -> Option<io::Error> {
    match result {
        Ok(()) => None,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => None,
        Err(error) => Some(error),
    }
}

#[allow(unsafe_code)] // `File` names its descriptor by number, so that a simulated file needs none
fn borrow_descriptor(file: &dyn File) -> Option<BorrowedFd<'_>> {
    let descriptor = file.descriptor()?;
    // SAFETY: the descriptor belongs to `file`, which keeps it open at least as long as the borrow,
    // and is not -1, because it is open.
    Some(unsafe { BorrowedFd::borrow_raw(descriptor) })
}
