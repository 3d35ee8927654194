//! The journal: events get their place here, whether a change made them or a server spooled them.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::directory::Directory;
use crate::event::Event;
use crate::id::ServerId;
use crate::name::NAME_LIMIT;
use std::sync::Arc;

/// The most fields of an event.
const FIELDS: usize = 64;
/// The most bytes of one field.
const FIELD: usize = 4096;

impl Directory {
    /// Gives events their places and keeps them.
    pub(super) fn record(&mut self, events: Vec<Event>) -> Vec<Arc<Event>> {
        if events.is_empty() {
            return Vec::new();
        }
        let group = Arc::make_mut(&mut self.group);
        let mut recorded = Vec::with_capacity(events.len());
        for mut event in events {
            group.last_event += 1;
            event.seq = group.last_event;
            let event = Arc::new(event);
            self.journal.insert(event.seq, event.clone());
            recorded.push(event);
        }
        recorded
    }
}

impl Applying<'_> {
    pub(super) fn record_events(
        &mut self,
        server: ServerId,
        first: u64,
        events: &[Event],
    ) -> Result<Outcome, Refusal> {
        if !self.directory.servers.contains_key(&server) {
            return Err(Refusal::NotFound {
                kind: Kind::Server,
                name: server.to_string(),
            });
        }
        if first == 0 {
            return Err(bounds::invalid("first", "events are numbered from 1"));
        }
        bounds::size("events", events.len(), Command::EVENT_LIMIT)?;
        for event in events {
            bounds::size("an event's subject", event.subject.len(), NAME_LIMIT * 4)?;
            bounds::fields("an event's fields", &event.fields, FIELDS, FIELD)?;
            bounds::reasons(&event.reasons)?;
        }
        let known = self.directory.reported(server);
        let numbered = (first..).zip(events).filter(|(number, _)| *number > known);
        for (number, event) in numbered {
            let at = event.at.min(self.at);
            self.events.push(Event {
                at,
                server: Some(server),
                ..event.clone()
            });
            self.directory.reported.insert(server, number);
        }
        Ok(Outcome::Done)
    }
}
