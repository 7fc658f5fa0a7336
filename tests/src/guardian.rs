//! Ends what a test process leaves behind: its nodes, its clients, its directories.
//!
//! Input: process ids and directories, written to the standard input of one shell per test process.
//! Output: when that pipe closes, which it does however the test process ends, the shell kills
//! those processes and removes those directories.
//!
//! Statics are not dropped when a Rust process ends, and `PR_SET_PDEATHSIG` is about the thread
//! that forked, which for a test ends with the test; a pipe has neither problem. A process is
//! released before it is reaped, so that its id cannot have been given to another one.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Keeps `+ID` and `-ID` as a set, `d PATH` as a list; acts at the end of its input.
const SCRIPT: &str = r#"
processes=" "
set --
while read -r verb what; do
  case $verb in
    +) processes="$processes$what " ;;
    -) processes="${processes%% $what *} ${processes#* $what }" ;;
    d) set -- "$@" "$what" ;;
  esac
done
for process in $processes; do kill -KILL "$process"; done
for process in $processes; do
  for try in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$process" || break; sleep 0.1; done
done
for directory in "$@"; do rm -rf "$directory"; done
"#;

/// A process that dies with this one, unless it is waited for before.
pub struct Guarded {
    child: Child,
    released: bool,
}

impl Guarded {
    /// Starts `command` and puts it under guard.
    ///
    /// # Errors
    ///
    /// Those of [`Command::spawn`].
    pub fn spawn(command: &mut Command) -> std::io::Result<Self> {
        let child = command.spawn()?;
        tell(&format!("+ {}", child.id()));
        Ok(Self {
            child,
            released: false,
        })
    }

    /// The child, to read from or write to.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process has ended; it is left unreaped until [`Guarded::wait`] or drop.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let id = rustix::process::Pid::from_child(&self.child);
        let options = rustix::process::WaitIdOptions::EXITED
            | rustix::process::WaitIdOptions::NOHANG
            | rustix::process::WaitIdOptions::NOWAIT;
        self.released
            || !matches!(
                rustix::process::waitid(rustix::process::WaitId::Pid(id), options),
                Ok(None)
            )
    }

    /// Sends a signal, if the process still runs.
    pub fn signal(&self, signal: rustix::process::Signal) {
        if !self.released {
            let id = rustix::process::Pid::from_child(&self.child);
            let _ended_meanwhile = rustix::process::kill_process(id, signal);
        }
    }

    /// Waits for the end and takes the process from under guard.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        if !self.released {
            let id = rustix::process::Pid::from_child(&self.child);
            let options =
                rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
            let _ended = rustix::process::waitid(rustix::process::WaitId::Pid(id), options);
            tell(&format!("- {}", self.child.id()));
            self.released = true;
        }
        self.child.wait().expect("wait for a child")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if !self.released {
            self.signal(rustix::process::Signal::KILL);
            self.wait();
        }
    }
}

/// Has `directory` removed when this process ends, if it still exists then.
pub fn remove_at_exit(directory: &Path) {
    tell(&format!("d {}", directory.display()));
}

fn tell(line: &str) {
    static GUARDIAN: OnceLock<Mutex<Child>> = OnceLock::new();
    let guardian = GUARDIAN.get_or_init(|| Mutex::new(start_guardian()));
    let mut guardian = guardian.lock().expect("the guardian");
    let pipe = guardian.stdin.as_mut().expect("the guardian's pipe");
    writeln!(pipe, "{line}").expect("write to the guardian");
}

/// Not waited for: it acts after this process has ended.
fn start_guardian() -> Child {
    Command::new("sh")
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A group of its own: an interrupt from the terminal must not end the guardian first.
        .process_group(0)
        .spawn()
        .expect("start sh, the guardian of this test's processes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guardian_kills_what_is_guarded_and_spares_what_was_released() {
        let directory = tempfile::tempdir().unwrap().keep();
        let mut guarded = Command::new("sleep").arg("60").spawn().unwrap();
        let mut released = Command::new("sleep").arg("60").spawn().unwrap();
        let mut guardian = start_guardian();
        let mut pipe = guardian.stdin.take().unwrap();
        for line in [
            format!("+ {}", released.id()),
            format!("+ {}", guarded.id()),
            format!("- {}", released.id()),
            format!("d {}", directory.display()),
        ] {
            writeln!(pipe, "{line}").unwrap();
        }
        drop(pipe);
        // Without a kill this would take a minute.
        let started = std::time::Instant::now();
        assert!(!guarded.wait().unwrap().success());
        assert!(started.elapsed().as_secs() < 30);
        guardian.wait().unwrap();
        assert!(!directory.exists());
        assert!(released.try_wait().unwrap().is_none(), "it was killed too");
        released.kill().unwrap();
        released.wait().unwrap();
    }
}
