//! Passwords tried: at one server as fast as it goes, and at several so that each counts few.

use crate::common::Door;
use serde_json::Value;
use std::thread;
use testkit::{Group, Machine, Network, Outcome, eventually, seconds, stays_so_for, text};

const WRONG: &str = "not the password at all";

fn user(group: &Group, index: usize, name: &str) -> Value {
    group.json(index, &["user", "show", name])
}

fn is_locked(group: &Group, index: usize, name: &str) -> bool {
    user(group, index, name)["locked_until"].is_string()
}

fn locks(group: &Group, index: usize) -> Vec<Value> {
    let listed = group.json(index, &["event", "list", "--kind", "account-locked"]);
    listed.as_array().expect("a list").clone()
}

#[test]
fn guessing_as_fast_as_it_goes_gets_no_more_guesses_and_keeps_nobody_else_out() {
    let _machine = Machine::alone();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    group.add_user(0, "ann");
    group.add_user(0, "bob");
    group.json(0, &["config", "set", "users.lockout-attempts", "5"]);
    let guess = |user: &'static str, number: usize| {
        let door = Door::of(&group, 0);
        let replies = (0..8).map(|count| {
            let password = format!("guess {number} {count}");
            door.try_password(user, &password).status
        });
        replies.collect::<Vec<u16>>()
    };
    for name in ["ann", "nobody-of-that-name"] {
        let statuses: Vec<u16> = thread::scope(|scope| {
            let guessers: Vec<_> = (0..8)
                .map(|number| scope.spawn(move || guess(name, number)))
                .collect();
            // Meanwhile others get in.
            Door::of(&group, 0).login("bob");
            let done = guessers.into_iter().map(|one| one.join().expect("answers"));
            done.flatten().collect()
        });
        let wrong = statuses.iter().filter(|status| **status == 401).count();
        // Two are checked at a time.
        assert!(
            (5..=6).contains(&wrong),
            "{name}: {wrong} guesses: {statuses:?}"
        );
        let others = |status: &u16| [401, 429, 503].contains(status);
        assert!(statuses.iter().all(others), "{name}: {statuses:?}");
    }
    let refused = Door::of(&group, 0).try_password("ann", testkit::PASSWORD);
    assert_eq!(refused.status, 429, "also with the right one");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    eventually(seconds(20), "the lock in the directory", || {
        is_locked(&group, 0, "ann")
    });
    assert_eq!(locks(&group, 0).len(), 1);
    let listed = group.run(0, &["user", "list"]);
    assert!(listed.output.contains("locked"), "{listed:?}");
    Door::of(&group, 0).login("bob");

    group.json(0, &["user", "set", "ann", "--unlock"]);
    assert!(!is_locked(&group, 0, "ann"));
    Door::of(&group, 0).login("ann");
}

#[test]
fn failures_at_several_servers_lock_the_account_at_all_and_after_a_failover() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(3)
        .start_first();
    group.join(1);
    group.join(2);
    group.wait_for_voters();
    group.add_user(0, "ann");
    group.json(0, &["config", "set", "users.lockout-attempts", "6"]);
    let doors: Vec<Door> = (0..3).map(|index| Door::of(&group, index)).collect();
    for name in ["nobody-of-that-name", "ann"] {
        for round in 0..2 {
            for (index, door) in doors.iter().enumerate() {
                let status = door.try_password(name, WRONG).status;
                assert_eq!(status, 401, "{name}, round {round} at {index}");
            }
        }
    }
    // None has seen more than two; together it is enough for each of them, whether there is such an account or not.
    eventually(seconds(20), "the lock in the directory", || {
        (0..3).all(|index| is_locked(&group, index, "ann"))
    });
    for (index, door) in doors.iter().enumerate() {
        let waits = door.try_password("ann", testkit::PASSWORD).status;
        assert_eq!(waits, 429, "ann at {index}, with the right password");
        // Three more would not be enough for a server that counts alone.
        let waits = (0..3).any(|_| {
            stays_so_for(seconds(1));
            door.try_password("nobody-of-that-name", WRONG).status == 429
        });
        assert!(waits, "who does not exist does not wait at {index}");
    }
    let before = user(&group, 0, "ann");
    group.kill(0);
    let primary = group.wait_for_acting(seconds(30));
    for index in [1, 2] {
        eventually(seconds(20), "the lock after the failover", || {
            user(&group, index, "ann")["locked_until"] == before["locked_until"]
        });
        assert_eq!(
            doors[index].try_password("ann", testkit::PASSWORD).status,
            429
        );
    }
    let made = locks(&group, primary);
    assert_eq!(made.len(), 1, "one lock, one change: {made:?}");
    assert_eq!(text(&made[0], "subject"), "ann");

    let unlocked = group.json(primary, &["user", "set", "ann", "--unlock"]);
    assert_eq!(unlocked["locked_until"], Value::Null);
    for index in [1, 2] {
        eventually(seconds(20), "her to get in again", || {
            doors[index].try_password("ann", testkit::PASSWORD).status == 200
        });
    }
    let audited = group.json(primary, &["audit", "list", "--last", "1"]);
    assert_eq!(text(&audited[0], "subject"), "user:ann", "{audited}");
}

