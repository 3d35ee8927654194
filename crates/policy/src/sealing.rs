//! How a change of the seal key goes on, and when one begins because somebody left who has the key.

use model::trust::{Exposed, SealPhase};
use model::{SealMark, SealRecord, ServerId};

/// What a member that may lead last said of the seal keys that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which.
    pub server: ServerId,
    /// Whether it is reached now.
    pub reachable: bool,
    /// The keys that it has.
    pub holds: Vec<SealMark>,
}

/// What the acting primary does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It introduces a key that it has drawn.
    Begin,
    /// It puts the one in force that was introduced.
    Seal {
        /// Those that do not have it yet and are not waited for.
        left: Vec<ServerId>,
    },
    /// It seals what it can open of what is sealed under other keys.
    Again,
    /// The change is over.
    Finish {
        /// How much stays sealed under keys that nobody has who is reached.
        lost: usize,
    },
}

/// What the decision is made of.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// As the directory has it.
    pub seal: &'a SealRecord,
    /// Who left, and what he knows.
    pub exposed: Option<&'a Exposed>,
    /// The keys that this server has.
    pub own: &'a [SealMark],
    /// All that may lead, this server among them.
    pub holders: &'a [Holder],
    /// Under which keys something is sealed that is to be sealed anew, each as often as it is.
    pub before: &'a [Option<SealMark>],
}

impl Sight<'_> {
    fn has(&self, mark: SealMark) -> bool {
        self.own.contains(&mark)
    }

    /// Whether it can be fetched.
    fn is_at_hand(&self, mark: SealMark) -> bool {
        let mut reached = self.holders.iter().filter(|holder| holder.reachable);
        reached.any(|holder| holder.holds.contains(&mark))
    }
}

/// The members that do not have a key which they should.
pub fn unconfirmed(mark: SealMark, holders: &[Holder]) -> impl Iterator<Item = &Holder> {
    let lacks = move |holder: &&Holder| !holder.holds.contains(&mark);
    holders.iter().filter(lacks)
}

/// What the acting primary does next; nothing while it has to wait.
pub fn step(sight: &Sight<'_>) -> Option<Step> {
    let Sight { seal, before, .. } = *sight;
    let can_open = |mark: &Option<SealMark>| mark.is_some_and(|mark| sight.has(mark));
    let again = sight.has(seal.mark) && before.iter().any(can_open);
    let Some(rotation) = &seal.rotation else {
        let known = seal.mark != SealMark::default();
        let exposed = sight.exposed.is_some_and(|it| it.seal == seal.mark);
        return match known && exposed {
            true => Some(Step::Begin),
            false => again.then_some(Step::Again),
        };
    };
    match rotation.phase {
        SealPhase::Introduced if !sight.has(rotation.other) => {
            // Whoever drew it may never come back; nothing is sealed under it yet.
            (!sight.is_at_hand(rotation.other)).then_some(Step::Begin)
        }
        SealPhase::Introduced => {
            let mut left = Vec::new();
            for holder in unconfirmed(rotation.other, sight.holders) {
                if rotation.waits || holder.reachable {
                    return None;
                }
                left.push(holder.server);
            }
            Some(Step::Seal { left })
        }
        SealPhase::Sealing if !sight.has(seal.mark) => None,
        SealPhase::Sealing if again => Some(Step::Again),
        SealPhase::Sealing => {
            let fetched = |mark: &Option<SealMark>| mark.is_some_and(|it| sight.is_at_hand(it));
            let lost = before.len();
            (!before.iter().any(fetched)).then_some(Step::Finish { lost })
        }
    }
}

