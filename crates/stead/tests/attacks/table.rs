//! `docs/attacks.md` names what there is, and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the project's folder")
        .to_owned()
}

/// The tests that the table names: file, and function in it.
fn named() -> BTreeSet<(String, String)> {
    let table = fs::read_to_string(project().join("docs/attacks.md")).expect("the table");
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|line| line.trim_end_matches('|').rsplit('|').next());
    let tests = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let split = |test: &str| {
        let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("{test:?}"));
        (file.to_owned(), function.to_owned())
    };
    tests.map(split).collect()
}

#[test]
fn every_attack_has_a_test_and_every_test_here_is_in_the_table() {
    let named = named();
    assert!(named.len() > 15, "{named:?}");
    for (file, function) in &named {
        let path = project().join("crates").join(file);
        let source = fs::read_to_string(&path);
        let source = source.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let is_there = source.contains(&format!("fn {function}("));
        assert!(is_there, "no test {function} in {file}");
    }
    let here = project().join("crates/stead/tests/attacks");
    for entry in fs::read_dir(here).expect("this folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "table.rs" {
            continue;
        }
        let source = fs::read_to_string(entry.path()).expect("a source");
        let tests = source.split("#[test]\n").skip(1).map(|after| {
            let signature = after.strip_prefix("fn ").unwrap_or(after);
            signature.split('(').next().unwrap_or_default().to_owned()
        });
        for function in tests {
            let test = (format!("stead/tests/attacks/{name}"), function);
            assert!(named.contains(&test), "{test:?} is not in docs/attacks.md");
        }
    }
}
