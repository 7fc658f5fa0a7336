//! A disk and a network that tell a test what the node does with them.
//!
//! Input: the world below, and hooks. Output: the same world, with the hooks called first.
//!
//! Invariant: every call is passed on as it came, so that the node runs as it does without hooks.
//!
//! Source: none.

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use skein_env::{
    BoxFuture, Disk, DiskSpace, EntryKind, Env, File, IndexMap, ListenOptions, Listener, LockGuard,
    Net, OpenMode, Residency, Stream,
};

/// What a test sees of the node's world, before the call that is told of is made.
pub(crate) trait Hooks: Send + Sync + 'static {
    /// `pieces` are about to be written to the file.
    fn writing(&self, _path: &Path, _pieces: &[IoSlice<'_>]) {}

    /// The file is about to be flushed.
    fn syncing(&self, _path: &Path) {}

    /// The range is about to be read into the page cache.
    fn reading_ahead(&self, _path: &Path, _offset: u64, _length: u64) {}

    /// The range is about to be prefetched.
    fn prefetching(&self, _path: &Path, _offset: u64, _length: u64) {}

    /// `count` bytes were received, and lie at this address.
    fn received(&self, _address: usize, _count: usize) {}
}

/// The world `env` with `hooks` in front of it.
pub(crate) fn hook<H: Hooks>(env: Env, hooks: &Arc<H>) -> Env {
    let hooks: Arc<dyn Hooks> = Arc::<H>::clone(hooks);
    let (disk, net) = (Arc::clone(&env.disk), Arc::clone(&env.net));
    Env {
        disk: Arc::new(HookedDisk {
            disk,
            hooks: Arc::clone(&hooks),
        }),
        net: Arc::new(HookedNet { net, hooks }),
        ..env
    }
}

struct HookedDisk {
    disk: Arc<dyn Disk>,
    hooks: Arc<dyn Hooks>,
}

impl Disk for HookedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(HookedFile {
            file: self.disk.open(path, mode)?,
            path: path.to_owned(),
            hooks: Arc::clone(&self.hooks),
        }))
    }

    fn map_index(&self, file: &Arc<dyn File>, length: usize) -> io::Result<Arc<dyn IndexMap>> {
        self.disk.map_index(file, length)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.create_directory(path)
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<(OsString, EntryKind)>> {
        self.disk.read_directory(path)
    }

    fn stat(&self, path: &Path) -> io::Result<EntryKind> {
        self.disk.stat(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_directory(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory(path)
    }

    fn space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.disk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.disk.lock(path)
    }

    fn take_cost(&self) -> Duration {
        self.disk.take_cost()
    }
}

struct HookedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    hooks: Arc<dyn Hooks>,
}

impl File for HookedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.hooks.writing(&self.path, pieces);
        self.file.write_at(pieces, offset)
    }

    fn reserve(&self, range: Range<u64>) -> io::Result<()> {
        self.file.reserve(range)
    }

    fn fill(&self, range: Range<u64>) -> io::Result<()> {
        self.file.fill(range)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hooks.syncing(&self.path);
        self.file.sync_data()
    }

    fn rewrite(&self, range: Range<u64>, scratch: &mut Vec<u8>) -> io::Result<()> {
        self.file.rewrite(range, scratch)
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn modified(&self) -> io::Result<skein_types::Millis> {
        self.file.modified()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn residency(&self, offset: u64, length: u64) -> Residency {
        self.file.residency(offset, length)
    }

    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<Vec<Range<u64>>> {
        self.hooks.reading_ahead(&self.path, offset, length);
        self.file.read_ahead(offset, length)
    }

    fn prefetch(&self, offset: u64, length: u64) -> Vec<Range<u64>> {
        self.hooks.prefetching(&self.path, offset, length);
        self.file.prefetch(offset, length)
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        self.file.drop_cache(offset, length);
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.file.descriptor()
    }
}

struct HookedNet {
    net: Arc<dyn Net>,
    hooks: Arc<dyn Hooks>,
}

impl Net for HookedNet {
    fn listen(
        &self,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> io::Result<Box<dyn Listener>> {
        let listener = self.net.listen(address, options)?;
        let hooks = Arc::clone(&self.hooks);
        Ok(Box::new(HookedListener { listener, hooks }))
    }

    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        self.net.connect(host, port)
    }

    fn look_up<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.net.look_up(host)
    }
}

struct HookedListener {
    listener: Box<dyn Listener>,
    hooks: Arc<dyn Hooks>,
}

impl Listener for HookedListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn Stream>, SocketAddr)>> {
        let hooks = &self.hooks;
        self.listener.poll_accept(context).map_ok(|(stream, peer)| {
            let hooks = Arc::clone(hooks);
            (
                Box::new(HookedStream { stream, hooks }) as Box<dyn Stream>,
                peer,
            )
        })
    }
}

struct HookedStream {
    stream: Box<dyn Stream>,
    hooks: Arc<dyn Hooks>,
}

impl Stream for HookedStream {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_readable(context)
    }

    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let start = buffer.len();
        let polled = self.stream.poll_read(context, buffer, limit);
        if let Poll::Ready(Ok(count)) = polled
            && count > 0
        {
            self.hooks.received(buffer[start..].as_ptr().addr(), count);
        }
        polled
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write(context, pieces, more)
    }

    fn poll_send_file(
        &mut self,
        context: &mut Context<'_>,
        file: &dyn File,
        offset: u64,
        length: usize,
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_send_file(context, file, offset, length)
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_shutdown(context)
    }
}
