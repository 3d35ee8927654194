//! What one look at the sessions found to do, and how it becomes actions of bounded size.

use super::{Action, Keeper, Phase};
use model::session::{Observation, Registration, Seen};
use model::{Command, Session, SessionId, SessionState};

/// What one look found to do, before it is put into actions.
#[derive(Default)]
pub(super) struct Todo {
    pub(super) observations: Vec<Observation>,
    pub(super) registrations: Vec<Registration>,
    pub(super) keepers: Vec<Action>,
    /// Whether sessions are over of which the directory does not know it yet.
    pub(super) ends_unrecorded: bool,
}

impl Todo {
    /// What was seen is told first, and what keepers are told comes last.
    pub(super) fn into_actions(
        self,
        after_start: Option<Vec<Registration>>,
        view: Option<u64>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        for part in self.observations.chunks(Command::OBSERVATION_LIMIT) {
            actions.push(Action::Observe(part.to_vec()));
        }
        if let Some(found) = after_start {
            let mut parts: Vec<_> = found
                .chunks(Command::REGISTRATION_LIMIT)
                .map(<[_]>::to_vec)
                .collect();
            let last = parts.pop().unwrap_or_default();
            actions.extend(parts.into_iter().map(|sessions| Action::Register {
                sessions,
                complete_to: None,
            }));
            actions.push(Action::Register {
                sessions: last,
                complete_to: view,
            });
        }
        for part in self.registrations.chunks(Command::REGISTRATION_LIMIT) {
            actions.push(Action::Register {
                sessions: part.to_vec(),
                complete_to: None,
            });
        }
        actions.extend(self.keepers);
        actions
    }
}

/// What the directory should be told of a session whose keeper goes on; none when it shows it already.
pub(super) fn difference(session: &Session, keeper: &Keeper) -> Option<Seen> {
    match (&keeper.client, &keeper.phase) {
        (Some(client), _) => {
            let client = cut(client, Session::CLIENT_LIMIT);
            let shown =
                session.state == SessionState::Active && session.client.as_deref() == Some(client);
            let at = keeper.last_attached.unwrap_or(keeper.created);
            (!shown).then(|| Seen::Active {
                client: client.to_owned(),
                at,
            })
        }
        (None, Phase::Running) => {
            (session.state != SessionState::Suspended).then_some(Seen::Suspended)
        }
        (None, _) => None,
    }
}

pub(super) fn is_same(one: &Seen, other: &Seen) -> bool {
    match (one, other) {
        (Seen::Active { client, .. }, Seen::Active { client: other, .. }) => client == other,
        _ => one == other,
    }
}

pub(super) fn registration(session: SessionId, keeper: &Keeper) -> Registration {
    let client = keeper
        .client
        .as_deref()
        .map(|client| cut(client, Session::CLIENT_LIMIT).to_owned());
    Registration {
        session,
        token: keeper.token.clone(),
        user: keeper.user.clone(),
        app: keeper.app.clone(),
        created: keeper.created,
        client,
        last_attached: keeper.last_attached,
    }
}

/// As much of a text as fits, whole characters only.
fn cut(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}
