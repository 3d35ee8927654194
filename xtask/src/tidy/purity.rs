//! Pure crates stay pure: the same `clippy.toml` bars clocks, randomness and I/O in each, and their dependencies come
//! from a short list of libraries known to do none of it.

use crate::house::House;
use crate::tidy::Finding;
use crate::tidy::edges::Floors;

/// The one text that each pure crate has as its `clippy.toml`.
pub(crate) const CLIPPY: &str = "xtask/pure.clippy.toml";

/// Libraries that compute and do nothing else, as they are used here.
const PURE_LIBRARIES: [&str; 12] = [
    "bytes",
    "crc32fast",
    "data-encoding",
    "imbl",
    "ipnet",
    "jiff",
    "postcard",
    "proxy-header",
    "serde",
    "serde_json",
    "thiserror",
    "zeroize",
];

/// Checks every crate that the table calls pure.
pub(crate) fn check(house: &House, floors: &Floors, clippy: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, member) in floors
        .pure()
        .filter_map(|name| house.crates.get_key_value(name))
    {
        let path = format!("{}/clippy.toml", member.folder);
        match std::fs::read_to_string(house.root.join(&path)) {
            Ok(text) if text == clippy => {}
            Ok(_) => findings.push(Finding::of(path, format!("differs from {CLIPPY}; link it"))),
            Err(_) => findings.push(Finding::of(
                &path,
                format!("`{name}` is pure and needs this file: ln -s ../../{CLIPPY} {path}"),
            )),
        }
        let outside = member
            .dependencies
            .iter()
            .filter(|used| !house.crates.contains_key(*used));
        for used in outside.filter(|used| !PURE_LIBRARIES.contains(&used.as_str())) {
            let message = format!(
                "`{name}` is pure; `{used}` is not on the list of pure libraries in xtask/src/tidy/purity.rs"
            );
            findings.push(Finding::of(
                format!("{}/Cargo.toml", member.folder),
                message,
            ));
        }
        let inside = member
            .dependencies
            .iter()
            .filter(|used| house.crates.contains_key(*used));
        for used in inside.filter(|used| floors.pure().all(|pure| pure != used.as_str())) {
            let message = format!("`{name}` is pure and `{used}` is not");
            findings.push(Finding::of(
                format!("{}/Cargo.toml", member.folder),
                message,
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_pure_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, dependencies) in [
            ("a", "serde.workspace = true\n"),
            ("b", "tokio.workspace = true\na.workspace = true\n"),
            ("c", "d.workspace = true\n"),
            ("d", ""),
        ] {
            let below = folder.path().join("crates").join(name);
            std::fs::create_dir_all(&below).expect("a folder");
            let manifest = format!("[package]\nname = \"{name}\"\n[dependencies]\n{dependencies}");
            std::fs::write(below.join("Cargo.toml"), manifest).expect("a file");
            if name != "c" {
                std::fs::write(
                    below.join("clippy.toml"),
                    if name == "b" { "other" } else { "rules" },
                )
                .expect("a file");
            }
        }
        std::fs::create_dir(folder.path().join("xtask")).expect("a folder");
        let house = House::read(folder.path()).expect("a workspace");
        let floors = Floors::parse(
            "| floor | crate | pure | for | may use |\n| --- |\n| 0 | `a` | pure | | – |\n| 0 | `d` | | | – |\n\
             | 1 | `b` | pure | | `a` |\n| 1 | `c` | pure | | `d` |\n",
        )
        .expect("a table");
        let found: Vec<String> = check(&house, &floors, "rules")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 4, "{found:#?}");
        assert!(
            found
                .iter()
                .any(|line| line.contains("crates/b/clippy.toml: differs"))
        );
        assert!(
            found
                .iter()
                .any(|line| line.contains("`tokio` is not on the list"))
        );
        assert!(
            found
                .iter()
                .any(|line| line.contains("`c` is pure and needs this file"))
        );
        assert!(
            found
                .iter()
                .any(|line| line.contains("`c` is pure and `d` is not"))
        );
    }
}
