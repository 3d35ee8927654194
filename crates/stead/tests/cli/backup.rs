//! A backup of a group, and another group made of it; and every way in which a backup is refused.

use crate::running::{Running, run, stead};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

const NAME: &str = "portal.example.org";

fn made() -> Running {
    let server = Running::start();
    std::fs::write(server.path("passphrase"), "correct horse battery\n").unwrap();
    std::fs::write(server.path("value"), "the value of a secret").unwrap();
    let password = server.path("password").to_str().unwrap().to_owned();
    let value = server.path("value").to_str().unwrap().to_owned();
    let commands: [&[&str]; 6] = [
        &["user", "add", "ann", "--password-file", &password],
        &["secret", "set", "mail", "--file", &value],
        &[
            "app",
            "add",
            "mailer",
            "--launch",
            "@pty /bin/sh -c 'wc -c < {secret:mail}; exec sh'",
        ],
        &["token", "add", "card.1", "--user", "ann", "--app", "mailer"],
        &["profile", "set", "env.GREETING", "hello"],
        &["config", "set", "tunnel.retain", "77s"],
    ];
    for command in commands {
        server.json(command);
    }
    bring_certificate(&server);
    server
}

/// Makes a certificate for a name, and has browsers shown it.
fn bring_certificate(server: &Running) {
    let [certificate, key] = ["portal.pem", "portal.key"].map(|name| server.path(name));
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let names = format!("subjectAltName=DNS:{NAME}");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-days",
            "9",
            "-subj",
            "/CN=Example",
        ])
        .args(kind)
        .args(["-addext", &names, "-out", certificate, "-keyout", key])
        .output();
    let made = made.expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    let names = ["trust", "set-certificate", "--name", NAME];
    server.json(&[&names[..], &["--cert", certificate, "--key", key]].concat());
}

/// What browsers that ask for the name are shown.
fn shown(server: &Running) -> String {
    let servers = server.json(&["server", "list"]);
    let address = servers[0]["client_address"].as_str().unwrap();
    let mut browser = Command::new("openssl");
    browser.args(["s_client", "-connect", address, "-servername", NAME]);
    let told = browser.stdin(Stdio::null()).output();
    let told = told.expect("openssl is installed").stdout;
    let told = String::from_utf8(told).unwrap();
    let begins = told.find("-----BEGIN CERTIFICATE-----").unwrap_or(0);
    let ends = told.find("-----END CERTIFICATE-----").unwrap_or(0);
    told.get(begins..ends).unwrap().to_owned()
}

fn backup(server: &Running, file: &Path) -> Value {
    let (file, passphrase) = (file.to_str().unwrap(), server.path("passphrase"));
    let passphrase = passphrase.to_str().unwrap();
    server.json(&["backup", file, "--passphrase-file", passphrase])
}

/// The exit code, and what is said.
fn restore(file: &Path, data: &Path, passphrase: &Path) -> (i32, String) {
    let mut command = stead();
    command.arg("restore").arg(file).arg("--data").arg(data);
    command.args([
        "--name",
        "s9",
        "--peer",
        "127.0.0.1:0",
        "--client",
        "127.0.0.1:0",
        "--json",
    ]);
    command.arg("--passphrase-file").arg(passphrase);
    let (code, out, err) = run(command);
    (code, out + &err)
}

