//! The group's authority rotates: under load, with a server that is away, taken back, and when somebody leaves who knows its key.

use crate::trust::{
    WITNESS, at_a_terminal, bystander, four_with_a_witness, newest_event, renewed_after, says,
};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use testkit::{Group, Machine, events, eventually, seconds, text};

/// The phase that the rotation is in; nothing where there is none.
fn phase(trust: &Value) -> Option<&str> {
    trust["rotation"]["phase"].as_str()
}

fn trust(group: &Group) -> Value {
    group.json(0, &["trust", "show"])
}

fn comes_to(group: &Group, wanted: Option<&str>) {
    eventually(seconds(40), "the rotation to go on", || {
        phase(&trust(group)) == wanted
    });
}

/// Certificates of authorities that a server holds in a file of its folder.
fn held(group: &Group, index: usize, file: &str) -> usize {
    let file = group.server(index).data().join("trust").join(file);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.matches("BEGIN CERTIFICATE").count()
}

/// Somebody who asks the client ports of the servers that stay, with this fingerprint, again and again.
struct Asking {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Asking {
    fn begin(group: &Group, index: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicUsize::new(0));
        let (asks, counts) = (Arc::clone(&stop), Arc::clone(&asked));
        let server = group.server(index).client_address().to_string();
        let ca = group.ca().to_owned();
        let thread = std::thread::spawn(move || {
            let mut failed = Vec::new();
            while !asks.load(Ordering::Acquire) {
                // Whoever is not logged in is refused, by a server that was believed.
                let asked = std::process::Command::new(crate::STEAD)
                    .args(["status", "--server", &server, "--ca", &ca])
                    .env("STEAD_API_TOKEN", "not-a-token")
                    .output();
                let asked = asked.expect("the command runs");
                if asked.status.code() != Some(4) {
                    failed.push(String::from_utf8_lossy(&asked.stderr).into_owned());
                }
                counts.fetch_add(1, Ordering::AcqRel);
            }
            failed
        });
        Self {
            stop,
            asked,
            thread,
        }
    }

    /// What failed.
    fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        let failed = self.thread.join().expect("it does not panic");
        assert!(self.asked.load(Ordering::Acquire) > 5, "it asked");
        failed
    }
}

#[test]
fn the_authority_rotates_under_load_and_who_was_away_finds_its_way_back() {
    let _machine = Machine::shared();
    let mut group = four_with_a_witness();
    let (connect, mut viewer) = at_a_terminal(&group);
    let away = bystander(&group, &connect);
    let name = group.server(away).name().to_owned();
    let first = text(&trust(&group), "ca_fingerprint");
    let asking = Asking::begin(&group, 0);
    let seq = newest_event(&group);

    // All are there: it goes by itself as far as clients allow.
    let done = group.json(0, &["trust", "rotate-ca", "--reason", "every two years"]);
    assert_eq!(phase(&done), Some("pinned"), "{done}");
    let second = text(&done, "ca_fingerprint");
    assert_ne!(second, first);
    assert_eq!(done["rotation"]["other_fingerprint"], first.as_str());
    assert_eq!(done["rotation"]["reason"], "every two years");
    assert_eq!(renewed_after(&group, seq, "authority").len(), 4);
    eventually(seconds(10), "all to accept the new one alone", || {
        (0..4).all(|index| {
            held(&group, index, "authority.pem") == 1 && held(&group, index, "former.pem") == 1
        })
    });
    // Both fingerprints open a connection, and who comes with the one before is known.
    let _second = group.connect(None, "ann", "card.2", "shell");
    eventually(
        seconds(10),
        "those that know the one before to be named",
        || {
            let pinned = trust(&group)["rotation"]["pinned"].clone();
            let pinned = pinned.as_array().cloned().unwrap_or_default();
            pinned
                .iter()
                .any(|pinned| text(pinned, "name").starts_with("a client"))
        },
    );
    assert_eq!(asking.end(), Vec::<String>::new(), "nobody was refused");
    // The time of the clients is over when somebody says so.
    let over = group.json(0, &["trust", "rotate-ca", "--finish"]);
    assert_eq!(phase(&over), None, "{over}");

    // One is away, and somebody decides not to wait.
    group.kill(away);
    let begun = group.json(0, &["trust", "rotate-ca"]);
    assert_eq!(phase(&begun), Some("introduced"), "{begun}");
    assert_eq!(begun["rotation"]["unconfirmed"], serde_json::json!([name]));
    let issuing = group.json(0, &["trust", "rotate-ca", "--finish"]);
    assert_eq!(phase(&issuing), Some("issuing"), "{issuing}");
    let pinned = group.json(0, &["trust", "rotate-ca", "--finish"]);
    assert_eq!(phase(&pinned), Some("pinned"), "{pinned}");
    let third = text(&pinned, "ca_fingerprint");
    assert_ne!(third, second);
    eventually(seconds(10), "those that are there to have settled", || {
        group
            .running()
            .all(|index| held(&group, index, "former.pem") == 2)
    });
    // It comes back with a certificate of before, and gets what it lacks.
    group.serve(away);
    eventually(seconds(30), "it to be reached again", || {
        group.json(0, &["status"])["quorum"]["reachable"] == 4
    });
    eventually(seconds(10), "it to have followed", || {
        held(&group, away, "former.pem") == 2
            && group.json(away, &["trust", "show"])["ca_fingerprint"] == third.as_str()
    });
    says(&mut viewer, "echo still-$((40 + 2))", "still-42");
    assert!(
        events(&connect, "session-lost").is_empty(),
        "{}",
        connect.story()
    );
}

