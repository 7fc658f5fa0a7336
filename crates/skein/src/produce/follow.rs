//! `skein produce --follow`: a log file that grows becomes records, through its rotations.
//!
//! Input: a log file and what happens to it; the state file of the last run. Output: records, the
//! state file; what a person should know on standard error.
//!
//! ```text
//!   watch ─► files: a look ─► tail: orders ─► files: bytes ─► lines ─► producer
//!   (wakes)                  (decides)                         │          │ acknowledgements
//!                                                              └► ledger ◄┘ ──► state file
//! ```
//!
//! Invariants:
//! - every line is sent in one piece and in order; after a stop, a kill or a crash it goes on
//!   behind the last place before which all are acknowledged: none is lost, what is behind it may
//!   come twice;
//! - within one run no line is written twice: the producer is idempotent;
//! - memory is bounded: what is read ahead by the producer's memory and by `ledger::SENT_MAX`
//!   lines, a line by `--max-line-bytes`;
//! - the main thread reads the file, and nothing but this command waits for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use skein_client::Producer;
use skein_env::Env;
use skein_types::Millis;
use tokio::time::Instant;

use crate::arguments::seconds;
use crate::failure::Failure;
use crate::output::{count, notice, warning};
use crate::produce::ProduceArguments;
use crate::produce::lines::{Line, Lines};
use crate::produce::summary::Summary;
use crate::stop::Stop;

mod connect;
mod files;
mod ledger;
mod names;
mod state;
mod tail;
mod wakes;

use connect::{Target, connect, may_pass};
use files::{LogFile, Opened, Place};
use ledger::Ledger;
use state::{Purpose, StateFile};
use tail::{Notice, Opening, Order, Tail};
use wakes::Wakes;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long the end waits for acknowledgements.
const STOP_MAX: Duration = Duration::from_secs(5);
/// Before the next look where opening a file failed, or a record could not be handed over.
const PAUSE: Duration = Duration::from_millis(100);

/// How a file is followed.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Following a file")]
pub(crate) struct FollowArguments {
    /// Collect this log file as it grows, through rotations, instead of standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) follow: Option<PathBuf>,
    /// Where to keep how far it is; below $XDG_STATE_HOME/skein if not given
    #[arg(long, value_name = "FILE", requires = "follow")]
    state: Option<PathBuf>,
    /// Where to begin in a file of which no state is kept
    #[arg(long, value_enum, default_value_t = Begin::Start, requires = "follow")]
    from: Begin,
    /// Bytes of a line, at most; as many as fit a record if not given
    #[arg(long, value_name = "BYTES", requires = "follow")]
    max_line_bytes: Option<usize>,
    /// What becomes of a longer line
    #[arg(long, value_enum, default_value_t = LongLines::Skip, requires = "follow")]
    long_lines: LongLines,
    /// Seconds without a byte after which a file that was renamed is left
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds, requires = "follow")]
    rotate_wait: Duration,
    /// Seconds after which the file is looked at though the kernel told of no change
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds, requires = "follow")]
    poll_interval: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Begin {
    /// At its first byte.
    Start,
    /// At its end: only what comes from now on.
    End,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LongLines {
    /// Told and left out.
    Skip,
    /// Told, and its first bytes are sent.
    Cut,
    /// An error; the next start begins with it again.
    Stop,
}

/// Follows until a signal comes.
pub(super) async fn run(
    env: Env,
    arguments: ProduceArguments,
    path: PathBuf,
) -> Result<(), Failure> {
    let following = &arguments.following;
    let log = LogFile::new(&path)?;
    log.check()?;
    let stop = Stop::listen(&env);
    let connected = {
        let mut stop = stop.clone();
        tokio::select! {
            biased;
            target = connect(&env, &arguments) => Some(target?),
            () = stop.wanted() => None,
        }
    };
    let Some(target) = connected else {
        return Ok(());
    };
    let topic = arguments.topic.as_str();
    let state_path = match &following.state {
        Some(path) => path.clone(),
        None => state::default_path(log.path(), topic)?,
    };
    let purpose = Purpose {
        topic: topic.to_owned(),
        cluster_id: target.cluster_id.clone(),
        file: log.path().display().to_string(),
    };
    let (state, kept) = StateFile::open(&state_path, purpose)?;
    let (shown, kept_in) = (log.path().display(), state.path().display().to_string());
    let from = match (kept, following.from) {
        (Some(place), _) => format!("from byte {}", place.position),
        (None, Begin::Start) => "from its start".to_owned(),
        (None, Begin::End) => "from its end".to_owned(),
    };
    notice(&format!(
        "following {shown} {from} into topic {topic}; how far it is stands in {kept_in}"
    ));
    let summary = Summary::new(arguments.cluster.json, arguments.show_offsets);
    let ledger = Ledger::new(state, kept, summary);
    let mut follower = Follower::new(&env, &arguments, &target, log, ledger, stop);
    let followed = follower.follow().await;
    let finished = follower.finish().await;
    // What went wrong first is the reason.
    followed?;
    finished?;
    follower.report(&kept_in)
}

/// A file that is followed.
struct Follower<'a> {
    arguments: &'a ProduceArguments,
    producer: &'a Producer,
    log: LogFile,
    wakes: Wakes,
    tail: Tail,
    lines: Lines,
    ledger: Ledger,
    stop: Stop,
    /// Where the last run stopped.
    kept: Option<Place>,
    line_max: usize,
    timestamp: Option<Millis>,
    begin: Instant,
    chunk: Vec<u8>,
    lines_too_long: u64,
}

