//! Proposals that wait to go into consensus, and whom they wake.
//!
//! The one who gathers them runs on the thread for consensus, which is more urgent than those that make proposals: woken by
//! each, it would interrupt them each time, to find one more.
//!
//! Always true: proposals are taken in the order in which they were put; who gathers is woken when there are as many as it waits
//! for, and by none before. Start at [`queue`].

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Debug)]
struct Shared<T> {
    inside: Mutex<Inside<T>>,
    enough: Notify,
}

#[derive(Debug)]
struct Inside<T> {
    waiting: VecDeque<T>,
    /// How many it takes to wake who gathers; none: it is not waiting.
    wanted: Option<usize>,
    /// Whether the other end is gone.
    closed: bool,
}

impl<T> Shared<T> {
    fn inside(&self) -> MutexGuard<'_, Inside<T>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is put any more, or taken; what waits is given back.
    fn close(&self) -> VecDeque<T> {
        let mut inside = self.inside();
        inside.closed = true;
        self.enough.notify_one();
        std::mem::take(&mut inside.waiting)
    }
}

/// Where proposals are put.
#[derive(Debug)]
pub(crate) struct Proposals<T>(Arc<Shared<T>>);

/// Where they are taken from.
#[derive(Debug)]
pub(crate) struct Queue<T>(Arc<Shared<T>>);

/// Nobody takes proposals any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// Both ends of a queue.
pub(crate) fn queue<T>() -> (Proposals<T>, Queue<T>) {
    let shared = Arc::new(Shared {
        inside: Mutex::new(Inside {
            waiting: VecDeque::new(),
            wanted: None,
            closed: false,
        }),
        enough: Notify::new(),
    });
    (Proposals(shared.clone()), Queue(shared))
}

impl<T> Proposals<T> {
    /// Puts one behind the others.
    ///
    /// # Errors
    /// [`Closed`]; it is not proposed then.
    pub(crate) fn put(&self, waiting: T) -> Result<(), Closed> {
        let mut inside = self.0.inside();
        if inside.closed {
            return Err(Closed);
        }
        inside.waiting.push_back(waiting);
        let len = inside.waiting.len();
        if inside.wanted.take_if(|wanted| *wanted <= len).is_some() {
            drop(inside);
            self.0.enough.notify_one();
        }
        Ok(())
    }
}

impl<T> Drop for Proposals<T> {
    fn drop(&mut self) {
        drop(self.0.close());
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.0.inside().waiting.len()
    }

    /// Waits until there are as many; how many there are. None: there will be no more.
    pub(crate) async fn until(&self, wanted: usize) -> Option<usize> {
        loop {
            {
                let mut inside = self.0.inside();
                if inside.closed {
                    return None;
                }
                let len = inside.waiting.len();
                if len >= wanted {
                    return Some(len);
                }
                inside.wanted = Some(wanted);
            }
            self.0.enough.notified().await;
        }
    }

    /// Takes the first of them, so many at most.
    pub(crate) fn take(&self, most: usize) -> Vec<T> {
        let mut inside = self.0.inside();
        inside.wanted = None;
        let count = inside.waiting.len().min(most);
        inside.waiting.drain(..count).collect()
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // Those who wait for them learn that nobody will answer.
        drop(self.0.close());
    }
}

#[cfg(test)]
mod tests {
    use super::queue;
    use futures_util::FutureExt;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_gathers_is_woken_by_the_one_that_makes_it_enough() {
        let (proposals, queue) = queue();
        let mut three = Box::pin(queue.until(3));
        for number in 0..3 {
            assert!((&mut three).now_or_never().is_none());
            proposals.put(number).expect("it is taken");
        }
        assert_eq!(three.await, Some(3));
        assert_eq!(queue.until(2).await, Some(3));
        assert_eq!((queue.take(2), queue.len()), (vec![0, 1], 1));
        assert_eq!(queue.take(9), [2]);
    }

    #[tokio::test]
    async fn either_end_learns_that_the_other_is_gone() {
        let (proposals, taken) = queue();
        let (answer, answered) = oneshot::channel::<()>();
        proposals.put(answer).expect("it is taken");
        drop(taken);
        assert!(answered.await.is_err(), "it waits for an answer");
        assert!(proposals.put(oneshot::channel().0).is_err());
        let (proposals, queue) = queue::<u8>();
        let mut one = Box::pin(queue.until(1));
        assert!((&mut one).now_or_never().is_none());
        drop(proposals);
        assert_eq!(one.await, None);
    }
}
