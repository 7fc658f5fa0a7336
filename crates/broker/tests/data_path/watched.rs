//! A disk and a network that note where bytes are received and what is written to partitions.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use skein_env::{
    BoxFuture, Disk, DiskSpace, EntryKind, File, IndexMap, Listener, LockGuard, Net, OpenMode,
    Residency, Stream,
};

/// Addresses, as numbers.
#[derive(Default)]
pub(crate) struct Watched {
    /// Where received bytes begin, and where they end.
    received: Mutex<BTreeMap<usize, usize>>,
    /// Start and length of each piece that was written.
    written: Mutex<Vec<(usize, usize)>>,
}

impl Watched {
    pub(crate) fn clear(&self) {
        self.received.lock().unwrap().clear();
        self.written.lock().unwrap().clear();
    }

    /// Checks that every byte which was written lay where it was received; returns how many they
    /// are.
    pub(crate) fn check_written_from_received(&self) -> usize {
        let received = self.received.lock().unwrap();
        let mut bytes = 0;
        for &(start, length) in self.written.lock().unwrap().iter() {
            bytes += length;
            let mut at = start;
            while at < start + length {
                let part = received
                    .range(..=at)
                    .next_back()
                    .filter(|(_, end)| **end > at);
                let (_, end) = part.expect("record bytes were copied before they were written");
                at = *end;
            }
        }
        bytes
    }

    fn note_received(&self, start: usize, length: usize) {
        let mut received = self.received.lock().unwrap();
        let end = received.entry(start).or_default();
        *end = (*end).max(start + length);
    }
}

pub(crate) struct WatchedDisk {
    disk: Arc<dyn Disk>,
    watched: Arc<Watched>,
}

impl WatchedDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>, watched: Arc<Watched>) -> Arc<Self> {
        Arc::new(Self { disk, watched })
    }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        let is_log = path.to_string_lossy().contains("topic-0/")
            && path.extension().is_some_and(|e| e == "log");
        if !is_log {
            return Ok(file);
        }
        let watched = Arc::clone(&self.watched);
        Ok(Arc::new(WatchedFile { file, watched }))
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

struct WatchedFile {
    file: Arc<dyn File>,
    watched: Arc<Watched>,
}

impl File for WatchedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut written = self.watched.written.lock().unwrap();
        written.extend(pieces.iter().map(|p| (p.as_ptr().addr(), p.len())));
        drop(written);
        self.file.write_at(pieces, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.file.set_length(length)
    }

    fn residency(&self, offset: u64, length: u64) -> Residency {
        self.file.residency(offset, length)
    }

    fn read_ahead(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.read_ahead(offset, length)
    }

    fn drop_cache(&self, offset: u64, length: u64) {
        self.file.drop_cache(offset, length);
    }

    fn descriptor(&self) -> Option<RawFd> {
        self.file.descriptor()
    }
}

pub(crate) struct WatchedNet {
    net: Arc<dyn Net>,
    watched: Arc<Watched>,
}

impl WatchedNet {
    pub(crate) fn new(net: Arc<dyn Net>, watched: Arc<Watched>) -> Arc<Self> {
        Arc::new(Self { net, watched })
    }
}

impl Net for WatchedNet {
    fn bind(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let (listener, watched) = (self.net.bind(address)?, Arc::clone(&self.watched));
        Ok(Box::new(WatchedListener { listener, watched }))
    }

    fn connect<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Box<dyn Stream>>> {
        self.net.connect(host, port)
    }
}

struct WatchedListener {
    listener: Box<dyn Listener>,
    watched: Arc<Watched>,
}

impl Listener for WatchedListener {
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }

    fn poll_accept(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<(Box<dyn Stream>, SocketAddr)>> {
        let watched = &self.watched;
        self.listener.poll_accept(context).map_ok(|(stream, peer)| {
            let watched = Arc::clone(watched);
            (
                Box::new(WatchedStream { stream, watched }) as Box<dyn Stream>,
                peer,
            )
        })
    }
}

struct WatchedStream {
    stream: Box<dyn Stream>,
    watched: Arc<Watched>,
}

impl Stream for WatchedStream {
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
            self.watched
                .note_received(buffer[start..].as_ptr().addr(), count);
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
