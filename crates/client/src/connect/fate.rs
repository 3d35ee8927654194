//! What has become of a session whose streams have no path: whether to keep trying, to move on, or to end.
//!
//! Always true: a session is given up only when a server says that its host cannot be reached by anybody, or that it is over, and
//! never because this client alone cannot reach anybody; nor because servers say so that are themselves cut off from a host
//! that this client reaches.

use std::time::Duration;

use model::{EndReason, SessionState};
use wire::client::SessionNews;

/// How long a client at least tries the paths to the host before it believes that nobody reaches it; more only helps while not all
/// have been tried, or where the host answers.
pub(crate) const TRY_FIRST: Duration = Duration::from_millis(500);
/// How long it waits for each of them to have failed once, while the host answers nothing: a path that works takes less.
pub(crate) const TRY_ALL: Duration = Duration::from_secs(1);
/// The same where the host itself has answered meanwhile: then those who say that nobody reaches it are cut off from it, or it is
/// slow.
pub(crate) const TRY_HOST: Duration = Duration::from_secs(3);

/// What was tried since the trouble began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tried {
    /// Every path, in vain.
    pub(crate) all: bool,
    /// The host itself answered.
    pub(crate) host_answers: bool,
}

/// How long no server may know the session before it counts as gone: one that was just started may be behind.
pub(crate) const UNKNOWN_LIMIT: Duration = Duration::from_secs(2);

/// What a client does about its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It runs, or may be running: keep trying.
    Goes,
    /// It has come to its end.
    Over(EndReason),
    /// It is gone with its host; its token gets another.
    Lost(String),
    /// Somebody moved it: its token has another.
    Moved(String),
}

/// Judges by what a server said, `troubled` after the last byte that was heard was missed.
pub(crate) fn judge(news: &SessionNews, troubled: Duration, tried: Tried) -> Fate {
    let limit = match tried {
        Tried {
            host_answers: true, ..
        } => TRY_HOST,
        Tried { all: true, .. } => TRY_FIRST,
        Tried { .. } => TRY_ALL,
    };
    let tried = troubled >= limit;
    let reason = || match &news.reason {
        Some(reason) => reason.to_string(),
        None => "its host cannot be reached".to_owned(),
    };
    match news.state {
        Some(SessionState::Ended) => match &news.reason {
            Some(
                EndReason::LostWithHost | EndReason::HostRemoved | EndReason::Superseded { .. },
            )
            | None => Fate::Lost(reason()),
            Some(EndReason::Moved { .. }) => Fate::Moved(reason()),
            Some(ended) => Fate::Over(ended.clone()),
        },
        Some(SessionState::Orphaned) if tried => Fate::Lost(reason()),
        Some(_) if !news.current && tried => {
            Fate::Lost("its host cannot be reached and another session took its place".to_owned())
        }
        Some(_) => Fate::Goes,
        None if troubled >= UNKNOWN_LIMIT => Fate::Lost("no server knows it any more".to_owned()),
        None => Fate::Goes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::SessionId;

    fn news(state: Option<SessionState>, current: bool, reason: Option<EndReason>) -> SessionNews {
        SessionNews {
            session: SessionId::from_bytes([1; 10]),
            state,
            current,
            host: None,
            host_heard: true,
            reason,
            leave: None,
            renew: false,
        }
    }

    const ALL: Tried = Tried {
        all: true,
        host_answers: false,
    };
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_that_runs_is_never_given_up() {
        for state in [
            SessionState::Starting,
            SessionState::Active,
            SessionState::Suspended,
        ] {
            assert_eq!(
                judge(&news(Some(state), true, None), LONG, ALL),
                Fate::Goes,
                "{state:?}"
            );
        }
    }

    #[test]
    fn an_unreachable_host_is_tried_first() {
        let orphaned = news(Some(SessionState::Orphaned), true, None);
        let replaced = news(Some(SessionState::Suspended), false, None);
        for unreached in [orphaned, replaced] {
            assert_eq!(judge(&unreached, Duration::ZERO, ALL), Fate::Goes);
            assert_eq!(judge(&unreached, TRY_FIRST, Tried::default()), Fate::Goes);
            assert!(matches!(judge(&unreached, TRY_FIRST, ALL), Fate::Lost(_)));
            assert!(matches!(
                judge(&unreached, TRY_ALL, Tried::default()),
                Fate::Lost(_)
            ));
            // The host is there: whoever does not reach it is cut off from it.
            for all in [false, true] {
                let answers = Tried {
                    all,
                    host_answers: true,
                };
                assert_eq!(judge(&unreached, TRY_ALL * 2, answers), Fate::Goes);
                assert!(matches!(
                    judge(&unreached, TRY_HOST, answers),
                    Fate::Lost(_)
                ));
            }
        }
    }

    #[test]
    fn an_end_is_told_apart_from_a_loss() {
        let ended = |reason| {
            judge(
                &news(Some(SessionState::Ended), false, reason),
                Duration::ZERO,
                ALL,
            )
        };
        for reason in [
            EndReason::Exited {
                code: Some(0),
                signal: None,
            },
            EndReason::TimedOut,
            EndReason::ByHand {
                by: "ann".to_owned(),
            },
        ] {
            assert_eq!(ended(Some(reason.clone())), Fate::Over(reason));
        }
        for reason in [
            EndReason::LostWithHost,
            EndReason::HostRemoved,
            EndReason::Superseded {
                by: SessionId::from_bytes([2; 10]),
            },
        ] {
            let words = reason.to_string();
            assert_eq!(ended(Some(reason)), Fate::Lost(words));
        }
        assert!(matches!(ended(None), Fate::Lost(_)));
        let to = SessionId::from_bytes([2; 10]);
        let by = "ann".to_owned();
        let moved = ended(Some(EndReason::Moved { to, by }));
        assert!(matches!(moved, Fate::Moved(why) if why.starts_with("ann moved it")));
    }

    #[test]
    fn an_unknown_session_gets_some_time() {
        let unknown = news(None, false, None);
        assert_eq!(
            judge(&unknown, Duration::from_millis(1900), ALL),
            Fate::Goes
        );
        assert!(matches!(judge(&unknown, UNKNOWN_LIMIT, ALL), Fate::Lost(_)));
    }
}
