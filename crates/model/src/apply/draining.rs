//! Servers that get no new sessions, and those whose sessions go elsewhere too.
//!
//! Always true: of several servers that are taken offline together all are, or none; a drain is finished once, when no session that
//! it concerns is left.

use super::{Applying, bounds};
use crate::change::{Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::id::ServerId;
use crate::server::{Drain, Mode, Offline, Server};
use crate::session::EndReason;

impl Applying<'_> {
    pub(super) fn set_modes(
        &mut self,
        servers: &[ServerId],
        mode: &Mode,
    ) -> Result<Outcome, Refusal> {
        let mode = self.checked(mode)?;
        for id in servers {
            self.member(*id)?;
        }
        for id in servers {
            self.set_mode(*id, &mode)?;
        }
        Ok(Outcome::Done)
    }

    /// A mode as it is kept: it begins now.
    fn checked(&self, mode: &Mode) -> Result<Mode, Refusal> {
        let Mode::Offline(offline) = mode else {
            return Ok(Mode::Online);
        };
        check_words(offline)?;
        if offline.until.is_some_and(|until| until <= self.at) {
            return Err(bounds::invalid("until", "that time has passed already"));
        }
        let drain = offline.drain.as_ref();
        if let (Some(drain), Some(until)) = (drain, offline.until)
            && drain.deadline >= until
        {
            let why = "the server is online again by then";
            return Err(bounds::invalid("deadline", why));
        }
        Ok(Mode::Offline(Offline {
            since: self.at,
            drain: drain.map(|drain| Drain {
                deadline: drain.deadline,
                finished: None,
            }),
            ..offline.clone()
        }))
    }

    fn set_mode(&mut self, id: ServerId, mode: &Mode) -> Result<(), Refusal> {
        let server = self.member(id)?;
        if *mode == server.mode {
            return Ok(());
        }
        let word = match mode.is_online() {
            true => "online",
            false => "offline",
        };
        let mut fields = vec![("mode", word.to_owned())];
        if let Mode::Offline(offline) = mode {
            fields.push(("by", offline.by.clone()));
            fields.extend(offline.reason.clone().map(|reason| ("reason", reason)));
            let until = offline.until.map(|until| until.0.to_string());
            fields.extend(until.map(|until| ("until_unix_ms", until)));
            let deadline = offline.drain.as_ref().map(|drain| drain.deadline.0);
            fields.extend(deadline.map(|at| ("deadline_unix_ms", at.to_string())));
        }
        self.put_server(Server {
            mode: mode.clone(),
            ..(*server).clone()
        });
        self.event(EventKind::ServerMode, Severity::Info, &server.name, fields);
        Ok(())
    }

    /// Records that a drain has come to its end, and what came of it.
    pub(super) fn finish_drain(&mut self, id: ServerId) -> Result<Outcome, Refusal> {
        let server = self.member(id)?;
        let Mode::Offline(offline) = &server.mode else {
            return Ok(Outcome::Done);
        };
        let Some(drain) = offline.drain.as_ref().filter(|it| it.finished.is_none()) else {
            return Ok(Outcome::Done);
        };
        let left = self.directory.to_drain(&server).count();
        if left > 0 {
            let why = format!("{left} of its sessions are to be moved yet");
            return Err(bounds::invalid("drain", &why));
        }
        let (since, at) = (offline.since, self.at);
        // Sessions that ended before it began are of no interest, and the newest ones come last.
        let ended = self.directory.ended_back();
        let moved = ended
            .take_while(|session| session.ended >= Some(since))
            .filter(|session| session.host == id)
            .filter(|session| matches!(session.reason.as_deref(), Some(EndReason::Moved { .. })))
            .count();
        let kept = self.directory.kept_from_drain(&server).count();
        let fields = [
            ("moved", moved.to_string()),
            ("kept", kept.to_string()),
            ("took_ms", at.since(since).as_millis().to_string()),
        ];
        let drain = Drain {
            finished: Some(at),
            ..drain.clone()
        };
        let mode = Mode::Offline(Offline {
            drain: Some(drain),
            ..offline.clone()
        });
        self.put_server(Server {
            mode,
            ..(*server).clone()
        });
        let kind = EventKind::ServerDrained;
        self.event(kind, Severity::Info, &server.name, fields);
        Ok(Outcome::Done)
    }
}

/// Who took a server offline and why, in words that are not too long.
pub(super) fn check_words(offline: &Offline) -> Result<(), Refusal> {
    bounds::line("by", &offline.by, bounds::REMARK)?;
    let reason = offline.reason.as_deref().unwrap_or_default();
    bounds::line("reason", reason, bounds::REMARK)
}
