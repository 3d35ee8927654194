//! How many sessions this server hosts and how many clients they have, counted on from the last time.
//!
//! Always true: what it says is what counting them all would; it costs what changed since it was asked last.

use model::{Directory, ServerId, Session, SessionState};
use std::sync::Arc;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    /// Sessions that are not ended.
    pub(crate) sessions: u32,
    /// Those that a client is attached to.
    pub(crate) clients: u32,
}

/// The counts, and the directory that they are of.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Counts,
    of: Option<Directory>,
}

impl Tally {
    /// The counts of a server in this directory.
    pub(crate) fn count(&mut self, me: ServerId, directory: &Directory) -> Counts {
        self.counts = match &self.of {
            Some(before) => later(self.counts, me, before, directory),
            None => all(me, directory),
        };
        self.of = Some(directory.clone());
        self.counts
    }
}

fn one(me: ServerId, session: Option<&Arc<Session>>) -> Counts {
    let here = session.filter(|session| session.host == me && session.is_live());
    Counts {
        sessions: u32::from(here.is_some()),
        clients: u32::from(here.is_some_and(|session| session.state == SessionState::Active)),
    }
}

fn all(me: ServerId, directory: &Directory) -> Counts {
    let each = directory.sessions_on(me).map(|it| one(me, Some(it)));
    each.fold(Counts::default(), |sum, it| Counts {
        sessions: sum.sessions + it.sessions,
        clients: sum.clients + it.clients,
    })
}

fn later(counts: Counts, me: ServerId, before: &Directory, now: &Directory) -> Counts {
    let changed = now.session_changes_since(before);
    changed.fold(counts, |sum, (was, is)| {
        let (was, is) = (one(me, was), one(me, is));
        Counts {
            sessions: (sum.sessions + is.sessions).saturating_sub(was.sessions),
            clients: (sum.clients + is.clients).saturating_sub(was.clients),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::nobody_in;
    use model::trust::Sealed;
    use model::{Authority, GroupId, Record, SessionId, UnixMillis};

    const HERE: ServerId = ServerId::from_bytes([1; ServerId::LEN]);
    const THERE: ServerId = ServerId::from_bytes([2; ServerId::LEN]);

    fn directory(sessions: &[(u8, ServerId, SessionState)]) -> Directory {
        let authority = Authority {
            certificate: Vec::new(),
            fingerprint: String::new(),
            key: Sealed(Vec::new()),
            ticket_public: Vec::new(),
            ticket_key: Sealed(Vec::new()),
            expires: UnixMillis(0),
        };
        let group = nobody_in(GroupId::default(), "example".parse().unwrap(), authority);
        let sessions = sessions.iter().map(|(number, host, state)| {
            let token = format!("card.{number}").parse().unwrap();
            let (user, app) = ("ann".parse().unwrap(), "desk".parse().unwrap());
            let id = SessionId::from_bytes([*number; SessionId::LEN]);
            let made = Session::to_start(id, (&token, &user, &app), *host, UnixMillis(1), 1);
            let ended = (*state == SessionState::Ended).then_some(UnixMillis(2));
            let state = *state;
            Record::Session(Arc::new(Session {
                state,
                ended,
                ..made
            }))
        });
        let group = Record::Group(Arc::new(group));
        Directory::from_records([group].into_iter().chain(sessions)).unwrap()
    }

    #[test]
    fn counted_on_as_counted_anew() {
        use SessionState::{Active, Ended, Starting, Suspended};
        let moments = [
            directory(&[]),
            directory(&[(1, HERE, Starting), (2, THERE, Active)]),
            directory(&[(1, HERE, Active), (2, THERE, Active), (3, HERE, Suspended)]),
            directory(&[(1, HERE, Ended), (3, HERE, Active), (4, HERE, Active)]),
            directory(&[(4, THERE, Suspended)]),
        ];
        let mut tally = Tally::default();
        for moment in &moments {
            assert_eq!(tally.count(HERE, moment), all(HERE, moment));
        }
        let counts = moments.each_ref().map(|moment| all(HERE, moment));
        let figures = counts.map(|counts| (counts.sessions, counts.clients));
        assert_eq!(figures, [(0, 0), (1, 0), (2, 1), (2, 2), (0, 0)]);
    }
}
