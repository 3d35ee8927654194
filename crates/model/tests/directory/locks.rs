//! Locks of accounts: what makes, keeps and ends them.

use crate::common::{Told, put_user, user, user_name};
use model::audit::Action;
use model::*;

const MINUTE: u64 = 60_000;

fn lock(failures: u32) -> Command {
    Command::LockUser {
        name: user_name("zoe"),
        failures,
    }
}

fn unlock() -> Command {
    Command::UnlockUser {
        name: user_name("zoe"),
    }
}

fn zoe(told: &Told) -> User {
    let zoe = told.directory.user(&user_name("zoe"));
    (**zoe.unwrap()).clone()
}

fn with_zoe() -> Told {
    let mut told = Told::founded();
    told.tell(put_user(user("zoe", Role::User), None))
        .outcome
        .unwrap();
    told
}

#[test]
fn a_lock_is_made_once_and_ends_by_itself() {
    let mut told = with_zoe();
    let version = zoe(&told).version_number;
    let made = told.tell(lock(10));
    assert_eq!(made.events.len(), 1);
    assert_eq!(made.events[0].kind, EventKind::AccountLocked);
    let first = zoe(&told).lock.unwrap();
    assert_eq!(first.failures, 10);
    assert_eq!(first.until, UnixMillis(first.since.0 + 15 * MINUTE));
    assert_eq!(zoe(&told).locked_until(first.since), Some(first.until));
    assert_eq!(zoe(&told).locked_until(first.until), None);
    // Another primary says it too: that is no second lock, and it does not get longer.
    assert!(told.tell(lock(12)).events.is_empty());
    assert_eq!(zoe(&told).lock, Some(first));
    assert_eq!(
        zoe(&told).version_number,
        version,
        "a stranger is not in the way of who edits the record"
    );
    told.wait(15 * MINUTE);
    assert_eq!(told.tell(lock(11)).events.len(), 1);
    assert_eq!(zoe(&told).lock.unwrap().failures, 11);
}

#[test]
fn whoever_edits_an_account_neither_locks_nor_unlocks_it() {
    let mut told = with_zoe();
    told.tell(lock(10)).outcome.unwrap();
    let before = zoe(&told);
    let edited = User {
        role: Role::Viewer,
        lock: None,
        origin: Origin::Directory,
        ..before.clone()
    };
    let put = put_user(edited, Some(before.version_number));
    told.tell(put).outcome.unwrap();
    assert_eq!(zoe(&told).lock, before.lock);
    assert_eq!(zoe(&told).role, Role::Viewer);
    // A new account brings none along.
    let yan = User {
        lock: before.lock,
        ..user("yan", Role::User)
    };
    told.tell(put_user(yan, None)).outcome.unwrap();
    assert_eq!(told.directory.user(&user_name("yan")).unwrap().lock, None);
}

#[test]
fn somebody_unlocks() {
    let mut told = with_zoe();
    told.tell(lock(10)).outcome.unwrap();
    let held = zoe(&told).lock.unwrap();
    told.wait(MINUTE);
    let unlocked = told.tell(unlock());
    assert_eq!(unlocked.events[0].kind, EventKind::UserChanged);
    let lifted = zoe(&told).lock.unwrap();
    assert_eq!((lifted.since, lifted.failures), (held.since, 10));
    assert!(lifted.lifted && lifted.until < held.until);
    assert_eq!(zoe(&told).locked_until(told.now()), None);
    let entry = told.directory.audited_from(0).last().unwrap().clone();
    assert_eq!(entry.about.to_string(), "user:zoe");
    assert_eq!(entry.action, Action::Changed);
    // Where only addresses are locked out of it there is nothing to end, and still something to say.
    told.wait(MINUTE);
    told.tell(unlock()).outcome.unwrap();
    let again = zoe(&told).lock.unwrap();
    assert!(again.lifted && again.since == again.until && again.until > lifted.until);
    for command in [lock(10), unlock()] {
        let name = user_name("nobody-known");
        let command = match command {
            Command::LockUser { failures, .. } => Command::LockUser { name, failures },
            _ => Command::UnlockUser { name },
        };
        let refused = told.tell(command).outcome;
        assert!(matches!(refused, Err(Refusal::NotFound { .. })));
    }
}

#[test]
fn only_people_make_changes_of_people() {
    assert!(!lock(10).is_user_change(), "strangers bring it about");
    assert!(unlock().is_user_change() && unlock().is_audited());
    let with = |lock| {
        let record = User {
            lock,
            ..user("zoe", Role::User)
        };
        Content::User(record.into())
    };
    let locked = with(Some(Lock {
        since: UnixMillis(1),
        until: UnixMillis(2),
        failures: 10,
        lifted: false,
    }));
    assert!(with(None).is_same(&locked), "it does not diverge");
}
