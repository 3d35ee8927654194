//! What readers have of the directory, and who may replace it.
//!
//! Always true: readers never wait; what was shown goes on being shown until what follows it is whole; only the consensus that
//! was started last publishes, and what one before it still has at hand comes to nothing. Start at [`Published`].

use crate::state_machine::State;
use arc_swap::ArcSwap;
use model::Left;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The published state: readers take it, one writer replaces it.
///
/// After this server entered another formation, readers keep the directory of the one before until it has caught up: what its
/// primary sends first may be a snapshot from long before, in which people who are logged in are not known yet.
#[derive(Debug)]
pub(crate) struct Published {
    shown: ArcSwap<State>,
    /// The newest state of the formation in force; what is shown, unless this server is catching up.
    own: ArcSwap<State>,
    applied: watch::Sender<u64>,
    /// Who writes now, and how far the formation in force has come.
    writing: Mutex<Writing>,
}

#[derive(Debug, Default)]
struct Writing {
    /// Which [`Pen`] writes.
    pen: u64,
    /// Another formation was entered.
    catching_up: Option<CatchingUp>,
}

/// Consensus that was stopped may still have a task at work, and what it has is of the formation before.
#[derive(Debug, thiserror::Error)]
#[error("consensus has begun anew since")]
pub(crate) struct Superseded;

impl From<Superseded> for io::Error {
    fn from(error: Superseded) -> Self {
        Self::other(error)
    }
}

/// The right to publish: of the consensus that was started last. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Pen {
    published: Arc<Published>,
    number: u64,
}

impl Pen {
    /// The newest state.
    pub(crate) fn own(&self) -> Result<Arc<State>, Superseded> {
        self.writing().map(|_| self.published.own())
    }

    /// Follows the number of the last applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.published.applied()
    }

    /// Replaces the state.
    pub(crate) fn publish(&self, state: State) -> Result<(), Superseded> {
        let mut writing = self.writing()?;
        self.published.publish(&mut writing, state);
        Ok(())
    }

    /// The primary says how much is agreed upon.
    pub(crate) fn heard_of(&self, committed: u64) {
        let Ok(mut writing) = self.writing() else {
            return;
        };
        if let Some(CatchingUp { until, heard }) = writing.catching_up.as_mut() {
            if !std::mem::replace(heard, true) {
                *until = Some(committed);
            }
            let own = self.published.own();
            self.published.show_when_caught_up(&mut writing, own);
        }
    }

    fn writing(&self) -> Result<MutexGuard<'_, Writing>, Superseded> {
        let writing = self.published.writing();
        match writing.pen == self.number {
            true => Ok(writing),
            false => Err(Superseded),
        }
    }
}

/// What is waited for after another formation was entered.
#[derive(Debug, Default)]
struct CatchingUp {
    /// The number of the entry with which readers get what has come; none: nobody has said yet how much there is.
    until: Option<u64>,
    /// Whether its primary was heard, and said how much was agreed upon then.
    heard: bool,
}

impl Published {
    /// What is on disk of the formation in force; where nothing of it has come, readers get what was left for it.
    pub(crate) fn new(state: Option<State>, left: Option<State>) -> Self {
        let catching_up = state.is_none().then(CatchingUp::default);
        let own = Arc::new(state.unwrap_or_else(State::empty));
        let shown = match left {
            Some(left) if catching_up.is_some() => Arc::new(left),
            _ => own.clone(),
        };
        Self {
            applied: watch::channel(shown.applied).0,
            shown: ArcSwap::new(shown),
            own: ArcSwap::new(own),
            writing: Mutex::new(Writing {
                pen: 0,
                catching_up,
            }),
        }
    }

    /// Takes the right to publish from whoever has it.
    pub(crate) fn take_pen(self: &Arc<Self>) -> Pen {
        Pen {
            number: self.change_hands().pen,
            published: self.clone(),
        }
    }

