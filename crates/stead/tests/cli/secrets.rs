//! Stored secrets on the command line: kept from files, stdin and nothing else, listed, never shown.

use crate::running::{Running, run};

#[test]
fn secrets_from_beginning_to_end() {
    let server = Running::start();
    let file = server.path("value");
    std::fs::write(&file, "first value\n").unwrap();
    let file = file.to_str().unwrap();
    let kept = server.json(&["secret", "set", "db.password", "--file", file]);
    assert_eq!(kept["name"], "db.password");
    assert_eq!(kept["by"], "root on s1");
    assert_eq!(kept["has_value"], true);
    assert!(kept["change_because"].is_null() && kept.get("value").is_none());
    let version = kept["version_number"].as_u64().unwrap();
    let described = [
        "secret",
        "set",
        "db.password",
        "--description",
        "of the shop",
    ];
    let described = server.json(&described);
    assert_eq!(described["description"], "of the shop");
    assert_eq!(described["set"], kept["set"], "the value stays");
    assert!(described["version_number"].as_u64().unwrap() > version);

    let mut command = server.command(&["secret", "set", "from-stdin", "--file", "-"]);
    let (code, out, err) = run(command.write_stdin("another value"));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("Secret from-stdin is kept"), "{out}");
    // Without a terminal it cannot be typed, and an argument is no place for it.
    let told = server.fails(2, &["secret", "set", "typed"]);
    assert!(told.contains("--file -"), "{told}");
    let (code, _, _) = run(server.command(&["secret", "set", "typed", "a value"]));
    assert_eq!(code, 2);
    for (content, why) in [
        (String::new(), "is empty"),
        ("x".repeat(32_769), "more than 32768"),
    ] {
        std::fs::write(file, content).unwrap();
        let told = server.fails(1, &["secret", "set", "bad", "--file", file]);
        assert!(told.contains(why), "{told}");
    }
    let told = server.fails(4, &["secret", "set", "none", "--description", "of nothing"]);
    assert!(told.contains("there is no secret"), "{told}");

    let listed = server.json(&["secret", "list"]);
    let names: Vec<&str> = (listed.as_array().unwrap().iter())
        .map(|secret| secret["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["db.password", "from-stdin"]);
    let (code, out, _) = run(server.command(&["secret", "list"]));
    assert!(code == 0 && out.contains("of the shop"), "{out}");
    server.json(&["secret", "remove", "from-stdin"]);
    let told = server.fails(4, &["secret", "get", "from-stdin"]);
    assert!(told.contains("nearest is db.password"), "{told}");
    let everything = [
        server.json(&["audit", "list"]),
        server.json(&["event", "list"]),
    ];
    for answer in everything {
        let answer = answer.to_string();
        assert!(
            !answer.contains("first value") && !answer.contains("another value"),
            "{answer}"
        );
    }
}
