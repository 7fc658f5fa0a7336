//! Logs on standard error, and the loggers whose levels change while the process runs.
//!
//! Input: a level or filter, a format; later, levels for loggers. Output: a `tracing` subscriber
//! for the whole process.
//!
//! A logger is the beginning of a target, which is a module's path: `skein` stands for all crates
//! of Skein, `skein_storage` for one. The longest that has a level counts.
//!
//! Invariant: the filter in effect is that of the start, with what was set since in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::io::IsTerminal;
use std::sync::Arc;

use clap::ValueEnum;
use parking_lot::Mutex;
use skein_env::{LogLevel, Loggers, ROOT_LOGGER};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::failure::Failure;

mod json;

use json::JsonLines;

/// The loggers of a node, beside those that the filter of the start names.
const LOGGERS: [&str; 7] = [
    ROOT_LOGGER,
    "openraft",
    "skein",
    "skein_broker",
    "skein_net",
    "skein_quorum",
    "skein_storage",
];

/// From the most to the least that is logged.
const LEVELS: [(Level, LogLevel); 5] = [
    (Level::TRACE, LogLevel::Trace),
    (Level::DEBUG, LogLevel::Debug),
    (Level::INFO, LogLevel::Info),
    (Level::WARN, LogLevel::Warn),
    (Level::ERROR, LogLevel::Error),
];

/// What log lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people; with colours on a terminal.
    #[value(alias = "text")]
    Human,
    /// A JSON object a line.
    Json,
}

/// Begins to log. `level` is a level (`debug`) or a filter (`info,skein_storage=debug`).
pub(crate) fn start(level: &str, format: LogFormat) -> Result<Arc<dyn Loggers>, Failure> {
    let began = Filter::parse(level).ok_or_else(|| {
        Failure::wrong(format!("{level:?} is no log level"))
            .hint("Write error, warn, info, debug or trace, or a filter: info,skein_net=debug.")
    })?;
    let (subscriber, loggers) = subscriber(began, format, io::stderr, io::stderr().is_terminal());
    subscriber.init();
    Ok(Arc::new(loggers))
}

/// What writes the lines, and the levels by which it does.
fn subscriber<W>(
    began: Filter,
    format: LogFormat,
    writer: W,
    is_terminal: bool,
) -> (
    impl SubscriberInitExt + Subscriber + Send + Sync,
    ProcessLoggers,
)
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let (targets, handle) = reload::Layer::new(began.targets());
    let lines = fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Human => lines.with_ansi(is_terminal).boxed(),
        LogFormat::Json => lines.event_format(JsonLines).boxed(),
    };
    let loggers = ProcessLoggers {
        handle,
        filter: Mutex::new(began.clone()),
        began,
    };
    (
        tracing_subscriber::registry().with(targets).with(lines),
        loggers,
    )
}

/// The levels of this process.
struct ProcessLoggers {
    handle: reload::Handle<Targets, Registry>,
    began: Filter,
    filter: Mutex<Filter>,
}

impl Loggers for ProcessLoggers {
    fn levels(&self) -> Vec<(String, LogLevel)> {
        self.filter.lock().levels()
    }

    fn set(&self, changes: &[(String, Option<LogLevel>)]) {
        let mut filter = self.filter.lock();
        filter.set(&self.began, changes);
        // It fails only when the subscriber has gone, and it lives as long as the process.
        let _ = self.handle.reload(filter.targets());
    }
}

/// Levels by logger.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    root: LevelFilter,
    named: BTreeMap<String, LevelFilter>,
}

impl Filter {
    /// The form of `tracing`: a level, or targets with levels, with commas between.
    fn parse(text: &str) -> Option<Self> {
        let parts = text.split(',').map(str::trim);
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        // A word that is no level would be the name of a target, and all others silent.
        let is_level = |part: &&str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
        if parts.is_empty() || !parts.iter().all(is_level) {
            return None;
        }
        let targets: Targets = parts.join(",").parse().ok()?;
        Some(Self {
            root: targets.default_level().unwrap_or(LevelFilter::OFF),
            named: targets.into_iter().collect(),
        })
    }

    /// What `tracing` filters by.
    fn targets(&self) -> Targets {
        let named = self
            .named
            .iter()
            .map(|(name, level)| (name.clone(), *level));
        named.collect::<Targets>().with_default(self.root)
    }

    fn levels(&self) -> Vec<(String, LogLevel)> {
        let targets = self.targets();
        let level = |name: &str| {
            let target = if name == ROOT_LOGGER { "" } else { name };
            let enabled = LEVELS
                .iter()
                .find(|(level, _)| targets.would_enable(target, level));
            enabled.map_or(LogLevel::Off, |(_, level)| *level)
        };
        let names = LOGGERS
            .into_iter()
            .chain(self.named.keys().map(String::as_str));
        let names: BTreeSet<_> = names.collect();
        let levels = names.into_iter().map(|name| (name.to_owned(), level(name)));
        levels.collect()
    }