    /// Whoever published until now does not any more.
    fn change_hands(&self) -> MutexGuard<'_, Writing> {
        let mut writing = self.writing();
        writing.pen += 1;
        writing
    }

    /// What readers have.
    pub(crate) fn state(&self) -> Arc<State> {
        self.shown.load_full()
    }

    /// The state of the formation in force: empty while nothing of it has come.
    pub(crate) fn own(&self) -> Arc<State> {
        self.own.load_full()
    }

    /// Another formation is in force: its state, or none yet, in which case readers keep the last one of the old.
    pub(crate) fn enter(&self, state: Option<State>) {
        let mut writing = self.change_hands();
        writing.catching_up = state.is_none().then(CatchingUp::default);
        self.publish(&mut writing, state.unwrap_or_else(State::empty));
    }

    /// The formation before is in force again: readers keep what they had of it until all that is there once more.
    pub(crate) fn go_back(&self, state: State) {
        let mut writing = self.change_hands();
        writing.catching_up = Some(CatchingUp {
            until: Some(self.state().applied),
            heard: false,
        });
        self.publish(&mut writing, state);
    }

    /// The formation that was left, while nothing of the one in force has come.
    pub(crate) fn left(&self) -> Option<Left> {
        let (shown, own) = (self.state(), self.own());
        let last = shown.last.filter(|_| own.directory.is_none())?;
        let formation = shown.directory.as_ref()?.group().formation.this;
        Some(Left {
            formation,
            agreed: (last.leader_id.term, last.index),
        })
    }

    /// Nobody will say how much there is: readers get what has come, if anything has.
    pub(crate) fn show_what_came(&self) {
        let (mut writing, own) = (self.writing(), self.own());
        if own.directory.is_some() {
            writing.catching_up = None;
            self.show_when_caught_up(&mut writing, own);
        }
    }

    /// Follows the number of the last applied entry.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn publish(&self, writing: &mut Writing, state: State) {
        let state = Arc::new(state);
        self.own.store(state.clone());
        self.show_when_caught_up(writing, state);
    }

    fn show_when_caught_up(&self, writing: &mut Writing, state: Arc<State>) {
        if let Some(CatchingUp { until, .. }) = &writing.catching_up
            && (state.directory.is_none() || until.is_none_or(|until| state.applied < until))
        {
            return;
        }
        writing.catching_up = None;
        let applied = state.applied;
        self.shown.store(state);
        self.applied.send_replace(applied);
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::directory;

    fn published(applied: u64) -> Arc<Published> {
        Arc::new(Published::new(Some(at(applied)), None))
    }

    fn at(applied: u64) -> State {
        State {
            applied,
            directory: Some(directory()),
            ..State::empty()
        }
    }

    #[test]
    fn what_is_older_than_what_was_agreed_upon_is_not_shown_after_another_formation_was_entered() {
        let published = published(90);
        let shown = || (published.state().applied, published.own().applied);
        published.enter(None);
        let pen = published.take_pen();
        assert_eq!(shown(), (90, 0));
        // A snapshot from long before, and then some entries.
        pen.publish(at(4)).expect("it writes");
        assert_eq!(shown(), (90, 4));
        pen.heard_of(120);
        pen.publish(at(119)).expect("it writes");
        assert_eq!(shown(), (90, 119));
        pen.heard_of(200);
        pen.publish(at(120)).expect("it writes");
        assert_eq!(shown(), (120, 120));
        pen.publish(at(121)).expect("it writes");
        assert_eq!(shown(), (121, 121));
    }

    #[test]
    fn what_came_before_the_primary_was_heard_is_shown_when_it_is() {
        let published = published(90);
        published.enter(None);
        let pen = published.take_pen();
        pen.publish(at(50)).expect("it writes");
        pen.heard_of(50);
        assert_eq!(published.state().applied, 50);
    }

    #[test]
    fn consensus_that_was_stopped_changes_nothing_any_more() {
        let published = published(90);
        let old = published.take_pen();
        old.publish(at(91)).expect("it writes");
        published.enter(None);
        old.publish(at(92))
            .expect_err("another formation was entered");
        old.heard_of(92);
        old.own().expect_err("what is there is not its own");
        assert_eq!(
            (published.state().applied, published.own().applied),
            (91, 0)
        );
        let next = published.take_pen();
        next.publish(at(3)).expect("it writes");
        next.heard_of(4);
        next.publish(at(4)).expect("it writes");
        assert_eq!(published.state().applied, 4, "and not after 92");
        let again = published.take_pen();
        next.publish(at(5)).expect_err("consensus was restarted");
        assert_eq!(again.own().expect("its own").applied, 4);
    }
}