#[test]
fn a_rotation_is_taken_back_and_copied_keys_are_revoked() {
    let _machine = Machine::shared();
    let mut group = four_with_a_witness();
    let first = text(&trust(&group), "ca_fingerprint");
    group.kill(WITNESS);
    let begun = group.json(0, &["trust", "rotate-ca"]);
    assert_eq!(phase(&begun), Some("introduced"), "{begun}");
    group.json(0, &["trust", "rotate-ca", "--finish"]);
    let issuing = trust(&group);
    assert_eq!(phase(&issuing), Some("issuing"));
    assert_ne!(issuing["ca_fingerprint"], first.as_str());
    group.serve(WITNESS);
    let back = group.json(
        0,
        &["trust", "rotate-ca", "--back", "--reason", "not today"],
    );
    assert_eq!(back["ca_fingerprint"], first.as_str(), "{back}");
    comes_to(&group, None);
    eventually(seconds(10), "one authority everywhere", || {
        (0..4).all(|index| held(&group, index, "authority.pem") == 1)
    });
    let nothing = group.run(0, &["trust", "rotate-ca", "--back"]);
    assert_eq!(nothing.code, Some(4), "{nothing:?}");

    // Certificates that may have been copied are refused, and their server has others at once.
    let seq = newest_event(&group);
    let name = group.server(1).name().to_owned();
    let key = |index: usize| {
        let file = group.server(index).data().join("trust/peer.pem");
        std::fs::read_to_string(file).expect("a certificate")
    };
    let before = key(1);
    let revoked = group.json(
        0,
        &["trust", "revoke", &name, "--reason", "a backup was lost"],
    );
    assert!(revoked["certificates"].is_array());
    eventually(seconds(10), "it to have another certificate", || {
        renewed_after(&group, seq, "revoked").contains(&name)
    });
    assert_ne!(key(1), before);
    eventually(seconds(10), "nothing to be refused any more", || {
        let certificates = trust(&group)["certificates"].clone();
        let certificates = certificates.as_array().cloned().unwrap_or_default();
        certificates.iter().all(|one| one["revoked"] == false)
    });
    let status = group.json(0, &["status"]);
    assert_eq!(status["quorum"]["reachable"], 4, "{status}");
}

#[test]
fn the_authority_rotates_when_somebody_leaves_who_could_open_its_key() {
    let _machine = Machine::shared();
    let mut group = four_with_a_witness();
    let first = text(&trust(&group), "ca_fingerprint");
    // One that is away is not waited for.
    group.kill(WITNESS);
    group.json(0, &["group", "remove", group.server(2).name()]);
    eventually(seconds(40), "another authority", || {
        let trust = trust(&group);
        phase(&trust) == Some("pinned") && trust["ca_fingerprint"] != first.as_str()
    });
    let reason = text(&trust(&group)["rotation"], "reason");
    assert!(reason.contains("was removed"), "{reason}");
    group.serve(WITNESS);
    eventually(seconds(30), "the one that was away to be reached", || {
        let servers = group.json(0, &["status"])["servers"].clone();
        let servers = servers.as_array().cloned().unwrap_or_default();
        servers.len() == 3 && servers.iter().all(|server| server["reachable"] == true)
    });
}
