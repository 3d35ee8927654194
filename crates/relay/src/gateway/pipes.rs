//! Pipes through which the kernel passes bytes from one socket to another, kept for the next who needs one.
//!
//! The first of them are large: what splicing costs is mostly what it costs each time. The others are smaller, because the bytes that
//! clients leave inside, when they do not read, are memory.
//!
//! Always true: a pipe in the pool is empty. There are at most so many as were asked for; who gets none copies.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that a large pipe holds, and what the kernel is asked to move at once: as much as a pipe may have without privilege, as Linux
/// comes (pipe(7), `pipe-max-size`).
pub(super) const LARGE: usize = 1024 * 1024;
/// Bytes of the others, and of a large one where the system gives none: all pipes of a user without privilege have a limit
/// (`pipe-user-pages-soft`).
const SMALLER: usize = 256 * 1024;
/// One in so many is large.
const SHARE: usize = 8;

/// The pool. A cheap clone.
#[derive(Debug, Clone)]
pub struct Pipes(Arc<Mutex<Pool>>);

#[derive(Debug)]
struct Pool {
    /// The large ones at the back, where they are taken.
    idle: VecDeque<Ends>,
    /// How many more large ones may be made.
    large: usize,
    /// How many more others.
    smaller: usize,
}

#[derive(Debug)]
struct Ends {
    exit: OwnedFd,
    entry: OwnedFd,
    /// Whether it was made as one of the large ones.
    large: bool,
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
        let large = most.div_ceil(SHARE);
        Self(Arc::new(Mutex::new(Pool {
            idle: VecDeque::new(),
            large,
            smaller: most - large,
        })))
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty pipe; none when there are as many as may be, or the system gives none.
    pub(super) fn take(&self) -> Option<Pipe> {
        let mut pool = self.pool();
        let ends = match pool.idle.pop_back() {
            Some(ends) => ends,
            None => pool.make()?,
        };
        drop(pool);
        Some(Pipe {
            ends: Some(ends),
            inside: 0,
            pool: self.clone(),
        })
    }
}

impl Pool {
    fn make(&mut self) -> Option<Ends> {
        let large = self.large > 0;
        let left = self.left(large);
        let less = left.checked_sub(1)?;
        match make(large) {
            Ok(ends) => {
                *left = less;
                Some(ends)
            }
            Err(error) => {
                tracing::debug!(%error, "the system gives no pipe; bytes are copied");
                None
            }
        }
    }

    fn left(&mut self, large: bool) -> &mut usize {
        match large {
            true => &mut self.large,
            false => &mut self.smaller,
        }
    }
}

fn make(large: bool) -> Result<Ends, Errno> {
    let (exit, entry) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    let sizes: &[usize] = if large { &[LARGE, SMALLER] } else { &[SMALLER] };
    let mut sizes = sizes.iter();
    if !sizes.any(|size| fcntl_setpipe_size(&entry, *size).is_ok()) {
        // It works as it came, too.
        tracing::debug!("a pipe stays as small as it came");
    }
    Ok(Ends { exit, entry, large })
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
            Some(ends) if self.inside > 0 => *pool.left(ends.large) += 1,
            Some(ends) if ends.large => pool.idle.push_back(ends),
            Some(ends) => pool.idle.push_front(ends),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are idle, and how many large and other ones may still be made.
    fn counts(pipes: &Pipes) -> (usize, usize, usize) {
        let pool = pipes.pool();
        (pool.idle.len(), pool.large, pool.smaller)
    }

    #[test]
    fn a_pipe_with_bytes_inside_is_not_used_again() {
        let pipes = Pipes::new(2);
        let (one, mut two) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        two.inside = 1;
        drop((one, two));
        assert_eq!(counts(&pipes), (1, 0, 1));
        let _three = pipes.take().unwrap();
        assert_eq!(counts(&pipes), (0, 0, 1));
    }

    #[test]
    fn large_ones_come_first() {
        let pipes = Pipes::new(SHARE + 1);
        assert_eq!(counts(&pipes), (0, 2, SHARE - 1));
        let large = |pipe: &Pipe| pipe.ends().large;
        let all: Vec<Pipe> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(all.len(), SHARE + 1);
        assert_eq!(all.iter().filter(|pipe| large(pipe)).count(), 2);
        drop(all);
        assert_eq!(counts(&pipes), (SHARE + 1, 0, 0));
        let again = [pipes.take().unwrap(), pipes.take().unwrap()];
        assert!(again.iter().all(large));
        assert!(!large(&pipes.take().unwrap()));
    }
}