impl<'a> Follower<'a> {
    /// Begins where the last run stopped.
    fn new(
        env: &Env,
        arguments: &'a ProduceArguments,
        target: &'a Target,
        log: LogFile,
        ledger: Ledger,
        stop: Stop,
    ) -> Self {
        let following = &arguments.following;
        let rotate_wait = i64::try_from(following.rotate_wait.as_millis()).unwrap_or(i64::MAX);
        let kept = ledger.kept();
        let resume = kept.map(|place| (place.id, place.position));
        let is_at_end = following.from == Begin::End;
        let timestamp = arguments.timestamp;
        Self {
            wakes: Wakes::new(log.directory(), log.name(), following.poll_interval),
            tail: Tail::new(Millis(rotate_wait), is_at_end, resume),
            lines: Lines::new(target.line_max, 0),
            producer: &target.producer,
            line_max: target.line_max,
            timestamp: timestamp.map(|time| time.resolve(env.clock.now())),
            begin: Instant::now(),
            chunk: vec![0; READ_BYTES],
            lines_too_long: 0,
            arguments,
            log,
            ledger,
            stop,
            kept,
        }
    }

    /// Reads and sends until a signal comes.
    async fn follow(&mut self) -> Result<(), Failure> {
        while !self.stop.is_wanted() {
            let look = self.log.look(&self.tail)?;
            let now = i64::try_from(self.begin.elapsed().as_millis()).unwrap_or(i64::MAX);
            for order in self.tail.look(&look, Millis(now)) {
                if !self.carry_out(order).await? || self.stop.is_wanted() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the orders behind this one stand.
    async fn carry_out(&mut self, order: Order) -> Result<bool, Failure> {
        match order {
            Order::Tell(what) => self.tell(what),
            Order::Read => self.read().await?,
            Order::FinishLine => return self.finish_line().await,
            Order::Restart => {
                self.log.forget_beginning();
                self.lines.restart(0);
            }
            Order::Open(opening) => return self.open(&opening).await,
            Order::Close => self.log.close(),
            Order::Wait => {
                tokio::select! {
                    biased;
                    () = self.stop.wanted() => {}
                    failed = self.ledger.tend(self.producer) => {
                        let Err(failure) = failed;
                        return Err(failure);
                    }
                    () = self.wakes.next() => {}
                }
            }
        }
        Ok(true)
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let read = self.log.read(self.tail.position(), &mut self.chunk)?;
        self.tail.advanced(read as u64);
        self.lines.push(&self.chunk[..read]);
        while let Some(line) = self.lines.next_line() {
            if !self.send(line).await? {
                return Ok(());
            }
        }
        self.ledger.settle().await
    }

    async fn finish_line(&mut self) -> Result<bool, Failure> {
        match self.lines.finish() {
            Some(line) => self.send(line).await,
            None => Ok(true),
        }
    }

    /// Goes on with another file, if it is still there.
    async fn open(&mut self, opening: &Opening) -> Result<bool, Failure> {
        let file = match self.log.open(opening)? {
            Opened::File(file) => file,
            Opened::Gone => return self.pause().await,
            Opened::Denied(failure) => {
                self.log.deny(failure)?;
                return self.pause().await;
            }
        };
        if !self.finish_line().await? {
            return Ok(false);
        }
        let kept = self.kept.take().filter(|_| opening.is_resumed);
        let fingerprint = kept.map(|place| place.fingerprint);
        self.log.hold(file, opening.id, fingerprint);
        self.tail.opened(opening);
        self.lines.restart(opening.position);
        if !opening.is_resumed && !self.log.is_line_start(opening.position)? {
            self.lines.skip_first();
        }
        if let Some(place) = self.log.place(opening.position) {
            self.ledger.begin(place)?;
        }
        Ok(true)
    }

    /// Hands a line to the producer, and waits for room if need be. `false` if a signal came first.
    async fn send(&mut self, line: Line) -> Result<bool, Failure> {
        let Some(place) = self.log.place(line.end) else {
            return Ok(true);
        };
        if line.is_cut() && !self.admit_long(&line)? {
            self.ledger.push(None, place);
            return Ok(true);
        }
        loop {
            let record = self.arguments.record(line.bytes.clone(), self.timestamp);
            let sent = tokio::select! {
                biased;
                sent = self.producer.send(record) => sent,
                failed = self.ledger.tend(self.producer) => {
                    let Err(failure) = failed;
                    return Err(failure);
                }
                () = self.stop.wanted() => return Ok(false),
            };
            match sent {
                Ok(delivery) => {
                    self.ledger.push(Some(delivery), place);
                    break;
                }
                Err(error) if may_pass(&error) => {
                    self.pause().await?;
                }
                Err(error) => return Err(self.ledger.summary.failed(error)),
            }
        }
        tokio::select! {
            biased;
            room = self.ledger.make_room(self.producer) => room.map(|()| true),
            () = self.stop.wanted() => Ok(false),
        }
    }

    /// What becomes of a line that is too long: whether its first bytes are sent.
    fn admit_long(&mut self, line: &Line) -> Result<bool, Failure> {
        self.lines_too_long += 1;
        let (path, length, max) = (self.log.path().display(), line.length, self.line_max);
        let end = line.end;
        let told = format!("{path}: a line of {length} bytes that ends at byte {end}");
        match self.arguments.following.long_lines {
            LongLines::Skip => {
                warning(&format!("{told} is longer than {max}, and left out"));
                Ok(false)
            }
            LongLines::Cut => {
                warning(&format!("{told} is cut to its first {max} bytes"));
                Ok(true)
            }
            LongLines::Stop => Err(Failure::failed(format!("{told} is longer than {max}")).hint(
                "--long-lines skip leaves such lines out, --long-lines cut sends their beginning.",
            )),
        }
    }

    /// Something is not as it was; it may be a moment later.
    async fn pause(&mut self) -> Result<bool, Failure> {
        tokio::select! {
            biased;
            () = self.stop.wanted() => {}
            () = tokio::time::sleep(PAUSE) => {}
        }
        self.ledger.settle().await.map(|()| false)
    }

    fn tell(&self, what: Notice) {
        let path = self.log.path().display();
        match what {
            Notice::Missing => notice(&format!("{path} is not there yet; waiting for it")),
            Notice::Lost { position } => warning(&format!(
                "the file that was read up to byte {position} is neither {path} nor beside it; \
                 what it had behind that is lost. Going on at the start of {path}"
            )),
            Notice::Truncated { position, size } => warning(&format!(
                "{path} was truncated: it was read up to byte {position} and has {size} now. What \
                 was written and not read before is lost. Going on at its start"
            )),
            Notice::Rewritten { position } => warning(&format!(
                "{path} was written anew: it was read up to byte {position} and begins otherwise \
                 now. Going on at its start"
            )),
            Notice::Rotated { position } => notice(&format!(
                "{path} was rotated; the former file was read to its end, byte {position}"
            )),
            Notice::Deleted { position } => notice(&format!(
                "{path} was deleted; it was read to its end, byte {position}. Waiting for a new one"
            )),
        }
    }

    /// Waits for what is on its way, and keeps how far all is.
    async fn finish(&mut self) -> Result<(), Failure> {
        let (producer, ledger) = (self.producer, &mut self.ledger);
        let settle = async {
            producer.flush().await;
            ledger.settle_all().await
        };
        // What is not acknowledged by then is sent again by the next run.
        let settled = tokio::time::timeout(STOP_MAX, settle).await;
        self.ledger.keep()?;
        settled.unwrap_or(Ok(()))
    }

    fn report(&self, kept_in: &str) -> Result<(), Failure> {
        let unacknowledged = self.ledger.unacknowledged() as u64;
        let mut more = Map::new();
        let mut put = |key: &str, value: Value| drop(more.insert(key.into(), value));
        put("file", self.log.path().display().to_string().into());
        put("position", json!(self.ledger.position()));
        put("state", kept_in.into());
        put("lines_too_long", self.lines_too_long.into());
        put("lines_unacknowledged", unacknowledged.into());
        self.ledger.summary.print(more)?;
        if self.lines_too_long > 0 {
            let lines = count(self.lines_too_long, "line");
            warning(&format!("{lines} longer than {} bytes", self.line_max));
        }
        if unacknowledged > 0 {
            let lines = count(unacknowledged, "line");
            warning(&format!(
                "{lines} not acknowledged: sent again at the next start"
            ));
        }
        Ok(())
    }
}
