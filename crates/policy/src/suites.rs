//! Whether the cipher suites of the group may become others without anybody being shut out.
//!
//! Always true: whichever member is away, and whenever it went, what it has in force has a suite in common with what the others
//! have. So fewer suites come into force only while every member is there and has confirmed the present ones, and some of those
//! stay; more of them may come at any time.

/// What a member has said of the suites.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether it is heard now.
    pub reachable: bool,
    /// Those that its program can speak, and those that it speaks; none when it has not said yet.
    pub said: Option<(&'a [String], &'a [String])>,
}

/// Why a server cannot have other suites in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SuitesRefusal {
    /// A member cannot speak one of them.
    #[error("{member} does not support {suite}")]
    Unsupported {
        /// Which member.
        member: String,
        /// Which suite.
        suite: String,
    },
    /// A member has not said what it supports, or is not there to take fewer.
    #[error(
        "{member} is not heard now: it would not be let in any more with the suites that it has"
    )]
    Away {
        /// Which member.
        member: String,
    },
    /// A member has not taken the present ones yet.
    #[error("{member} has not taken the present suites yet")]
    Unconfirmed {
        /// Which member.
        member: String,
    },
    /// None of the present ones would stay.
    #[error("none of the present suites ({present}) would stay")]
    Apart {
        /// Those in force.
        present: String,
    },
}

/// Whether `wanted` may come into force where `present` is.
///
/// # Errors
/// Who would be shut out.
pub fn may_change(
    wanted: &[String],
    present: &[String],
    members: &[Member<'_>],
) -> Result<(), SuitesRefusal> {
    for member in members {
        let supports = member.said.map(|(supports, _)| supports);
        let lacks = |suite: &&String| supports.is_some_and(|known| !known.contains(suite));
        if let Some(suite) = wanted.iter().find(lacks) {
            return Err(SuitesRefusal::Unsupported {
                member: member.name.to_owned(),
                suite: suite.clone(),
            });
        }
    }
    if present.iter().all(|suite| wanted.contains(suite)) {
        return Ok(());
    }
    if !present.iter().any(|suite| wanted.contains(suite)) {
        let present = present.join(", ");
        return Err(SuitesRefusal::Apart { present });
    }
    for member in members {
        let name = member.name.to_owned();
        match member.said {
            Some((_, speaks)) if member.reachable && speaks == present => {}
            Some(_) if member.reachable => {
                return Err(SuitesRefusal::Unconfirmed { member: name });
            }
            _ => return Err(SuitesRefusal::Away { member: name }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(words: &str) -> Vec<String> {
        words.split(',').map(str::to_owned).collect()
    }

    #[test]
    fn fewer_need_everybody_and_more_nobody() {
        let (all, two, one) = (suites("a,b,c"), suites("a,b"), suites("a"));
        let member = |name, reachable, speaks| Member {
            name,
            reachable,
            said: Some((&*all, speaks)),
        };
        let there = [member("boston", true, &*all), member("newyork", true, &all)];
        assert_eq!(may_change(&one, &all, &there), Ok(()));
        assert_eq!(may_change(&all, &all, &there), Ok(()));
        let away = [there[0], member("newyork", false, &all)];
        let refused = may_change(&two, &all, &away).unwrap_err();
        assert!(matches!(refused, SuitesRefusal::Away { .. }), "{refused}");
        let late = [member("boston", true, &*two), member("newyork", true, &all)];
        let refused = may_change(&one, &two, &late).unwrap_err();
        assert!(
            matches!(refused, SuitesRefusal::Unconfirmed { .. }),
            "{refused}"
        );
        // More may come although somebody is away, or lags behind.
        assert_eq!(may_change(&all, &two, &late), Ok(()));
        assert_eq!(may_change(&all, &one, &away), Ok(()));
        let silent = Member {
            said: None,
            ..there[0]
        };
        assert_eq!(may_change(&all, &one, &[silent]), Ok(()));
        assert!(may_change(&one, &all, &[silent]).is_err());
    }

    #[test]
    fn nobody_is_asked_for_what_he_cannot_speak() {
        let (all, two) = (suites("a,b,c"), suites("a,b"));
        let old = Member {
            name: "boston",
            reachable: true,
            said: Some((&two, &two)),
        };
        let refused = may_change(&all, &two, &[old]).unwrap_err();
        assert_eq!(refused.to_string(), "boston does not support c");
    }

    #[test]
    fn some_of_the_present_ones_stay() {
        let (one, other) = (suites("a"), suites("b"));
        let member = Member {
            name: "boston",
            reachable: true,
            said: Some((&one, &one)),
        };
        let refused = may_change(&other, &one, &[member]).unwrap_err();
        assert!(matches!(refused, SuitesRefusal::Unsupported { .. }));
        let both = suites("a,b");
        let able = Member {
            said: Some((&both, &one)),
            ..member
        };
        let refused = may_change(&other, &one, &[able]).unwrap_err();
        assert!(matches!(refused, SuitesRefusal::Apart { .. }), "{refused}");
    }

    /// Whoever was away, for whatever time, meets a suite that he speaks when he comes back.
    #[test]
    fn nobody_who_was_away_is_shut_out() {
        let all = suites("a,b,c");
        let sets: Vec<Vec<String>> = (1..8u8)
            .map(|bits| {
                let chosen = all.iter().enumerate();
                let chosen = chosen.filter(|(place, _)| bits & (1 << place) != 0);
                chosen.map(|(_, suite)| suite.clone()).collect()
            })
            .collect();
        // Every history of three changes during which one member may go away at any point and take each change or not.
        let mut states = vec![(all.clone(), all.clone())];
        for _ in 0..3 {
            let mut next = Vec::new();
            for (present, held) in &states {
                for wanted in &sets {
                    for reachable in [true, false] {
                        let member = Member {
                            name: "sleeper",
                            reachable,
                            said: Some((&all, held)),
                        };
                        if may_change(wanted, present, &[member]).is_ok() {
                            // It went before this change came, or took it.
                            next.push((wanted.clone(), held.clone()));
                            next.push((wanted.clone(), wanted.clone()));
                        }
                    }
                }
            }
            next.sort();
            next.dedup();
            for (present, held) in &next {
                let meet = present.iter().any(|suite| held.contains(suite));
                assert!(meet, "{present:?} against {held:?}");
            }
            states = next;
        }
    }
}
