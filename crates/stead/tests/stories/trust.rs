//! A group's trust while it lives: certificates that renew themselves, also where their server slept until they had expired.

use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpStream;
use testkit::{Group, Machine, Process, event, events, eventually, eventually_some, seconds, text};

/// The server that holds no seal key: others grant it everything.
pub(crate) const WITNESS: usize = 3;

pub(crate) fn four_with_a_witness() -> Group {
    let mut group = Group::of(crate::STEAD).on_loopback(4).start_first();
    group.join(1);
    group.join(2);
    group.join_as_witness(WITNESS);
    group.wait_for_voters();
    group
}

/// Somebody who uses a terminal, and his `stead connect`.
pub(crate) fn at_a_terminal(group: &Group) -> (Process, TcpStream) {
    group.add_user(0, "ann");
    group.add_app(0, "shell", &["--launch", "@pty /bin/sh"]);
    let connect = group.connect(None, "ann", "card.1", "shell");
    let port = testkit::listening(&connect, seconds(20));
    let viewer = TcpStream::connect(port).expect("stead connect listens");
    (connect, viewer)
}

/// A server that neither is primary nor hosts the session.
pub(crate) fn bystander(group: &Group, connect: &Process) -> usize {
    let host = text(&event(connect, "ready", seconds(1)), "host");
    let mut others = (1..WITNESS).filter(|index| group.server(*index).name() != host);
    others.next().expect("one of two hosts nothing")
}

/// Servers that have said in the journal that they have new certificates, after an entry of it, and why.
pub(crate) fn renewed_after(group: &Group, seq: u64, cause: &str) -> BTreeSet<String> {
    let events = group.json(0, &["event", "list", "--kind", "certificate-renewed"]);
    let events = events.as_array().cloned().unwrap_or_default();
    let later = events
        .into_iter()
        .filter(|event| event["seq"].as_u64() > Some(seq) && event["fields"]["cause"] == cause);
    later.map(|event| text(&event, "subject")).collect()
}

pub(crate) fn newest_event(group: &Group) -> u64 {
    let events = group.json(0, &["event", "list"]);
    let all = events.as_array().into_iter().flatten();
    all.filter_map(|event| event["seq"].as_u64())
        .max()
        .unwrap_or(0)
}

/// The certificate that a server shows on its client port, as `openssl` sees it.
fn shown(group: &Group, index: usize) -> String {
    let address = group.server(index).client_address().to_string();
    let asked = std::process::Command::new("openssl")
        .args(["s_client", "-connect", &address, "-alpn", "h2"])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is installed");
    let said = String::from_utf8_lossy(&asked.stdout).into_owned();
    let begins = said.find("-----BEGIN CERTIFICATE-----");
    let ends = said.find("-----END CERTIFICATE-----");
    let (Some(begins), Some(ends)) = (begins, ends) else {
        panic!("no certificate is shown: {said}");
    };
    said[begins..ends].to_owned()
}

fn all_names(group: &Group) -> BTreeSet<String> {
    group
        .servers()
        .iter()
        .map(|server| server.name().to_owned())
        .collect()
}

#[test]
fn certificates_renew_themselves() {
    let _machine = Machine::shared();
    let mut group = four_with_a_witness();
    let (connect, mut viewer) = at_a_terminal(&group);
    let before: Vec<String> = (0..4).map(|index| shown(&group, index)).collect();
    let seq = newest_event(&group);
    // A shorter life holds at once.
    group.json(0, &["config", "set", "trust.certificate-lifetime", "10s"]);
    let all = all_names(&group);
    eventually(seconds(20), "new certificates everywhere", || {
        renewed_after(&group, seq, "lifetime") == all
    });
    for (index, before) in before.iter().enumerate() {
        assert_ne!(
            &shown(&group, index),
            before,
            "server {index} shows the old one"
        );
    }
    eventually(seconds(20), "certificates to be renewed in time", || {
        renewed_after(&group, seq, "age") == all
    });
    says(&mut viewer, "echo still-$((40 + 2))", "still-42");
    sleeps_through_expiry(&mut group, WITNESS);
    let voter = bystander(&group, &connect);
    sleeps_through_expiry(&mut group, voter);
    says(&mut viewer, "echo again-$((40 + 3))", "again-43");
    assert!(
        events(&connect, "session-lost").is_empty(),
        "{}",
        connect.story()
    );
    // No certificate was spoken of that was renewed in time.
    let seq = newest_event(&group);
    group.json(0, &["config", "unset", "trust.certificate-lifetime"]);
    eventually(seconds(20), "certificates with a long life", || {
        let shown = group.json(0, &["trust", "show"]);
        let expires = |one: &Value| text(one, "expires");
        let certificates = shown["certificates"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        renewed_after(&group, seq, "age") == all
            && certificates
                .iter()
                .map(expires)
                .all(|expires| expires > in_a_month())
    });
}

/// A server stands still until its certificate has expired, and gets in again with that.
fn sleeps_through_expiry(group: &mut Group, index: usize) {
    let name = group.server(index).name().to_owned();
    let expired = |group: &Group| {
        let expiring = group.json(0, &["event", "list", "--kind", "certificate-expiring"]);
        let of_it =
            |event: &&Value| event["subject"] == name.as_str() && event["fields"]["days"] == "0";
        let mut events = expiring.as_array().into_iter().flatten();
        events.find(of_it).map(|event| event["severity"] == "error")
    };
    group.process(index).pause();
    let severe = eventually_some(seconds(40), "the primary to say that it expired", || {
        expired(group)
    });
    assert!(severe);
    let attention = group.json(0, &["status"])["attention"].to_string();
    assert!(
        attention.contains(&format!("the certificate of {name} expired")),
        "{attention}"
    );
    let seq = newest_event(group);
    group.process(index).resume();
    eventually(seconds(30), "it to have a new certificate", || {
        renewed_after(group, seq, "age").contains(&name)
    });
    eventually(seconds(30), "it to be reached, and to count", || {
        let status = group.json(0, &["status"]);
        status["quorum"]["reachable"] == 4 && status["quorum"]["voters"] == 4
    });
}

fn in_a_month() -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(30 * 24);
    format!("{then:.3}")
}

