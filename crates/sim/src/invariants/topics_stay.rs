//! A topic whose creation was acknowledged is there for ever.
//!
//! Input: refusals. Output: the first one that denies a topic. Clients name a topic only after they
//! were told that it was created.
//!
//! Source: the metadata log is flushed before it acknowledges.

use skein_types::ErrorCode;

use super::{Facts, Invariant};
use crate::event::Event;

/// The promise has no state: every topic that a client names was created.
pub(crate) struct TopicsStay;

impl Invariant for TopicsStay {
    fn name(&self) -> &'static str {
        "topics_stay"
    }

    fn observe(&mut self, event: &Event, _facts: &Facts<'_>) -> Result<(), String> {
        let code = match event {
            Event::Refused { code, .. } | Event::Unavailable { code, .. } => *code,
            _ => return Ok(()),
        };
        match code {
            ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId => {
                Err(format!("a topic that was created is denied: {code}"))
            }
            _ => Ok(()),
        }
    }
}
