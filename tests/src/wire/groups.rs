//! Members of consumer groups by hand, each in the oldest versions that do.
//!
//! Input: a member's place and requests. Output: Kafka's codes and fields. What asks and what waits
//! for the answer are two calls, so that one thread can be many members.

use std::io;
use std::time::{Duration, Instant};

use super::{Answer, Connection, Frame, api, error};

const SESSION_MS: i32 = 45_000;
const REBALANCE_MS: i32 = 60_000;
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(60);
/// The only protocol of these members.
const PROTOCOL: &str = "range";

/// One member, on a connection of its own.
pub struct Member {
    connection: Connection,
    group: String,
    id: String,
    generation: i32,
    session_ms: i32,
}

/// What a member learns when its join is answered.
#[derive(Debug)]
pub struct Joined {
    /// Kafka's error code.
    pub error_code: i16,
    /// The ids of all members, where this one leads the group, else nothing.
    pub members: Vec<String>,
}

impl Member {
    /// A member that has not joined yet.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn connect(port: u16, group: &str) -> io::Result<Self> {
        Ok(Self {
            connection: Connection::open(port)?,
            group: group.to_owned(),
            id: String::new(),
            generation: -1,
            session_ms: SESSION_MS,
        })
    }

    /// The same with a session of its own, which the node must allow.
    #[must_use]
    pub fn with_session(mut self, session_ms: i32) -> Self {
        self.session_ms = session_ms;
        self
    }

    /// Goes on as the member that it is, on another connection.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn connect_again(&mut self, port: u16) -> io::Result<()> {
        self.connection = Connection::open(port)?;
        Ok(())
    }

    /// The id that the coordinator gave, empty before the first join.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Speaks as this member of that generation from now on.
    pub fn act_as(&mut self, id: &str, generation: i32) {
        (self.id, self.generation) = (id.to_owned(), generation);
    }

    /// A request that this file has no words for, and its answer.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn call(&mut self, api_key: i16, version: i16, body: &Frame) -> io::Result<Answer> {
        self.connection.call(api_key, version, body)
    }

    /// Waits until the group has a coordinator that has loaded it.
    ///
    /// # Errors
    ///
    /// Those of the socket; `TimedOut` when there is none for a long time.
    pub fn wait_for_coordinator(&mut self) -> io::Result<()> {
        let asked = Instant::now();
        loop {
            let body = Frame::new().string(&self.group);
            let found = self.connection.call(api::FIND_COORDINATOR, 0, &body)?.i16();
            // Who is not known is told so by a coordinator that knows its members.
            let stranger = Frame::new().string(&self.group).i32(1).string("stranger");
            let body = stranger.i32(0);
            if found == error::NONE
                && self.connection.call(api::SYNC_GROUP, 0, &body)?.i16()
                    == error::UNKNOWN_MEMBER_ID
            {
                return Ok(());
            }
            if asked.elapsed() > COORDINATOR_TIMEOUT {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no coordinator"));
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// JoinGroup 2, with these bytes as subscription.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn ask_to_join(&mut self, subscription: &[u8]) -> io::Result<()> {
        let body = Frame::new()
            .string(&self.group)
            .i32(self.session_ms)
            .i32(REBALANCE_MS)
            .string(&self.id)
            .string("consumer")
            .i32(1)
            .string(PROTOCOL)
            .bytes(subscription);
        self.connection.send(api::JOIN_GROUP, 2, &body)
    }

    /// The answer to [`Member::ask_to_join`], which comes when all members have asked.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn joined(&mut self) -> io::Result<Joined> {
        let mut answer = self.connection.receive()?;
        answer.i32();
        let error_code = answer.i16();
        let generation = answer.i32();
        answer.string();
        answer.string();
        let id = answer.string().unwrap_or_default();
        let members = (0..answer.i32())
            .map(|_| {
                let member = answer.string().unwrap_or_default();
                answer.bytes();
                member
            })
            .collect();
        if error_code == error::NONE {
            (self.id, self.generation) = (id, generation);
        }
        Ok(Joined {
            error_code,
            members,
        })
    }

    /// SyncGroup 1, with what the leader of the group gives each member.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn ask_to_sync(&mut self, assignments: &[(String, Vec<u8>)]) -> io::Result<()> {
        let count = i32::try_from(assignments.len()).expect("few members");
        let mut body = self.head().i32(count);
        for (member, assignment) in assignments {
            body = body.string(member).bytes(assignment);
        }
        self.connection.send(api::SYNC_GROUP, 1, &body)
    }

    /// The answer to [`Member::ask_to_sync`]: an error code, and what this member was given.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn synced(&mut self) -> io::Result<(i16, Vec<u8>)> {
        let mut answer = self.connection.receive()?;
        answer.i32();
        Ok((answer.i16(), answer.bytes()))
    }

    /// Heartbeat 1, and its error code.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn heartbeat(&mut self) -> io::Result<i16> {
        let body = self.head();
        let mut answer = self.connection.call(api::HEARTBEAT, 1, &body)?;
        answer.i32();
        Ok(answer.i16())
    }

    /// OffsetCommit 2 of one offset for each of these partitions; the first error of one.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn commit(
        &mut self,
        topic: &str,
        partitions: std::ops::Range<i32>,
        offset: i64,
    ) -> io::Result<i16> {
        let body = self.head().i64(-1).i32(1).string(topic);
        let count = i32::try_from(partitions.len()).expect("few partitions");
        let mut body = body.i32(count);
        for partition in partitions {
            body = body.i32(partition).i64(offset).string("");
        }
        let mut answer = self.connection.call(api::OFFSET_COMMIT, 2, &body)?;
        answer.i32();
        answer.string();
        let codes = (0..answer.i32()).map(|_| {
            answer.i32();
            answer.i16()
        });
        let codes: Vec<i16> = codes.collect();
        Ok(codes
            .into_iter()
            .find(|code| *code != error::NONE)
            .unwrap_or(error::NONE))
    }

    /// OffsetFetch 2 of all that the group has committed: an error code and the offsets.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn committed(&mut self) -> io::Result<(i16, Vec<i64>)> {
        let body = Frame::new().string(&self.group).i32(-1);
        let mut answer = self.connection.call(api::OFFSET_FETCH, 2, &body)?;
        let mut offsets = Vec::new();
        for _ in 0..answer.i32() {
            answer.string();
            for _ in 0..answer.i32() {
                answer.i32();
                offsets.push(answer.i64());
                answer.string();
                answer.i16();
            }
        }
        Ok((answer.i16(), offsets))
    }

    /// DescribeGroups 0 of the group: the name of its state, and the ids of its members.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn describe(&mut self) -> io::Result<(String, Vec<String>)> {
        let body = Frame::new().i32(1).string(&self.group);
        let mut answer = self.connection.call(api::DESCRIBE_GROUPS, 0, &body)?;
        answer.i32();
        answer.i16();
        answer.string();
        let state = answer.string().unwrap_or_default();
        answer.string();
        answer.string();
        let members = (0..answer.i32())
            .map(|_| {
                let member = answer.string().unwrap_or_default();
                answer.string();
                answer.string();
                answer.bytes();
                answer.bytes();
                member
            })
            .collect();
        Ok((state, members))
    }

    /// Group, generation, member: how many requests begin.
    #[must_use]
    pub fn head(&self) -> Frame {
        Frame::new()
            .string(&self.group)
            .i32(self.generation)
            .string(&self.id)
    }
}
