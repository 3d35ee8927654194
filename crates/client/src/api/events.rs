//! Server-sent events, as the HTML standard describes them (9.2, "Server-sent events").
//!
//! Always true: what is kept of an unfinished event is bounded.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::{ApiError, Link};

/// The most bytes of one event.
const EVENT_LIMIT: usize = 1024 * 1024;

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// Its id, to go on from.
    pub id: Option<String>,
    /// Its kind.
    pub event: Option<String>,
    /// What it says.
    pub data: String,
}

/// Events from a server.
#[derive(Debug)]
pub struct EventStream {
    server: String,
    body: Incoming,
    parser: Parser,
    ready: VecDeque<ServerEvent>,
    /// The connection lives as long as this.
    _link: Link,
}

impl EventStream {
    pub(super) fn new(server: String, body: Incoming, link: Link) -> Self {
        Self {
            server,
            body,
            parser: Parser::default(),
            ready: VecDeque::new(),
            _link: link,
        }
    }

    /// The address of the server that sends them.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The next event; `None` when the server ends the stream. Can be cancelled and called again.
    ///
    /// # Errors
    /// The connection broke, or an event is too long.
    pub async fn next(&mut self) -> Result<Option<ServerEvent>, ApiError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let broken = |source| ApiError::Broken {
                server: self.server.clone(),
                source,
            };
            if let Ok(bytes) = frame.map_err(broken)?.into_data() {
                let limit = EVENT_LIMIT;
                self.parser
                    .take(&bytes, &mut self.ready)
                    .map_err(|TooLong| ApiError::TooLarge {
                        server: self.server.clone(),
                        limit,
                    })?;
            }
        }
    }
}

#[derive(Debug)]
struct TooLong;

/// Turns bytes into events, however they are cut into pieces.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    after_return: bool,
    event: ServerEvent,
    has_data: bool,
}

impl Parser {
    fn take(&mut self, bytes: &[u8], ready: &mut VecDeque<ServerEvent>) -> Result<(), TooLong> {
        for &byte in bytes {
            let second_half = byte == b'\n' && self.after_return;
            self.after_return = byte == b'\r';
            match byte {
                _ if second_half => {}
                b'\n' | b'\r' => self.end_line(ready),
                byte => self.line.push(byte),
            }
            if self.line.len() + self.event.data.len() > EVENT_LIMIT {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, ready: &mut VecDeque<ServerEvent>) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                ready.push_back(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.event.data.push('\n');
                }
                self.has_data = true;
                self.event.data.push_str(value);
            }
            "id" => self.event.id = Some(value.to_owned()),
            "event" => self.event.event = Some(value.to_owned()),
            // Comments (an empty field name) keep the connection alive; unknown fields are ignored.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, step: usize) -> Vec<ServerEvent> {
        let (mut parser, mut ready) = (Parser::default(), VecDeque::new());
        for piece in text.as_bytes().chunks(step) {
            parser.take(piece, &mut ready).unwrap();
        }
        ready.into()
    }

    #[test]
    fn events_are_read_however_they_are_cut() {
        let text = ": hello\n\nid: 7\r\nevent: failover\r\ndata: {\"a\":\rdata:1}\r\n\r\ndata\n\nid: 9\n\nretry: 5\ndata: x\n\ndata: cut";
        let event = |id: Option<&str>, event: Option<&str>, data: &str| ServerEvent {
            id: id.map(str::to_owned),
            event: event.map(str::to_owned),
            data: data.to_owned(),
        };
        let expected = [
            event(Some("7"), Some("failover"), "{\"a\":\n1}"),
            event(None, None, ""),
            event(None, None, "x"),
        ];
        for step in 1..=text.len() {
            assert_eq!(parsed(text, step), expected, "in pieces of {step} bytes");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let mut ready = VecDeque::new();
        let piece = "data: ".to_owned() + &"x".repeat(64 * 1024) + "\n";
        let outcome = (0..1000).try_for_each(|_| parser.take(piece.as_bytes(), &mut ready));
        assert!(outcome.is_err());
        assert!(parser.line.len() + parser.event.data.len() <= EVENT_LIMIT + piece.len());
    }
}
