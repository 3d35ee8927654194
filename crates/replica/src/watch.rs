//! A value that many follow: like tokio's, but whoever waits is woken in the order in which it began to wait.
//!
//! tokio's wakes in a random order, so that a simulation could not be repeated. Always true: who waits for a change
//! learns of the newest value; the last sender's end ends the waiting.

use openraft::OptionalSend;
use openraft::OptionalSync;
use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::Notify;

#[derive(Debug)]
struct Inside<T> {
    value: RwLock<T>,
    version: AtomicU64,
    senders: AtomicUsize,
    receivers: AtomicUsize,
    changed: Notify,
}

impl<T> Inside<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of channel, for openraft.
#[derive(Debug)]
pub struct OrderedWatch;

/// Changes the value.
pub struct OrderedSender<T>(Arc<Inside<T>>);

/// Follows the value.
pub struct OrderedReceiver<T> {
    inside: Arc<Inside<T>>,
    seen: u64,
}

impl<T> fmt::Debug for OrderedSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderedSender")
    }
}

impl<T> fmt::Debug for OrderedReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrderedReceiver")
    }
}

impl<T> Clone for OrderedSender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::AcqRel);
        Self(self.0.clone())
    }
}

impl<T> Drop for OrderedSender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.changed.notify_waiters();
        }
    }
}

impl<T> Clone for OrderedReceiver<T> {
    fn clone(&self) -> Self {
        self.inside.receivers.fetch_add(1, Ordering::AcqRel);
        Self {
            inside: self.inside.clone(),
            seen: self.seen,
        }
    }
}

impl<T> Drop for OrderedReceiver<T> {
    fn drop(&mut self) {
        self.inside.receivers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watch for OrderedWatch {
    type Sender<T: OptionalSend + OptionalSync> = OrderedSender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = OrderedReceiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(first: T) -> (OrderedSender<T>, OrderedReceiver<T>) {
        let inside = Arc::new(Inside {
            value: RwLock::new(first),
            version: AtomicU64::new(0),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(1),
            changed: Notify::new(),
        });
        let receiver = OrderedReceiver {
            inside: inside.clone(),
            seen: 0,
        };
        (OrderedSender(inside), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<OrderedWatch, T> for OrderedSender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(Ordering::Acquire) == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            let modified = modify(&mut value);
            if modified {
                // Inside the lock, so that nobody sees the new value under the old version.
                self.0.version.fetch_add(1, Ordering::AcqRel);
            }
            modified
        };
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> OrderedReceiver<T> {
        self.0.receivers.fetch_add(1, Ordering::AcqRel);
        let inside = self.0.clone();
        let seen = inside.version.load(Ordering::Acquire);
        OrderedReceiver { inside, seen }
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<OrderedWatch, T> for OrderedReceiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        loop {
            let changed = self.inside.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let version = self.inside.version.load(Ordering::Acquire);
            if version != self.seen {
                self.seen = version;
                return Ok(());
            }
            if self.inside.senders.load(Ordering::Acquire) == 0 {
                return Err(RecvError(()));
            }
            changed.await;
        }
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.inside.read()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        let value = self.inside.read();
        self.seen = self.inside.version.load(Ordering::Acquire);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_in_order_and_told_of_the_end() {
        let (sender, receiver) = OrderedWatch::channel(0);
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..20 {
            let (mut receiver, order) = (receiver.clone(), order.clone());
            tasks.push(tokio::spawn(async move {
                receiver.changed().await.expect("a change");
                order.lock().expect("whole").push(number);
                receiver.changed().await.is_err()
            }));
        }
        tokio::task::yield_now().await;
        sender.send(1).expect("somebody follows");
        while order.lock().expect("whole").len() < 20 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*order.lock().expect("whole"), (0..20).collect::<Vec<_>>());
        drop(sender);
        for task in tasks {
            assert!(task.await.expect("it ended"), "the end was not noticed");
        }
    }
}
