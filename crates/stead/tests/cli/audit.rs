//! The audit log of a server: who did what, before and after, and no password in it.

use crate::running::Running;
use serde_json::{Value, json};

#[test]
fn changes_by_people_are_audited() {
    let server = Running::start();
    let password = server.path("password").to_str().unwrap().to_owned();
    server.json(&["user", "add", "ann", "--password-file", &password]);
    server.json(&["user", "set", "ann", "--role", "operator"]);
    server.json(&["user", "passwd", "ann", "--password-file", &password]);
    server.json(&["token", "add", "card.1", "--user", "ann"]);
    server.json(&["config", "set", "events.history", "5000"]);
    server.fails(4, &["config", "set", "events.history", "5"]);
    server.json(&["server", "offline", "s1", "--reason", "new disks"]);
    server.json(&["user", "remove", "ann"]);
    let all = server.json(&["audit", "list"]);
    let all = all.as_array().unwrap();
    let told = |entry: &Value| {
        let facts = ["action", "subject"].map(|field| entry[field].as_str().unwrap().to_owned());
        facts.join(" ")
    };
    assert_eq!(
        all.iter().map(told).collect::<Vec<_>>(),
        [
            "added user:ann",
            "changed user:ann",
            "changed user:ann",
            "added token:card.1",
            "added setting:events.history",
            "changed server:s1",
            // The account's token goes with it.
            "removed user:ann",
            "removed token:card.1",
        ]
    );
    for (place, entry) in all.iter().enumerate() {
        assert_eq!(entry["id"], json!(place + 1));
        assert_eq!(entry["who"], "root on s1");
        assert_eq!(entry["from"], "local socket of s1");
    }
    let [_, role, passwd, _, setting, offline, ..] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(
        (&role["before"]["role"], &role["after"]["role"]),
        (&json!("user"), &json!("operator"))
    );
    assert_eq!(role["details"], json!({}));
    assert_eq!(passwd["details"], json!({"password": "set"}));
    assert_eq!(
        (&setting["before"], &setting["after"]),
        (&Value::Null, &json!("5000"))
    );
    assert_eq!(offline["after"]["offline"]["reason"], "new disks");
    let text = serde_json::to_string(all).unwrap();
    assert!(!text.contains("argon2"), "{text}");
    let some = |arguments: &[&str]| server.json(&[&["audit", "list"], arguments].concat());
    let ids = |list: Value| -> Vec<u64> {
        let entries = list.as_array().unwrap().clone();
        entries
            .iter()
            .map(|entry| entry["id"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(ids(some(&["--subject", "token:card.1"])), [4, 8]);
    assert_eq!(ids(some(&["--subject", "user"])), [1, 2, 3, 7]);
    assert_eq!(ids(some(&["--last", "2"])), [7, 8]);
    assert_eq!(ids(some(&["--since", "5"])), [5, 6, 7, 8]);
    assert_eq!(ids(some(&["--who", "root", "--last", "1"])), [8]);
    assert_eq!(ids(some(&["--who", "admin"])), [0; 0]);
}
