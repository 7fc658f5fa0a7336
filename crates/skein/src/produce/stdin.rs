//! Lines of standard input become records.
//!
//! Input: standard input. Output: records in the cluster, and what became of them.
//!
//! Invariant: it succeeds only if every line was written.

use std::collections::VecDeque;
use std::io;
use std::io::Read;

use serde_json::Map;
use skein_client::{Delivery, Producer};
use skein_env::{Env, Lane};
use tokio::sync::oneshot;

use crate::failure::Failure;
use crate::produce::ProduceArguments;
use crate::produce::lines::Lines;
use crate::produce::summary::Summary;
use crate::session::Session;

/// Bytes that are read from standard input at once.
const READ_BYTES: usize = 64 * 1024;
/// Records that are on their way before the oldest one is waited for.
const DELIVERIES_MAX: usize = 100_000;

/// Sends all that standard input has.
pub(super) async fn run(session: Session, arguments: ProduceArguments) -> Result<(), Failure> {
    let options = arguments.send.options(session.timeout);
    let producer = session.client.producer(options).await?;
    let mut sent = Sent {
        summary: Summary::new(session.json, arguments.show_offsets),
        deliveries: VecDeque::new(),
    };
    let result = send_lines(&session, &arguments, &producer, &mut sent).await;
    // What was taken is finished also if a later line could not be.
    let is_closed = producer.close(session.timeout).await;
    sent.settle(0).await?;
    result?;
    if !is_closed {
        return Err(Failure::failed("the last records were not written in time"));
    }
    sent.summary.print(Map::new())
}

async fn send_lines(
    session: &Session,
    arguments: &ProduceArguments,
    producer: &Producer,
    sent: &mut Sent,
) -> Result<(), Failure> {
    let timestamp = arguments
        .timestamp
        .map(|time| time.resolve(session.env.clock.now()));
    let line_max = arguments.send.max_request_size;
    let mut lines = Lines::new(line_max, 0);
    loop {
        let chunk = read(&session.env).await?;
        lines.push(&chunk);
        let is_at_end = chunk.is_empty();
        let next_line = |lines: &mut Lines| match lines.next_line() {
            None if is_at_end => lines.finish(),
            line => line,
        };
        while let Some(line) = next_line(&mut lines) {
            if line.is_cut() {
                return Err(too_long(line_max));
            }
            let record = arguments.record(line.bytes, timestamp);
            sent.deliveries.push_back(producer.send(record).await?);
            sent.settle(DELIVERIES_MAX).await?;
        }
        if lines.is_within_long_line() {
            return Err(too_long(line_max));
        }
        if is_at_end {
            return Ok(());
        }
        if sent.summary.show_offsets {
            // Somebody looks at every record: tell of each when it is written, not at the end.
            sent.settle(0).await?;
        }
    }
}

fn too_long(line_max: usize) -> Failure {
    Failure::failed(format!("a line is longer than {line_max} bytes"))
        .hint("--max-request-size raises the limit.")
}

/// Waits for more input, on a thread that may block; none is the end.
async fn read(env: &Env) -> Result<Vec<u8>, Failure> {
    let (sender, receiver) = oneshot::channel();
    let read = move || {
        let mut chunk = vec![0; READ_BYTES];
        let read = loop {
            match io::stdin().lock().read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.map(|count| {
            chunk.truncate(count);
            chunk
        });
        // The receiver is there as long as the command is.
        let _ = sender.send(read);
    };
    env.spawn.offload(Lane::Data, "stdin", Box::new(read)).await;
    let failed = |error| Failure::failed(format!("cannot read standard input: {error}"));
    receiver
        .await
        .map_err(|_| failed("the thread is gone".to_owned()))?
        .map_err(|error| failed(error.to_string()))
}

/// The records on their way, and what became of the others.
struct Sent {
    summary: Summary,
    deliveries: VecDeque<Delivery>,
}

impl Sent {
    /// Waits until no more than `left` records are on their way.
    async fn settle(&mut self, left: usize) -> Result<(), Failure> {
        while self.deliveries.len() > left {
            let Some(delivery) = self.deliveries.pop_front() else {
                break;
            };
            let written = delivery.wait().await;
            let written = written.map_err(|error| self.summary.failed(error))?;
            self.summary.add(&written)?;
        }
        Ok(())
    }
}
