//! Pipes through which the kernel passes bytes from one socket to another, kept for the next who needs one.
//!
//! Always true: a pipe in the pool is empty. There are at most so many as were asked for; who gets none copies.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that a pipe holds: what the kernel moves in two calls.
pub(super) const SIZE: usize = 256 * 1024;

/// The pool. A cheap clone.
#[derive(Debug, Clone)]
pub struct Pipes(Arc<Mutex<Pool>>);

#[derive(Debug)]
struct Pool {
    idle: Vec<Ends>,
    /// How many more may be made.
    left: usize,
}

#[derive(Debug)]
struct Ends {
    exit: OwnedFd,
    entry: OwnedFd,
}

/// A pipe that is used; it goes back when dropped, if it is empty.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    /// Bytes inside.
    pub(super) inside: usize,
    pool: Pipes,
}

impl Pipes {
    /// An empty pool for at most `most` pipes.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Pool {
            idle: Vec::new(),
            left: most,
        })))
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty pipe; none when there are as many as may be, or the system gives none.
    pub(super) fn take(&self) -> Option<Pipe> {
        let mut pool = self.pool();
        let ends = match pool.idle.pop() {
            Some(ends) => ends,
            None => {
                pool.left = pool.left.checked_sub(1)?;
                match make() {
                    Ok(ends) => ends,
                    Err(error) => {
                        pool.left += 1;
                        tracing::debug!(%error, "the system gives no pipe; bytes are copied");
                        return None;
                    }
                }
            }
        };
        drop(pool);
        Some(Pipe {
            ends: Some(ends),
            inside: 0,
            pool: self.clone(),
        })
    }
}

fn make() -> Result<Ends, Errno> {
    let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A smaller one works too; users without privilege have a limit for all their pipes.
    if let Err(error) = fcntl_setpipe_size(&entry, SIZE) {
        tracing::debug!(%error, "a pipe stays smaller");
    }
    Ok(Ends { exit, entry })
}

impl Pipe {
    /// The end that is written to.
    pub(super) fn entry(&self) -> &OwnedFd {
        &self.ends().entry
    }

    /// The end that is read from.
    pub(super) fn exit(&self) -> &OwnedFd {
        &self.ends().exit
    }

    fn ends(&self) -> &Ends {
        let ends = self.ends.as_ref();
        ends.expect("invariant: a pipe has its ends until it is dropped")
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut pool = self.pool.pool();
        match self.ends.take() {
            Some(ends) if self.inside == 0 => pool.idle.push(ends),
            _ => pool.left += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_with_bytes_inside_is_not_used_again() {
        let pipes = Pipes::new(2);
        let idle_and_left = || {
            let pool = pipes.pool();
            (pool.idle.len(), pool.left)
        };
        let (one, mut two) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        two.inside = 1;
        drop((one, two));
        assert_eq!(idle_and_left(), (1, 1));
        let _three = pipes.take().unwrap();
        assert_eq!(idle_and_left(), (0, 1));
    }
}
