//! How much memory a call takes at most, counted where memory is taken and given back.
//!
//! Always true: each thread counts for itself, so that tests beside each other do not disturb each other.

#![expect(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has taken and not given back; below zero when it gave back what another took.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// The most that [`LIVE`] has been since it was last looked at.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counters any more, and nobody who would ask.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(live.get())));
    });
}

fn size_of(layout: Layout) -> isize {
    isize::try_from(layout.size()).unwrap_or(isize::MAX)
}

// SAFETY: everything is passed on to the system's allocator unchanged; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size_of(layout));
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-size_of(layout));
        // SAFETY: the caller keeps the promises of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Does something, and asserts that it never held more than `limit` bytes beyond those that it began with.
pub(crate) fn at_most<R>(limit: usize, act: impl FnOnce() -> R) -> R {
    let before = LIVE.get();
    let outer = MOST.replace(before);
    let outcome = act();
    let taken = MOST.get() - before;
    MOST.set(outer.max(MOST.get()));
    assert!(
        usize::try_from(taken).is_ok_and(|taken| taken <= limit),
        "{taken} bytes of memory were taken where {limit} have to do"
    );
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_that_was_held_counts() {
        at_most(1000, || {
            for _ in 0..10 {
                drop(vec![0_u8; 900]);
            }
        });
        let caught = std::panic::catch_unwind(|| at_most(1000, || drop(vec![0_u8; 1001])));
        assert!(caught.is_err());
        // What is within another counts for both.
        let caught = std::panic::catch_unwind(|| {
            at_most(1000, || at_most(2000, || drop(vec![0_u8; 1500])));
        });
        assert!(caught.is_err());
    }
}