#[test]
fn a_lock_ends_by_itself() {
    let _machine = Machine::shared();
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(1)
        .start_first();
    group.add_user(0, "ann");
    group.json(0, &["config", "set", "users.lockout-attempts", "2"]);
    group.json(0, &["config", "set", "users.lockout-time", "5s"]);
    let door = Door::of(&group, 0);
    for expected in [401, 401, 429] {
        assert_eq!(door.try_password("ann", WRONG).status, expected);
    }
    eventually(seconds(20), "the lock in the directory", || {
        locks(&group, 0).len() == 1
    });
    eventually(seconds(30), "her to get in again", || {
        door.try_password("ann", testkit::PASSWORD).status == 200
    });
    assert!(!is_locked(&group, 0, "ann"));
    assert_eq!(locks(&group, 0).len(), 1);
}

#[test]
fn strangers_keep_nobody_out_where_he_is_known() {
    let machine = Machine::shared();
    let network = Network::new(&machine, &["boston", "desk", "stranger", "cafe"]);
    let home = tempfile::tempdir().expect("a folder");
    let group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .in_network(&network, &["boston"])
        .environment("HOME", &home.path().to_string_lossy())
        .start();
    for name in ["ann", "bob", "eve"] {
        group.add_user(0, name);
    }
    group.json(0, &["config", "set", "users.lockout-attempts", "3"]);
    group.json(0, &["config", "set", "users.address-attempts", "5"]);
    let (right, wrong) = (group.password_file(), group.folder().join("wrong"));
    std::fs::write(&wrong, WRONG).expect("a file");
    let login = |from: &str, user: &str, file: &std::path::Path| -> Outcome {
        let file = file.to_string_lossy();
        let arguments = ["login", user, "--password-file", &file];
        group.run_remote(Some(network.node(from)), &arguments)
    };
    assert_eq!(login("desk", "ann", &right).code, Some(0));
    for _ in 0..3 {
        let refused = login("stranger", "ann", &wrong).fails(4);
        assert!(refused.contains("wrong user name"), "{refused}");
    }
    for from in ["stranger", "cafe"] {
        let refused = login(from, "ann", &right).fails(4);
        assert!(refused.contains("too many failed logins"), "{refused}");
    }
    eventually(seconds(20), "the lock in the directory", || {
        is_locked(&group, 0, "ann")
    });
    assert_eq!(login("desk", "ann", &right).code, Some(0), "she is known");

    // One password for many accounts: two more, and the address has had its share, also with the right one.
    for name in ["bob", "mallory"] {
        let refused = login("stranger", name, &wrong).fails(4);
        assert!(refused.contains("wrong user name"), "{refused}");
    }
    for name in ["eve", "nobody-of-that-name"] {
        let refused = login("stranger", name, &right).fails(4);
        assert!(refused.contains("too many failed logins"), "{refused}");
    }
    for name in ["bob", "eve"] {
        assert_eq!(login("cafe", name, &right).code, Some(0), "{name}");
    }
}
