//! When a rotation of the authority goes on to its next phase, and who has not confirmed the present one.

use model::trust::AuthorityRotation;
use model::{AuthorityMark, RotationPhase, ServerId, UnixMillis};

/// What a member last said of authorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub server: ServerId,
    /// Whether it is reached now.
    pub reachable: bool,
    /// Those that it accepts.
    pub accepts: Vec<AuthorityMark>,
    /// The one that issued the certificates that it shows.
    pub shows: Option<AuthorityMark>,
}

/// The two authorities of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The one in force.
    pub force: AuthorityMark,
    /// The other.
    pub other: AuthorityMark,
}

/// The members that have not confirmed a phase.
pub fn unconfirmed(
    phase: RotationPhase,
    pair: Pair,
    members: &[Member],
) -> impl Iterator<Item = &Member> {
    members.iter().filter(move |member| match phase {
        RotationPhase::Introduced => !member.accepts.contains(&pair.other),
        RotationPhase::Issuing | RotationPhase::Withdrawn => member.shows != Some(pair.force),
        RotationPhase::Pinned => false,
    })
}

/// Whether the rotation goes on by itself; gives the members that have not confirmed and are not waited for.
pub fn goes_on(
    rotation: &AuthorityRotation,
    pair: Pair,
    members: &[Member],
    now: UnixMillis,
) -> Option<Vec<ServerId>> {
    if rotation.phase == RotationPhase::Pinned {
        let over = rotation.clients_until.is_none_or(|until| until <= now);
        return over.then(Vec::new);
    }
    let mut left = Vec::new();
    for member in unconfirmed(rotation.phase, pair, members) {
        if rotation.waits || member.reachable {
            return None;
        }
        left.push(member.server);
    }
    Some(left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::trust::{OtherAuthority, Sealed};

    const OLD: AuthorityMark = AuthorityMark([1; 16]);
    const NEW: AuthorityMark = AuthorityMark([2; 16]);

    fn rotation(phase: RotationPhase, waits: bool) -> AuthorityRotation {
        AuthorityRotation {
            phase,
            since: UnixMillis(0),
            other: OtherAuthority {
                certificate: Vec::new(),
                fingerprint: String::new(),
                key: Sealed::default(),
                expires: UnixMillis(0),
            },
            bridge: Vec::new(),
            clients_ms: 1000,
            clients_until: Some(UnixMillis(5000)),
            waits,
            reason: None,
        }
    }

    fn member(number: u8, accepts: &[AuthorityMark], shows: AuthorityMark) -> Member {
        Member {
            server: ServerId::from_bytes([number; 16]),
            reachable: true,
            accepts: accepts.to_vec(),
            shows: Some(shows),
        }
    }

    fn away(member: Member) -> Member {
        Member {
            reachable: false,
            ..member
        }
    }

    const NOW: UnixMillis = UnixMillis(4000);

    #[test]
    fn nothing_is_issued_before_all_accept_the_next_authority() {
        let pair = Pair {
            force: OLD,
            other: NEW,
        };
        let rotation = rotation(RotationPhase::Introduced, true);
        let (knows, not) = (member(1, &[OLD, NEW], OLD), member(2, &[OLD], OLD));
        let goes_on = |members: &[Member]| goes_on(&rotation, pair, members, NOW);
        assert_eq!(goes_on(&[knows.clone(), not.clone()]), None);
        assert_eq!(
            goes_on(&[knows.clone(), away(not)]),
            None,
            "it is waited for"
        );
        assert_eq!(goes_on(&[knows.clone(), knows]), Some(Vec::new()));
    }

    #[test]
    fn the_one_before_is_accepted_until_nobody_shows_its_certificates() {
        let pair = Pair {
            force: NEW,
            other: OLD,
        };
        let (has, not) = (member(1, &[NEW, OLD], NEW), member(2, &[NEW, OLD], OLD));
        for phase in [RotationPhase::Issuing, RotationPhase::Withdrawn] {
            let rotation = rotation(phase, true);
            let goes_on = |members: &[Member]| goes_on(&rotation, pair, members, NOW);
            assert_eq!(goes_on(&[has.clone(), not.clone()]), None);
            assert_eq!(goes_on(std::slice::from_ref(&has)), Some(Vec::new()));
        }
        let silent = Member { shows: None, ..has };
        let rotation = rotation(RotationPhase::Issuing, true);
        assert_eq!(goes_on(&rotation, pair, &[silent], NOW), None);
    }

    #[test]
    fn who_is_away_is_not_waited_for_where_somebody_who_left_knows_the_key() {
        let pair = Pair {
            force: NEW,
            other: OLD,
        };
        let rotation = rotation(RotationPhase::Issuing, false);
        let (has, not) = (member(1, &[NEW], NEW), member(2, &[OLD], OLD));
        let goes_on = |members: &[Member]| goes_on(&rotation, pair, members, NOW);
        assert_eq!(goes_on(&[has.clone(), not.clone()]), None, "it is there");
        let gone = not.server;
        assert_eq!(goes_on(&[has, away(not)]), Some(vec![gone]));
    }

    #[test]
    fn clients_of_before_get_in_until_their_time_is_over() {
        let pair = Pair {
            force: NEW,
            other: OLD,
        };
        let rotation = rotation(RotationPhase::Pinned, true);
        assert_eq!(goes_on(&rotation, pair, &[], UnixMillis(4999)), None);
        assert_eq!(
            goes_on(&rotation, pair, &[], UnixMillis(5000)),
            Some(Vec::new())
        );
    }
}
