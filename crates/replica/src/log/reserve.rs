//! The next segment, made ahead, so that a full disk is seen before consensus wants to write.
//!
//! Always true: while the reserve is ready, one whole segment can be written without asking the disk for room. While
//! it is missing for want of room, the replica takes no more changes ([`Room`]); it is tried again until it succeeds.

use crate::disk::{DiskFile, SharedDisk, is_full};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The name of the file that becomes the next segment.
pub(crate) const RESERVE: &str = "reserve";

/// What the disk has for further changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The next segment is reserved.
    Ready,
    /// The next segment is just being reserved; it takes milliseconds.
    Making,
    /// There is no room for another segment.
    Full,
    /// The disk answered with an error other than being full.
    Failing(io::ErrorKind),
}

#[derive(Debug)]
enum State {
    Ready(Box<dyn DiskFile>),
    Missing(Room),
}

/// The reserve, shared by who makes it, who takes it and who asks.
#[derive(Debug)]
pub(crate) struct Reserve {
    disk: SharedDisk,
    path: PathBuf,
    size: u64,
    threads: bool,
    state: Mutex<State>,
    changed: Notify,
}

impl Reserve {
    /// Nothing is reserved yet; see [`Reserve::make`].
    pub(crate) fn new(disk: SharedDisk, dir: &Path, size: u64, threads: bool) -> Arc<Self> {
        let state = Mutex::new(State::Missing(Room::Making));
        Arc::new(Self {
            disk,
            path: dir.join(RESERVE),
            size,
            threads,
            state,
            changed: Notify::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is.
    pub(crate) fn room(&self) -> Room {
        match &*self.state() {
            State::Ready(_) => Room::Ready,
            State::Missing(room) => *room,
        }
    }

    /// Makes the reserve, on a thread of its own where threads are wanted.
    pub(crate) fn make(self: &Arc<Self>) {
        {
            let mut state = self.state();
            if matches!(*state, State::Ready(_)) {
                return;
            }
            *state = State::Missing(Room::Making);
        }
        if !self.threads {
            return self.make_here();
        }
        let this = self.clone();
        let spawned = std::thread::Builder::new()
            .name("log-reserve".into())
            .spawn(move || this.make_here());
        if let Err(error) = spawned {
            tracing::warn!(%error, "no thread to reserve the next log segment; reserving it in place");
            self.make_here();
        }
    }

    fn make_here(&self) {
        let made = self.disk.create(&self.path, self.size);
        let next = match made {
            Ok(file) => State::Ready(file),
            Err(error) => {
                let room = if is_full(&error) {
                    Room::Full
                } else {
                    Room::Failing(error.kind())
                };
                tracing::warn!(path = %self.path.display(), %error, "no reserve for the log");
                // What was written of it takes room that others need.
                if let Err(error) = self.disk.remove(&self.path) {
                    tracing::debug!(%error, "the unfinished reserve could not be removed");
                }
                State::Missing(room)
            }
        };
        *self.state() = next;
        self.changed.notify_waiters();
    }

    /// Whether making it failed, so that it should be tried again.
    pub(crate) fn failed(&self) -> bool {
        matches!(self.room(), Room::Full | Room::Failing(_))
    }

    /// Waits until making it fails.
    pub(crate) async fn until_failed(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.failed() {
                return;
            }
            changed.await;
        }
    }

    /// Waits while the reserve is being made.
    pub(crate) async fn settled(&self) -> Room {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.room() {
                Room::Making => changed.await,
                room => return room,
            }
        }
    }

    /// Takes the reserve, to be renamed by the caller from [`Reserve::path`]; makes it when it could not be made before.
    ///
    /// # Errors
    /// There is still no room.
    pub(crate) async fn take(&self) -> io::Result<Box<dyn DiskFile>> {
        self.settled().await;
        let taken = std::mem::replace(&mut *self.state(), State::Missing(Room::Making));
        match taken {
            State::Ready(file) => Ok(file),
            State::Missing(room) => {
                *self.state() = State::Missing(room);
                self.disk.create(&self.path, self.size)
            }
        }
    }

    /// Where the reserve is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}