#[test]
fn a_group_goes_on_from_its_backup() {
    let old = made();
    let file = old.path("acme.stead");
    let told = backup(&old, &file);
    assert_eq!(
        (&told["group"], told["bytes"].as_u64()),
        (
            &"testers".into(),
            Some(std::fs::metadata(&file).unwrap().len())
        )
    );
    let bytes = std::fs::read(&file).unwrap();
    for word in [
        &b"the value of a secret"[..],
        b"mailer",
        b"$argon2id$",
        b"card.1",
    ] {
        let mut pieces = bytes.windows(word.len());
        assert!(
            !pieces.any(|piece| piece == word),
            "{:?}",
            String::from_utf8_lossy(word)
        );
    }
    let left: Vec<_> = std::fs::read_dir(old.folder.path())
        .unwrap()
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|one| !one.file_name().to_string_lossy().contains(".new-"))
    );

    let new = Running::of(|data| {
        let (code, told) = restore(&file, data, &old.path("passphrase"));
        assert_eq!(code, 0, "{told}");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["group"], &told["backup_of"]),
            (&"testers".into(), &"testers".into())
        );
        assert_ne!(told["group_id"], told["backup_of_id"]);
        assert_eq!((&told["users"], &told["apps"]), (&2.into(), &1.into()));
        assert_eq!(told["lost_secrets"], serde_json::json!([]));
        // A second time the folder is a server's.
        let (code, told) = restore(&file, data, &old.path("passphrase"));
        assert_eq!(code, 4, "{told}");
    });
    assert_ne!(
        new.json(&["trust", "show"])["ca_fingerprint"],
        old.json(&["trust", "show"])["ca_fingerprint"]
    );
    for command in [
        &["user", "list"][..],
        &["app", "list"],
        &["token", "list"],
        &["profile", "list"],
        &["secret", "get", "mail"],
        &["config", "get", "tunnel.retain"],
    ] {
        assert_eq!(new.json(command), old.json(command), "{command:?}");
    }
    let external = |server: &Running| {
        let trust = server.json(&["trust", "show"]);
        trust["external_certificates"].clone()
    };
    assert_eq!(external(&new), external(&old));
    assert_eq!(external(&new)[0]["name"], NAME);
    let certificate = std::fs::read_to_string(old.path("portal.pem")).unwrap();
    testkit::eventually(testkit::seconds(20), "browsers to be shown it", || {
        let shown = shown(&new);
        !shown.is_empty() && certificate.starts_with(&shown)
    });
    let journal = new.json(&["event", "list"]).to_string();
    assert!(
        journal.contains("group-restored") && journal.contains("user-changed"),
        "{journal}"
    );
    let members = new.json(&["group", "list"]);
    assert_eq!(members.as_array().unwrap().len(), 1, "{members}");
    // It accepts changes, and opens what was sealed.
    new.json(&["user", "set", "ann", "--role", "viewer"]);
    let opened = new.json(&[
        "select", "--token", "card.1", "--app", "mailer", "--user", "ann", "--to", "s9",
    ]);
    let id = opened["id"].as_str().unwrap().to_owned();
    testkit::eventually(
        testkit::seconds(20),
        "the session runs with its secret",
        || {
            let shown = new.json(&["session", "show", &id]);
            assert_ne!(shown["state"], "ended", "{shown:#}");
            shown["state"] == "suspended"
        },
    );
}

#[test]
fn what_is_not_whole_is_refused_with_its_reason() {
    let old = made();
    let file = old.path("acme.stead");
    backup(&old, &file);
    let whole = std::fs::read(&file).unwrap();
    let (broken, data) = (old.path("broken"), old.path("nowhere"));
    let refused = |bytes: &[u8], why: &str| {
        std::fs::write(&broken, bytes).unwrap();
        let (code, told) = restore(&broken, &data, &old.path("passphrase"));
        assert!(code == 1 && told.contains(why), "{why:?}: {code} {told}");
        assert!(!data.exists(), "something was written");
    };
    refused(b"", "not a backup");
    refused(b"something else altogether", "not a backup");
    for cut in [20, whole.len() / 2, whole.len() - 1] {
        refused(&whole[..cut], "its end is missing");
    }
    let changed = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        bytes
    };
    let mut newer = whole.clone();
    newer[8] = 2;
    refused(&newer, "restore it with a newer one");
    refused(&changed(30), "damaged (header)");
    refused(&changed(whole.len() - 1), "damaged (a piece)");
    refused(&[&whole[..], b"x"].concat(), "something follows its end");

    let wrong = old.path("wrong");
    std::fs::write(&wrong, "another passphrase").unwrap();
    let (code, told) = restore(&file, &data, &wrong);
    assert!(
        code == 1 && told.contains("not the one that it was made with"),
        "{told}"
    );
    std::fs::write(&wrong, "short").unwrap();
    let short = wrong.to_str().unwrap();
    let kept = file.to_str().unwrap();
    let told = old.fails(4, &["backup", kept, "--passphrase-file", short]);
    assert!(told.contains("less than 8 bytes"), "{told}");
    assert_eq!(std::fs::read(&file).unwrap(), whole, "what was there stays");
    let passphrase = old.path("passphrase");
    let passphrase = passphrase.to_str().unwrap();
    let nowhere = ["backup", "/nowhere/at/all", "--passphrase-file", passphrase];
    let told = old.fails(1, &nowhere);
    assert!(told.contains("/nowhere/at/all"), "{told}");
    let left = std::fs::read_dir(old.folder.path()).unwrap().flatten();
    let unfinished = |name: &std::ffi::OsStr| name.to_string_lossy().contains(".new-");
    assert!(left.into_iter().all(|one| !unfinished(&one.file_name())));
}
