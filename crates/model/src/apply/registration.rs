//! A host that returns registers the sessions that it found running. What runs is the host's to say; which of a token's
//! sessions is current, and which are over, is the directory's.

use super::{Applying, bounds};
use crate::change::{Command, Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::id::{ServerId, SessionId};
use crate::session::{EndReason, Registration, Session, SessionState};
use std::collections::BTreeSet;

impl Applying<'_> {
    pub(super) fn register_sessions(
        &mut self,
        host: ServerId,
        found: &[Registration],
        complete_to: Option<u64>,
    ) -> Result<Outcome, Refusal> {
        self.check_member(host)?;
        bounds::size(
            "registered sessions",
            found.len(),
            Command::REGISTRATION_LIMIT,
        )?;
        let unknown = found
            .iter()
            .filter(|one| !self.directory.sessions.contains_key(&one.session))
            .count();
        if unknown > 0 {
            let held = self.directory.sessions.len() + unknown - 1;
            bounds::room(Kind::Session, held, bounds::SESSIONS)?;
        }
        let mut over = Vec::new();
        for registration in found {
            if !self.register(host, registration) {
                over.push(registration.session);
            }
        }
        let lost = complete_to.map_or(0, |view| self.end_missing(host, found, view));
        if lost > 0 || !found.is_empty() {
            let kept = found.len() - over.len();
            let fields = [
                ("sessions", kept.to_string()),
                ("over", over.len().to_string()),
                ("lost", lost.to_string()),
            ];
            let severity = if lost > 0 {
                Severity::Warning
            } else {
                Severity::Info
            };
            let subject = self.directory.name_of(host);
            self.event(EventKind::SessionRegistered, severity, subject, fields);
        }
        Ok(Outcome::Registered { end: over })
    }

    /// Registers one session. False: it is over, and its keeper is to end.
    fn register(&mut self, host: ServerId, found: &Registration) -> bool {
        let old = self.directory.sessions.get(&found.session).cloned();
        let mut session = match old {
            Some(session) if session.host != host => return false,
            // A session that was given up because its host did not have it is there after all: the host knows best.
            Some(session) if !session.is_live() => match session.reason.as_deref() {
                Some(EndReason::LostWithHost) => Session {
                    token: self.directory.canonical(&session.token).clone(),
                    ended: None,
                    reason: None,
                    ..(*session).clone()
                },
                _ => return false,
            },
            Some(session) => (*session).clone(),
            None => {
                // Where it was made, its token's name may not have been known for an alias.
                let token = self.directory.canonical(&found.token);
                let names = (token, &found.user, &found.app);
                let created = found.created.min(self.at);
                Session::to_start(found.session, names, host, created, self.number)
            }
        };
        session.state = SessionState::Suspended;
        if let Some(last) = found.last_attached {
            let last = last.min(self.at);
            session.last_attached =
                Some(session.last_attached.map_or(last, |known| known.max(last)));
        }
        if let Some(client) = &found.client {
            session.attach(client, found.last_attached.unwrap_or(self.at).min(self.at));
        }
        self.put_back(session)
    }

    /// Ends what the directory has on the host and the host has not, as far as its view went. How many these were.
    fn end_missing(&mut self, host: ServerId, found: &[Registration], view: u64) -> usize {
        let present: BTreeSet<SessionId> = found.iter().map(|one| one.session).collect();
        let missing = self.directory.sessions_on(host).filter(|session| {
            session.heard_number <= view
                && session.state != SessionState::Starting
                && !present.contains(&session.id)
        });
        let missing: Vec<_> = missing.cloned().collect();
        self.end_all(&missing, &EndReason::LostWithHost);
        missing.len()
    }
}
