//! A member's certificate and key in the wrong hands, with and without the group's secret.

use model::{FormationRef, GroupId, IncarnationId, KeyMark, ServerId, UnixMillis};
use peer::dial::{PeerStream, dial};
use peer::hello::{Acquaintance, Endpoint, KeyStanding, Outlook};
use peer::tls::{PeerTls, TlsBasis};
use peer::trust_store::TrustStore;
use peer::verify::NoRevocations;
use server::identity::Identity;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use testkit::{Group, Machine, eventually, seconds, text};
use tokio::io::AsyncReadExt;
use wire::hello::{Introduction, PROTOCOL, Purpose};

/// The file without the secret that it holds, with another one in its place.
fn forget_secret(data: &Path) {
    let path = data.join("trust/secret");
    let text = fs::read_to_string(&path).expect("the group secret");
    let other: String = text
        .lines()
        .map(|line| {
            let (word, hex) = line.split_once(' ').expect("a word and digits");
            format!("{word} {}\n", hex.chars().rev().collect::<String>())
        })
        .collect();
    assert_ne!(text, other);
    fs::write(path, other).expect("a writable file");
}

#[test]
fn a_stolen_certificate_without_the_secret_is_nobody() {
    let _machine = Machine::alone();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    group.join(1);
    group.stop(1);
    let real = group.server(1).data().to_owned();
    let kept = group.folder().join("kept");
    let status = Command::new("cp").arg("-a").arg(&real).arg(&kept).status();
    assert!(status.expect("cp").success());
    forget_secret(&real);
    // All else is there: certificate, keys, the directory as it was.
    group.serve(1);
    eventually(seconds(30), "the thief to be refused", || {
        let said = group.process(1).errors().join("\n");
        said.contains("secret")
    });
    group.add_user(0, "made-meanwhile");
    // The real one was there a moment ago.
    eventually(seconds(10), "nobody to be taken for that server", || {
        let seen = group.json(0, &["server", "list"]);
        let mut servers = seen.as_array().into_iter().flatten();
        let of_thief = servers.find(|server| text(server, "name") == group.server(1).name());
        of_thief.expect("a member")["reachable"] == false
    });
    // Nothing of what happened meanwhile has come to it.
    let status = group.status(1);
    let users = group.run(1, &["user", "list", "--json"]);
    assert!(
        !users.output.contains("made-meanwhile"),
        "{users:?} {status:?}"
    );
    group.kill(1);

    // With the secret it is the server that it was.
    fs::remove_dir_all(&real).expect("the thief's folder");
    fs::rename(&kept, &real).expect("the real one");
    group.serve(1);
    eventually(seconds(30), "the real one to catch up", || {
        let users = group.run(1, &["user", "list", "--json"]);
        users.output.contains("made-meanwhile")
    });
}

/// Somebody with a copy of a member's data folder, who says that he is that member.
struct Thief(Introduction);

impl Outlook for Thief {
    fn introduction(&self) -> Introduction {
        self.0.clone()
    }

    fn acquaintance(&self, _server: ServerId) -> Acquaintance {
        Acquaintance::Member
    }

    fn feature_level(&self) -> u32 {
        self.0.feature_level
    }

    fn key(&self, _server: ServerId, _key: KeyMark) -> KeyStanding {
        KeyStanding::Unknown
    }
}

/// Opens a connection for requests of members with what is in `copied`.
async fn opened_by_a_thief(copied: &Path, to: (ServerId, &str)) -> PeerStream {
    let identity = Identity::load(copied).expect("an identity");
    let trust = TrustStore::of(copied).load().expect("what it trusts");
    let (group, server): (GroupId, ServerId) = (identity.group, identity.server);
    let revocations = Arc::new(NoRevocations);
    let tls = PeerTls::new(group, server, &trust, revocations, TlsBasis::default());
    let says = Introduction {
        protocol: PROTOCOL,
        group,
        server,
        incarnation: IncarnationId::from_bytes([7; 16]),
        formation: None::<FormationRef>,
        lineage: Vec::new(),
        feature_level: model::FEATURE_LEVEL,
        version: "0.1.0".to_owned(),
        clock: UnixMillis(jiff::Timestamp::now().as_millisecond().unsigned_abs()),
    };
    let endpoint = Endpoint {
        tls: Arc::new(tls.expect("TLS")),
        outlook: Arc::new(Thief(says)),
    };
    let (met, stream) = dial(&endpoint, to.0, to.1, Purpose::Control, seconds(10))
        .await
        .expect("with all that a member has, a thief gets in");
    assert_eq!(met.introduction.server, to.0);
    stream
}

/// Waits until the other end closes the connection.
async fn closed(stream: &mut PeerStream) {
    let mut bytes = [0; 64];
    let closed = async { while let Ok(1..) = stream.read(&mut bytes).await {} };
    let limit = seconds(20);
    let ended = tokio::time::timeout(limit, closed).await;
    ended.expect("what a copied key opened is closed");
}

#[test]
fn what_a_copied_key_has_opened_ends_when_it_is_refused() {
    let _machine = Machine::shared();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(3)
        .start_first();
    group.join(1);
    group.join(2);
    group.wait_for_voters();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let real = group.server(1).data().to_owned();
    let copy = |name: &str| {
        let copied = group.folder().join(name);
        let status = Command::new("cp")
            .arg("-a")
            .arg(&real)
            .arg(&copied)
            .status();
        assert!(status.expect("cp").success());
        copied
    };
    let first = Identity::load(group.server(0).data()).expect("an identity");
    let address = group.server(0).peer_address().to_string();
    let to = (first.server, address.as_str());
    let failover = || group.json(0, &["status"])["last_failover"].clone();
    let before = failover();

    let copied = copy("copied");
    let mut stream = runtime.block_on(opened_by_a_thief(&copied, to));
    let name = group.server(1).name().to_owned();
    group.json(0, &["trust", "revoke", &name]);
    runtime.block_on(closed(&mut stream));

    // The same where the authority that issued it is accepted no more.
    eventually(
        seconds(20),
        "the server to have another certificate",
        || {
            let file = "trust/peer.pem";
            let texts = [&copied, &real].map(|data| fs::read_to_string(data.join(file)).ok());
            texts[0].is_some() && texts[1].is_some() && texts[0] != texts[1]
        },
    );
    let copied = copy("copied-again");
    let mut stream = runtime.block_on(opened_by_a_thief(&copied, to));
    group.json(0, &["trust", "rotate-ca"]);
    eventually(
        seconds(40),
        "the next authority alone to be accepted",
        || group.json(0, &["trust", "show"])["rotation"]["phase"] == "pinned",
    );
    runtime.block_on(closed(&mut stream));
    // Those that are members noticed nothing.
    assert_eq!(failover(), before);
    let status = group.json(0, &["status"]);
    assert_eq!(status["quorum"]["reachable"], 3, "{status:#}");
}
