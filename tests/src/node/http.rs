//! What a node tells over HTTP.
//!
//! Input: a path, or the name of a metric. Output: the answer, or the metric's value.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Node;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

impl Node {
    /// The whole answer to a GET, head included.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports().http))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The value of the metric that is called `name`, labels included.
    ///
    /// # Panics
    ///
    /// When there is no answer, or no such metric in it.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let answer = self.get("/metrics").expect("ask for the metrics");
        let value = answer.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?.strip_prefix(' ')?;
            rest.trim().parse().ok()
        });
        value.unwrap_or_else(|| panic!("no {name} in:\n{answer}"))
    }
}
