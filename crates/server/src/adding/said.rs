//! What a server that stands alone says of itself to a member that would add it.
//!
//! Always true: what another server says is taken for what it is, the words of a stranger: valid values, or short and plain text.

use crate::api::bodies::{Candidate as Said, HeldRecords};
use crate::clock;
use crate::found::VERSION;
use crate::node::Node;
use crate::reset::Progress;
use model::{FEATURE_LEVEL, ServerName, UnixMillis};
use policy::adding::{Candidate, Held, holds, others};

/// What a server says of itself, as valid values; `name` is the one that it is to have.
pub(super) fn candidate(said: Said, name: Option<ServerName>) -> Option<Candidate> {
    Some(Candidate {
        server: said.id.parse().ok()?,
        name: match name {
            Some(name) => name,
            None => said.name.parse().ok()?,
        },
        peer_address: plain(&said.peer_address),
        client_address: plain(&said.client_address),
        feature_level: said.feature_level,
        clock: UnixMillis(said.clock_unix_ms),
        group: plain(&said.group),
        others: said
            .others
            .iter()
            .take(16)
            .map(|name| plain(name))
            .collect(),
        live_sessions: said.live_sessions,
        holds: said
            .holds
            .into_iter()
            .take(32)
            .map(|held| Held {
                kind: plain(&held.kind),
                count: held.count,
            })
            .collect(),
    })
}

/// The words of a stranger, short and without control characters.
fn plain(text: &str) -> String {
    let plain = text.chars().filter(|character| !character.is_control());
    plain.take(300).collect()
}

impl Node {
    /// This server as another group would add it.
    pub(crate) fn as_candidate(&self) -> Said {
        let directory = self.directory();
        let bound = self.bound();
        let held = holds(&directory).into_iter();
        Said {
            name: self.name().to_string(),
            id: self.me().to_string(),
            group: directory.group().name.to_string(),
            others: others(&directory, self.me()),
            peer_address: bound.peer_address,
            client_address: bound.client_address,
            version: VERSION.to_owned(),
            feature_level: FEATURE_LEVEL,
            clock_unix_ms: clock::calendar().0,
            live_sessions: u64::try_from(directory.live_sessions()).unwrap_or(u64::MAX),
            holds: held
                .map(|held| HeldRecords {
                    kind: held.kind,
                    count: held.count,
                })
                .collect(),
            joining: self.anew() != Progress::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ServerId;

    #[test]
    fn a_stranger_says_only_what_is_valid() {
        let said = Said {
            name: "detroit".to_owned(),
            id: ServerId::from_bytes([7; 16]).to_string(),
            group: "plant\u{7}".to_owned(),
            others: vec!["x".repeat(1000); 100],
            peer_address: "a:1".to_owned(),
            client_address: "a:2".to_owned(),
            version: "1".to_owned(),
            feature_level: 1,
            clock_unix_ms: 5,
            live_sessions: 0,
            holds: Vec::new(),
            joining: false,
        };
        let valid = candidate(said.clone(), None).unwrap();
        assert_eq!(valid.group, "plant");
        assert_eq!((valid.others.len(), valid.others[0].len()), (16, 300));
        let named = candidate(said.clone(), Some("seattle".parse().unwrap())).unwrap();
        assert_eq!(named.name.as_str(), "seattle");
        for wrong in [
            Said {
                name: "a b\n".to_owned(),
                ..said.clone()
            },
            Said {
                id: "me".to_owned(),
                ..said
            },
        ] {
            assert_eq!(candidate(wrong, None), None);
        }
    }
}