    fn set(&mut self, began: &Self, changes: &[(String, Option<LogLevel>)]) {
        for (name, level) in changes {
            let level = level.map(level_filter);
            if name == ROOT_LOGGER {
                self.root = level.unwrap_or(began.root);
                continue;
            }
            match level.or(began.named.get(name).copied()) {
                Some(level) => self.named.insert(name.clone(), level),
                None => self.named.remove(name),
            };
        }
    }
}

fn level_filter(level: LogLevel) -> LevelFilter {
    LEVELS
        .iter()
        .find(|(_, known)| *known == level)
        .map_or(LevelFilter::OFF, |(level, _)| {
            LevelFilter::from_level(*level)
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use parking_lot::MutexGuard;

    use super::*;

    /// What is logged, instead of standard error.
    pub(super) struct Lines {
        written: Written,
        dispatch: tracing::Dispatch,
        loggers: ProcessLoggers,
        _turn: MutexGuard<'static, ()>,
    }

    /// Held by the one that logs: `tracing` keeps one most verbose level for the whole process, and
    /// two subscribers that come or change at the same time may leave it too low.
    static TURN: Mutex<()> = Mutex::new(());

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        pub(super) fn of(format: LogFormat, level: &str) -> Self {
            let turn = TURN.lock();
            let (written, began) = (Written::default(), Filter::parse(level).unwrap());
            let writer = written.clone();
            let (subscriber, loggers) = subscriber(began, format, move || writer.clone(), false);
            let dispatch = tracing::Dispatch::new(subscriber);
            Self {
                written,
                dispatch,
                loggers,
                _turn: turn,
            }
        }

        /// Runs what logs.
        pub(super) fn log(&self, work: impl FnOnce()) {
            tracing::dispatcher::with_default(&self.dispatch, work);
        }

        /// What has been logged since the last time.
        pub(super) fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.written.0.lock())).unwrap()
        }
    }

    #[test]
    fn levels_change_while_running_in_every_format() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let lines = Lines::of(format, "info");
            let told = || {
                lines.log(|| tracing::debug!(target: "skein_storage::log", "a detail"));
                lines.take().contains("a detail")
            };
            let set = |level| {
                let changes = [("skein_storage".to_owned(), level)];
                // As in a node, where it is everybody's: the only subscriber is looked for among
                // the defaults.
                lines.log(|| lines.loggers.set(&changes));
            };
            assert!(!told(), "{format:?}");
            set(Some(LogLevel::Debug));
            assert!(told(), "{format:?}");
            set(None);
            assert!(!told(), "{format:?}");
        }
    }

    fn level(filter: &Filter, name: &str) -> Option<LogLevel> {
        let mut levels = filter.levels().into_iter();
        Some(levels.find(|(logger, _)| logger == name)?.1)
    }

    #[test]
    fn a_logger_has_the_level_of_the_longest_name_that_has_one() {
        let filter = Filter::parse(" warn, openraft=off,,skein_storage::log=trace").unwrap();
        for (name, expected) in [
            ("root", Some(LogLevel::Warn)),
            ("openraft", Some(LogLevel::Off)),
            ("skein_storage", Some(LogLevel::Warn)),
            ("skein_storage::log", Some(LogLevel::Trace)),
            ("tokio", None),
            ("", None),
        ] {
            assert_eq!(level(&filter, name), expected, "{name}");
        }
        let nothing = Filter::parse("skein_net=info").unwrap();
        assert_eq!(level(&nothing, "root"), Some(LogLevel::Off));
        for wrong in ["skein_net=loud", "", " ,", "loud", "info,skein_net"] {
            assert_eq!(Filter::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_was_set_counts_until_it_is_taken_back() {
        let began = Filter::parse("info,openraft=warn").unwrap();
        let mut filter = began.clone();
        let set = |name: &str, level| (name.to_owned(), level);
        let debug = Some(LogLevel::Debug);
        filter.set(
            &began,
            &[
                set("skein", debug),
                set("openraft", Some(LogLevel::Error)),
                set("root", Some(LogLevel::Trace)),
            ],
        );
        assert_eq!(level(&filter, "skein_net"), debug, "of all crates");
        assert_eq!(level(&filter, "root"), Some(LogLevel::Trace));
        assert!(
            filter
                .targets()
                .would_enable("skein_net::frame", &Level::DEBUG)
        );
        filter.set(&began, &[set("skein_net", Some(LogLevel::Warn))]);
        assert!(
            !filter
                .targets()
                .would_enable("skein_net::frame", &Level::INFO)
        );
        let all = ["skein", "skein_net", "openraft", "root"];
        filter.set(&began, &all.map(|name| set(name, None)));
        assert_eq!(filter, began);
    }
}