/// What is typed into a terminal is answered there.
pub(crate) fn says(viewer: &mut TcpStream, line: &str, answer: &str) {
    use std::io::Write;
    viewer
        .write_all(format!("{line}\n").as_bytes())
        .expect("the terminal takes input");
    let said = testkit::read_until(viewer, answer);
    assert!(said.contains(answer));
}

/// The line of a server's file that says which secret it proves.
fn proves(group: &Group, index: usize) -> String {
    let file = group.server(index).data().join("trust/secret");
    let text = std::fs::read_to_string(file).expect("a secret");
    let current = text.lines().find(|line| line.starts_with("current "));
    current.expect("one in force").to_owned()
}

fn phases(group: &Group) -> Vec<String> {
    let events = group.json(0, &["event", "list", "--kind", "secret-rotated"]);
    let events = events.as_array().cloned().unwrap_or_default();
    let phases = events.iter().map(|event| text(&event["fields"], "phase"));
    phases.collect()
}

#[test]
fn the_secret_rotates() {
    let _machine = Machine::shared();
    let mut group = four_with_a_witness();
    let (connect, mut viewer) = at_a_terminal(&group);
    let away = bystander(&group, &connect);
    let name = group.server(away).name().to_owned();
    let first = proves(&group, 0);

    // All are there.
    let done = group.json(WITNESS, &["trust", "rotate-secret", "--dry-run"]);
    assert_eq!(done["secret"]["rotating"], false, "{done}");
    let done = group.json(
        0,
        &["trust", "rotate-secret", "--reason", "a disk was sold"],
    );
    assert_eq!(
        done["secret"]["rotating"], false,
        "all confirm at once: {done}"
    );
    let second = proves(&group, 0);
    assert_ne!(second, first);
    eventually(seconds(5), "all to prove the same", || {
        (0..4).all(|index| proves(&group, index) == second)
    });
    assert_eq!(phases(&group), ["begun", "finished"]);

    // One is away, and nobody waits for it.
    group.kill(away);
    let begun = group.json(0, &["trust", "rotate-secret"]);
    assert_eq!(begun["secret"]["rotating"], true);
    assert_eq!(begun["secret"]["unconfirmed"], serde_json::json!([name]));
    let ended = group.json(0, &["trust", "rotate-secret", "--finish"]);
    assert_eq!(ended["secret"]["rotating"], false, "{ended}");
    let third = proves(&group, 0);
    eventually(
        seconds(10),
        "those that are there to accept it alone",
        || {
            let is_settled = |index: &usize| {
                let file = group.server(*index).data().join("trust/secret");
                let text = std::fs::read_to_string(file).expect("a secret");
                !text.contains("previous ") && text.contains("old ")
            };
            group
                .running()
                .all(|index| is_settled(&index) && proves(&group, index) == third)
        },
    );
    assert_eq!(proves(&group, away), second);
    says(&mut viewer, "echo still-$((40 + 2))", "still-42");

    // It comes back with the secret of before, and finds its way in.
    group.serve(away);
    eventually(seconds(20), "it to be reached again", || {
        group.json(0, &["status"])["quorum"]["reachable"] == 4
    });
    assert_eq!(proves(&group, away), third);

    // Whoever leaves knows the secret: it rotates by itself.
    group.json(0, &["group", "remove", group.server(WITNESS).name()]);
    eventually(seconds(20), "another secret", || {
        phases(&group).len() == 6 && (0..3).all(|index| proves(&group, index) != third)
    });
    assert_ne!(proves(&group, WITNESS), proves(&group, 0));
    let audited = group.json(0, &["audit", "list", "--subject", "secret"]);
    let audited = audited.as_array().cloned().unwrap_or_default();
    let reasons: Vec<&Value> = audited
        .iter()
        .map(|entry| &entry["details"]["reason"])
        .collect();
    // What servers do by themselves is in the journal only.
    assert_eq!(
        reasons,
        [&"a disk was sold".into(), &Value::Null, &Value::Null]
    );
    says(&mut viewer, "echo again-$((40 + 3))", "again-43");
    assert!(
        events(&connect, "session-lost").is_empty(),
        "{}",
        connect.story()
    );
}