/// The keys that a server which may lead is to fetch: the one in force, the one that is to come, and those under which something
/// is sealed still.
pub fn wanted(seal: &SealRecord, before: &[Option<SealMark>], own: &[SealMark]) -> Vec<SealMark> {
    let other = seal.rotation.as_ref().map(|rotation| rotation.other);
    let named = [Some(seal.mark), other]
        .into_iter()
        .chain(before.iter().copied());
    let mut wanted: Vec<SealMark> = Vec::new();
    for mark in named.flatten() {
        let lacking = mark != SealMark::default() && !own.contains(&mark);
        if lacking && !wanted.contains(&mark) {
            wanted.push(mark);
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::UnixMillis;
    use model::trust::SealRotation;

    const ONE: SealMark = SealMark([1; 16]);
    const TWO: SealMark = SealMark([2; 16]);

    fn holder(number: u8, reachable: bool, holds: &[SealMark]) -> Holder {
        Holder {
            server: ServerId::from_bytes([number; 16]),
            reachable,
            holds: holds.to_vec(),
        }
    }

    fn seal(mark: SealMark, rotation: Option<(SealPhase, SealMark, bool)>) -> SealRecord {
        let rotation = rotation.map(|(phase, other, waits)| SealRotation {
            phase,
            since: UnixMillis(0),
            other,
            waits,
            reason: None,
        });
        SealRecord {
            mark,
            rotation,
            ..SealRecord::default()
        }
    }

    fn at(
        seal: &SealRecord,
        own: &[SealMark],
        holders: &[Holder],
        before: &[Option<SealMark>],
    ) -> Option<Step> {
        step(&Sight {
            seal,
            exposed: None,
            own,
            holders,
            before,
        })
    }

    #[test]
    fn another_key_is_drawn_when_somebody_left_who_has_the_one_in_force() {
        let of = |seal| Exposed {
            by: "s3".to_owned(),
            at: UnixMillis(1),
            seal,
        };
        let (left, earlier) = (of(TWO), of(ONE));
        let in_force = seal(TWO, None);
        let with = |exposed| {
            step(&Sight {
                seal: &in_force,
                exposed,
                own: &[TWO],
                holders: &[],
                before: &[],
            })
        };
        assert_eq!(with(Some(&left)), Some(Step::Begin));
        assert_eq!(with(Some(&earlier)), None, "that key seals no more");
        assert_eq!(with(None), None);
    }

    #[test]
    fn nothing_is_sealed_with_a_key_that_others_who_may_lead_lack() {
        let here = holder(1, true, &[ONE, TWO]);
        let waits = seal(ONE, Some((SealPhase::Introduced, TWO, true)));
        let hurried = seal(ONE, Some((SealPhase::Introduced, TWO, false)));
        let own = [ONE, TWO];
        let there = [here.clone(), holder(2, true, &[ONE])];
        assert_eq!(at(&waits, &own, &there, &[]), None);
        assert_eq!(at(&hurried, &own, &there, &[]), None);
        let away = [here.clone(), holder(2, false, &[ONE])];
        assert_eq!(at(&waits, &own, &away, &[]), None, "it is waited for");
        let left = vec![away[1].server];
        assert_eq!(at(&hurried, &own, &away, &[]), Some(Step::Seal { left }));
        let all = [here, holder(2, false, &[TWO])];
        let left = Vec::new();
        assert_eq!(at(&waits, &own, &all, &[]), Some(Step::Seal { left }));
    }

    #[test]
    fn a_key_that_went_with_whoever_drew_it_is_drawn_again() {
        let introduced = seal(ONE, Some((SealPhase::Introduced, TWO, true)));
        let (me, gone) = (holder(1, true, &[ONE]), holder(2, false, &[ONE, TWO]));
        let at = |holders: &[Holder]| at(&introduced, &[ONE], holders, &[]);
        assert_eq!(at(&[me.clone(), gone.clone()]), Some(Step::Begin));
        let back = Holder {
            reachable: true,
            ..gone
        };
        assert_eq!(at(&[me, back]), None, "it is fetched");
    }

    #[test]
    fn it_ends_when_all_that_can_be_opened_is_sealed_again() {
        let sealing = seal(TWO, Some((SealPhase::Sealing, ONE, true)));
        let (me, other) = (holder(1, true, &[ONE, TWO]), holder(2, true, &[TWO]));
        let holders = [me, other];
        let at = |own: &[SealMark], before: &[_]| at(&sealing, own, &holders, before);
        assert_eq!(at(&[ONE, TWO], &[Some(ONE)]), Some(Step::Again));
        assert_eq!(at(&[ONE, TWO], &[]), Some(Step::Finish { lost: 0 }));
        assert_eq!(at(&[TWO], &[Some(ONE)]), None, "the key is fetched first");
        assert_eq!(
            at(&[ONE], &[Some(ONE)]),
            None,
            "with what would it be sealed"
        );
        let lost = SealMark([9; 16]);
        assert_eq!(
            at(&[ONE, TWO], &[Some(lost), None]),
            Some(Step::Finish { lost: 2 })
        );
    }

    #[test]
    fn what_came_from_another_side_is_sealed_again_later_too() {
        let in_force = seal(TWO, None);
        let at = |own: &[SealMark]| at(&in_force, own, &[], &[Some(ONE)]);
        assert_eq!(at(&[TWO, ONE]), Some(Step::Again));
        assert_eq!(at(&[TWO]), None);
        assert_eq!(
            wanted(&in_force, &[Some(ONE), None, Some(ONE)], &[TWO]),
            [ONE]
        );
        assert_eq!(wanted(&in_force, &[], &[ONE]), [TWO]);
        let introduced = seal(ONE, Some((SealPhase::Introduced, TWO, true)));
        assert_eq!(wanted(&introduced, &[], &[]), [ONE, TWO]);
        assert_eq!(wanted(&SealRecord::default(), &[], &[]), []);
    }
}
