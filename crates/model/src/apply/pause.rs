//! Pauses of automatic failover: asked for, taken back, and over.
//!
//! Always true: a pause has a reason and an end within [`Pause::SPAN_RANGE`]; one that has run out is none any more, whether
//! its end was recorded or not.

use super::{Applying, bounds};
use crate::change::{Author, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::pause::{Pause, PauseChange};
use std::sync::Arc;
use std::time::Duration;

impl Applying<'_> {
    pub(super) fn change_pause(&mut self, change: &PauseChange) -> Result<Outcome, Refusal> {
        match change {
            PauseChange::Begin { reason, span_ms } => self.begin_pause(reason, *span_ms),
            PauseChange::End { reason } => self.end_pause(reason.as_deref()),
            PauseChange::RunOut => self.run_out(),
        }
    }

    /// Begins a pause now, in place of the one that there may be.
    fn begin_pause(&mut self, reason: &str, span_ms: u64) -> Result<Outcome, Refusal> {
        let span = Duration::from_millis(span_ms);
        check(reason, span)?;
        if span < *Pause::SPAN_RANGE.start() {
            return Err(too_short_or_long());
        }
        let pause = Pause {
            by: self.author_in_words(),
            reason: reason.to_owned(),
            since: self.at,
            until: self.at.after(span),
        };
        self.put_pause(pause);
        Ok(Outcome::Done)
    }

    /// Puts a pause in place that another side of a split had begun, with what is left of it.
    pub(super) fn take_pause(&mut self, pause: Pause) -> Result<(), Refusal> {
        check(&pause.reason, pause.until.since(self.at))?;
        bounds::line("by", &pause.by, bounds::REMARK)?;
        self.put_pause(pause);
        Ok(())
    }

    fn put_pause(&mut self, pause: Pause) {
        let fields = [
            ("by", pause.by.clone()),
            ("reason", pause.reason.clone()),
            ("until_unix_ms", pause.until.0.to_string()),
        ];
        let group = Arc::make_mut(&mut self.directory.group);
        group.pause = Some(pause);
        let subject = group.name.clone();
        self.event(EventKind::GroupPaused, Severity::Warning, subject, fields);
    }

    /// Ends the pause at once.
    fn end_pause(&mut self, reason: Option<&str>) -> Result<Outcome, Refusal> {
        bounds::line("reason", reason.unwrap_or_default(), bounds::REMARK)?;
        if self.directory.group.pause_at(self.at).is_none() {
            return Err(Refusal::NotPaused);
        }
        self.leave_pause(reason);
        Ok(Outcome::Done)
    }

    /// Records that the pause has run out. One that was begun in its place since goes on.
    fn run_out(&mut self) -> Result<Outcome, Refusal> {
        if self.directory.group.pause_at(self.at).is_none() {
            self.leave_pause(None);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn leave_pause(&mut self, reason: Option<&str>) {
        let group = Arc::make_mut(&mut self.directory.group);
        let Some(pause) = group.pause.take() else {
            return;
        };
        let subject = group.name.clone();
        let by_itself = !pause.holds(self.at);
        let fields = [
            ("by_itself", by_itself.to_string()),
            ("paused_by", pause.by),
            ("paused_reason", pause.reason),
            ("until_unix_ms", pause.until.0.to_string()),
        ];
        let reason = reason.map(|reason| ("reason", reason.to_owned()));
        let fields = fields.into_iter().chain(reason);
        self.event(EventKind::GroupResumed, Severity::Info, subject, fields);
    }

    /// Who asked for the change, a server that did by itself included.
    fn author_in_words(&self) -> String {
        match self.author {
            Author::Server(server) => self.directory.name_of(*server),
            _ => self.by().unwrap_or_default(),
        }
    }
}

/// It has a reason, and is over soon enough.
fn check(reason: &str, span: Duration) -> Result<(), Refusal> {
    bounds::line("reason", reason, bounds::REMARK)?;
    if reason.trim().is_empty() {
        return Err(bounds::invalid("reason", "a pause has one"));
    }
    match span > *Pause::SPAN_RANGE.end() {
        true => Err(too_short_or_long()),
        false => Ok(()),
    }
}

fn too_short_or_long() -> Refusal {
    bounds::invalid("span", "a pause lasts from 1m to 7d")
}
