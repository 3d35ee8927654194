//! What a session weighs: the whole directory of many sessions, counted byte by byte where memory is taken and given back.

#![expect(
    unsafe_code,
    reason = "a global allocator that counts cannot be written without"
)]

use crate::common::*;
use model::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

/// The most bytes that a session may take, its share of all tables and indexes included.
const LIMIT: isize = 500;

thread_local! {
    /// Bytes that this thread took and did not give back. Tests run on threads of their own.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    // A thread that is ending has no counter any more, and nobody who would ask.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
}

/// What the system's allocator really takes for a request: 8 bytes of its own, in steps of 16, at least 32.
fn weight(size: usize) -> isize {
    isize::try_from((size + 8).next_multiple_of(16).max(32)).unwrap_or(isize::MAX)
}

// SAFETY: everything is passed on to the system's allocator unchanged; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(weight(layout.size()));
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-weight(layout.size()));
        // SAFETY: the caller keeps the promises of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Spreads numbers like random ids would be, the same every time.
fn scattered(number: u64) -> SessionId {
    let mut bytes = [0; SessionId::LEN];
    let mixed = number
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(31)
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bytes[..8].copy_from_slice(&mixed.to_be_bytes());
    bytes[8..].copy_from_slice(&number.to_be_bytes()[6..]);
    SessionId::from_bytes(bytes)
}

/// A session of a user of its own, the heaviest ordinary case: attached once, so that the client's address is known.
fn session(number: u64, host: ServerId) -> Session {
    Session {
        id: scattered(number),
        token: token(&format!(
            "card.{:016x}",
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        )),
        user: user_name(&format!("user{number}")),
        app: app_name("desktop"),
        host,
        state: SessionState::Suspended,
        current: true,
        created: START,
        last_attached: Some(START),
        client: Some("192.168.100.100:54321".into()),
        ended: None,
        reason: None,
        heard_number: number,
        version_number: number,
    }
}

/// What a directory of `count` users weighs that has all these sessions, put in one after the other.
fn weigh(users: u64, sessions: impl Iterator<Item = Session>) -> isize {
    let start = LIVE.with(Cell::get);
    let mut told = Told::founded();
    told.all([put_app(shell("desktop"), None)]);
    let users = (0..users).map(|number| user(&format!("user{number}"), Role::User));
    let users = users.map(|user| Record::User(Arc::new(user)));
    let sessions = sessions.map(|session| Record::Session(Arc::new(session)));
    let founded: Vec<Record> = told.directory.records().collect();
    drop(told);
    let directory =
        Directory::from_records(founded.into_iter().chain(users).chain(sessions)).unwrap();
    let weight = LIVE.with(Cell::get) - start;
    drop(directory);
    weight
}

#[test]
fn a_session_weighs_less_than_500_bytes() {
    const SESSIONS: u64 = 30_000;
    let host = |number: u64| [BOSTON, NEWYORK, DETROIT][usize::try_from(number % 3).unwrap()];
    let sessions = || (0..SESSIONS).map(|number| session(number, host(number)));
    let mut by_id: Vec<_> = sessions().collect();
    by_id.sort_by_key(|session| session.id);
    let none = weigh(SESSIONS, std::iter::empty());
    let as_made = weigh(SESSIONS, sessions());
    let as_in_a_snapshot = weigh(SESSIONS, by_id.iter().cloned());
    for (order, weight) in [("as made", as_made), ("as in a snapshot", as_in_a_snapshot)] {
        let each = (weight - none) / isize::try_from(SESSIONS).unwrap();
        assert!(
            each <= LIMIT,
            "a session weighs {each} bytes, put in {order}"
        );
        assert!(
            each > 200,
            "a session cannot weigh {each} bytes only: the count is wrong"
        );
    }
}
