//! Tokens and tickets that were forged, cut, taken from elsewhere, or withdrawn.

use crate::common::{Door, add_user, api_token};
use testkit::{Group, Machine};

const WHO: &str = "/v1/users";

/// What somebody makes of a ticket that he has.
fn forgeries(ticket: &str) -> Vec<(&'static str, String)> {
    use data_encoding::BASE64URL_NOPAD;
    let parts: Vec<&str> = ticket.split('.').collect();
    let [header, claims, signature] = parts.as_slice() else {
        panic!("a ticket has three parts");
    };
    let decoded = BASE64URL_NOPAD.decode(claims.as_bytes()).expect("base 64");
    let decoded = String::from_utf8(decoded).expect("JSON");
    assert!(decoded.contains("\"carl\""), "{decoded}");
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let promoted = encode(&decoded.replace("\"carl\"", "\"admin\""));
    let longer = encode(&decoded.replace("\"exp\":1", "\"exp\":9"));
    let mut other_signature: Vec<u8> = signature.bytes().rev().collect();
    other_signature.swap(0, 1);
    let other_signature = String::from_utf8(other_signature).expect("text");
    let half = ticket.len() / 2;
    let algorithm = |name: &str| encode(&format!("{{\"typ\":\"JWT\",\"alg\":\"{name}\"}}"));
    vec![
        ("another user", format!("{header}.{promoted}.{signature}")),
        ("a longer life", format!("{header}.{longer}.{signature}")),
        (
            "another signature",
            format!("{header}.{claims}.{other_signature}"),
        ),
        ("no signature", format!("{header}.{claims}.")),
        ("no algorithm", format!("{}.{claims}.", algorithm("none"))),
        (
            "a symmetric one",
            format!("{}.{claims}.{signature}", algorithm("HS256")),
        ),
        ("half of it", ticket.chars().take(half).collect()),
        ("the other half", ticket.chars().skip(half).collect()),
        ("twice", format!("{ticket}{ticket}")),
        ("too long", "x".repeat(8_000)),
        ("dots", "..".to_owned()),
    ]
}

#[test]
fn forged_and_cut_tokens_open_nothing() {
    let _machine = Machine::shared();
    let binary = env!("CARGO_BIN_EXE_stead");
    let group = Group::of(binary).on_loopback(1).start_first();
    add_user(&group, "carl", "viewer");
    let door = Door::of(&group, 0);
    let ticket = door.login("carl");
    assert_eq!(door.get(Some(&ticket), WHO).status, 200);
    for (what, forged) in forgeries(&ticket) {
        assert_eq!(door.get(Some(&forged), WHO).status, 401, "{what}");
    }
    let token = api_token(&group, "carl", "watch", "viewer");
    assert_eq!(door.get(Some(&token), WHO).status, 200);
    let mut other = token.clone().into_bytes();
    other[10] = if other[10] == b'A' { b'B' } else { b'A' };
    let other = String::from_utf8(other).expect("text");
    for forged in [
        &token[..token.len() - 1],
        &token[1..],
        &other,
        "stead_",
        "stead_AAAA",
    ] {
        assert_eq!(door.get(Some(forged), WHO).status, 401, "{forged}");
    }

    // What another group signed for a user of the same name.
    let elsewhere = Group::of(binary).on_loopback(1).start_first();
    add_user(&elsewhere, "carl", "admin");
    let foreign = Door::of(&elsewhere, 0).login("carl");
    assert_eq!(door.get(Some(&foreign), WHO).status, 401, "another group's");
}

#[test]
fn what_was_withdrawn_is_refused_at_once_at_every_server() {
    let _machine = Machine::shared();
    let mut group = Group::of(env!("CARGO_BIN_EXE_stead"))
        .on_loopback(2)
        .start_first();
    group.join(1);
    let doors = [Door::of(&group, 0), Door::of(&group, 1)];
    let refused_everywhere = |bearer: &str, what: &str| {
        for (index, door) in doors.iter().enumerate() {
            // As fresh as the change that withdrew it.
            let status = door.get(Some(bearer), WHO).status;
            assert_eq!(status, 401, "{what} at server {index}");
        }
    };
    let newest = || {
        // A linearizable read at each server: what was withdrawn is there.
        for door in &doors {
            let path = "/v1/users?consistency=linearizable";
            let admin = door.login("admin");
            assert_eq!(door.get(Some(&admin), path).status, 200);
        }
    };
    add_user(&group, "carl", "viewer");
    newest();
    let (ticket, token) = (
        doors[0].login("carl"),
        api_token(&group, "carl", "watch", "viewer"),
    );
    newest();
    for door in &doors {
        assert_eq!(door.get(Some(&ticket), WHO).status, 200);
        assert_eq!(door.get(Some(&token), WHO).status, 200);
    }
    group.json(0, &["user", "set", "carl", "--disable"]);
    newest();
    refused_everywhere(&ticket, "a disabled user's ticket");
    refused_everywhere(&token, "a disabled user's token");
    for door in &doors {
        assert_eq!(door.try_password("carl", testkit::PASSWORD).status, 401);
    }
    group.json(0, &["user", "set", "carl", "--enable"]);
    newest();
    let password = group.password_file().to_string_lossy().into_owned();
    group.json(0, &["user", "passwd", "carl", "--password-file", &password]);
    group.json(0, &["user", "token", "remove", "carl", "watch"]);
    newest();
    refused_everywhere(&ticket, "a ticket from before the new password");
    refused_everywhere(&token, "a revoked token");
    let ticket = doors[0].login("carl");
    group.json(0, &["user", "set", "carl", "--role", "user"]);
    newest();
    for door in &doors {
        assert_eq!(
            door.get(Some(&ticket), WHO).status,
            403,
            "the role is that of now"
        );
    }
    group.json(0, &["user", "remove", "carl"]);
    newest();
    refused_everywhere(&ticket, "a removed user's ticket");
}
