//! What the end of a stream or of the viewer program means for the whole.

use std::io;
use std::time::Duration;

use tokio::time::Instant;
use wire::client::Refused;

use super::{Engine, Event};
use crate::connect::opening::OpenError;
use crate::connect::stream::Served;
use crate::connect::{ConnectError, End};

/// How long after a stream's end the session may take to be known as ended.
const END_KNOWN: Duration = Duration::from_secs(2);
/// How long streams may go on after the viewer program has exited, to bring over what it left.
const LAST_BYTES: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn served(
        &mut self,
        number: u64,
        served: Served,
    ) -> Result<Option<End>, ConnectError> {
        tracing::debug!(number, ?served, "a viewer's stream is over");
        self.find(number, None);
        let mut ends_session = false;
        match &served {
            Served::TakenOver => {
                self.say(Event::TakenOver {
                    session: self.standing().session.to_string(),
                });
                return Ok(Some(End::TakenOver));
            }
            Served::Refused(Refused::Ticket) => return Err(ConnectError::TicketExpired),
            Served::Refused(refused) => {
                if self.only_stream {
                    return Err(OpenError::Refused(refused.clone()).into());
                }
                tracing::warn!(%refused, "a viewer's connection was closed: it got no stream");
            }
            Served::Finished { by_session: true } | Served::SessionEnded => ends_session = true,
            Served::StreamLost(loss) => {
                tracing::warn!(
                    ?loss,
                    "a viewer's connection was closed: its stream does not go on"
                );
                ends_session = true;
            }
            Served::SessionLost | Served::Finished { .. } | Served::ViewerFailed => {}
        }
        if ends_session && self.trouble.is_none() && self.leaving.is_none() {
            // Whether only this connection or the whole session has ended, the group knows in a moment.
            self.ask_for_fate(Some(Instant::now() + END_KNOWN));
            if self.only_stream {
                return Ok(None);
            }
        }
        if self.only_stream {
            return Ok(Some(self.only_stream_over(&served)));
        }
        Ok(if self.streams.is_empty() {
            self.exit_code.map(End::ViewerExited)
        } else {
            None
        })
    }

    fn only_stream_over(&self, served: &Served) -> End {
        match (served, &self.leaving) {
            (Served::SessionLost, Some(leaving)) => End::SessionLost {
                reason: leaving.reason.clone(),
            },
            (Served::Finished { .. }, _) => End::Closed,
            (Served::ViewerFailed, _) => End::ViewerGone,
            _ => End::SessionLost {
                reason: "its stream does not go on".to_owned(),
            },
        }
    }

    pub(super) fn exited(
        &mut self,
        status: io::Result<std::process::ExitStatus>,
    ) -> Result<Option<End>, ConnectError> {
        self.program = None;
        let code = status.map_or(1, |status| status.code().unwrap_or(1));
        if self.leaving.is_some() {
            // It runs again when there is a session.
            self.exit_code = Some(code);
            return Ok(None);
        }
        if self.program_generation != self.standing().generation {
            self.start_program()?;
            return Ok(None);
        }
        if self.streams.is_empty() && self.fate.is_some() {
            // It may have ended because the session did, which may go on elsewhere.
            self.exit_code = Some(code);
            self.last_bytes = Some(Instant::now() + END_KNOWN);
            return Ok(None);
        }
        if self.streams.is_empty() {
            return Ok(Some(End::ViewerExited(code)));
        }
        self.exit_code = Some(code);
        self.last_bytes = Some(Instant::now() + LAST_BYTES);
        Ok(None)
    }
}
