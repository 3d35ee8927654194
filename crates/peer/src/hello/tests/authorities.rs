//! What the hello makes of authorities of before, and of keys that are refused.

use super::*;
use crate::identity::key_mark;

/// A group whose authority has rotated: what it was and what it is, with one secret.
struct Rotated {
    before: Group,
    after: Group,
}

impl Rotated {
    fn new() -> Self {
        let before = Group::new(1);
        let mut after = Group::new(1);
        after.secret = before.secret.clone();
        Self { before, after }
    }

    /// A member that has followed.
    fn followed(&self, number: u8) -> Server {
        let mut trust = self.after.trust(server_id(number));
        let (old, new) = (&self.before.authority, &self.after.authority);
        trust.former = vec![old.certificate().clone()];
        trust.links = vec![old.bridge_to(new, now()).unwrap()];
        self.after
            .server_with(number, &trust, Arc::new(NoRevocations), TlsBasis::default())
    }

    /// One that was away, and the key that it has.
    fn away(&self, number: u8) -> (Server, KeyMark) {
        let trust = self.before.trust(server_id(number));
        let key = key_mark(&trust.peer.key.public_key());
        let server =
            self.before
                .server_with(number, &trust, Arc::new(NoRevocations), TlsBasis::default());
        (server, key)
    }
}

#[tokio::test]
async fn who_was_away_while_the_authority_rotated_gets_another_certificate_and_nothing_else() {
    let rotated = Rotated::new();
    let two = rotated.followed(2);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let (one, key) = rotated.away(1);
    two.outlook.knows_key(one.id, key, KeyStanding::Newest);
    for purpose in [Purpose::Consensus, Purpose::Control, Purpose::Stream] {
        let error = dial_for(&one, two.id, &port, purpose).await.unwrap_err();
        assert_eq!(
            error.refusal(),
            Some(&HelloRefusal::FormerAuthority),
            "{error:?}"
        );
    }
    let (met, _) = dial_for(&one, two.id, &port, Purpose::Credentials)
        .await
        .unwrap();
    assert_eq!(met.introduction.server, two.id);
    // Those that have followed trust each other as before.
    let three = rotated.followed(3);
    dial_to(&three, two.id, &port).await.unwrap();
    // And they still believe the one that was away, which proves the secret in force.
    let port = Port::open(&one, ListenerLimits::default()).await;
    dial_to(&three, one.id, &port).await.unwrap();
}

#[tokio::test]
async fn the_key_of_an_authority_of_before_makes_nobody_a_member() {
    let rotated = Rotated::new();
    let two = rotated.followed(2);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let (member, key) = rotated.away(1);
    two.outlook.knows_key(member.id, key, KeyStanding::Newest);
    // Somebody who left knows the authority's key and the secret, and makes himself a certificate of a member.
    let (forger, _) = rotated.away(1);
    for purpose in [Purpose::Consensus, Purpose::Credentials] {
        let error = dial_for(&forger, two.id, &port, purpose).await.unwrap_err();
        assert_eq!(
            error.refusal(),
            Some(&HelloRefusal::UnknownKey),
            "{error:?}"
        );
    }
    // The bridge that leads to the authority in force leads nowhere else.
    let mut trust = rotated.before.trust(server_id(1));
    let (old, new) = (&rotated.before.authority, &rotated.after.authority);
    trust.links = vec![
        old.bridge_to(new, now()).unwrap(),
        new.certificate().clone(),
    ];
    let basis = TlsBasis::default();
    let forger = rotated
        .before
        .server_with(1, &trust, Arc::new(NoRevocations), basis);
    let error = dial_to(&forger, two.id, &port).await.unwrap_err();
    assert_eq!(
        error.refusal(),
        Some(&HelloRefusal::UnknownKey),
        "{error:?}"
    );
}

#[tokio::test]
async fn an_authority_that_was_never_accepted_opens_nothing() {
    let rotated = Rotated::new();
    let two = rotated.followed(2);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let mut other = Group::new(1);
    other.secret = rotated.after.secret.clone();
    let error = dial_to(&other.server(1), two.id, &port).await.unwrap_err();
    assert!(matches!(error, DialError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_key_that_was_revoked_gets_another_certificate_and_nothing_else() {
    let group = Group::new(1);
    let (one, two) = (group.server(1), group.server(2));
    let trust = group.trust(server_id(3));
    let key = key_mark(&trust.peer.key.public_key());
    let three = group.server_with(3, &trust, Arc::new(NoRevocations), TlsBasis::default());
    two.outlook.knows_key(three.id, key, KeyStanding::Revoked);
    let port = Port::open(&two, ListenerLimits::default()).await;
    let error = dial_to(&three, two.id, &port).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Revoked), "{error:?}");
    dial_for(&three, two.id, &port, Purpose::Credentials)
        .await
        .unwrap();
    // Whoever has the copied key answers nobody either.
    one.outlook.knows_key(three.id, key, KeyStanding::Revoked);
    let port = Port::open(&three, ListenerLimits::default()).await;
    let error = dial_to(&one, three.id, &port).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&HelloRefusal::Revoked), "{error:?}");
}
