//! Dependencies: each has its version once, in the root manifest, under a comment that says what it is for; each is
//! used by the crate that asks for it; and every crate takes the workspace's lints.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::house::{Crate, House};
use crate::tidy::Finding;

const ROOT: &str = "Cargo.toml";

/// Checks the root manifest, given as text, and those of the crates.
///
/// # Errors
/// When the text is not TOML or has no `[workspace.dependencies]`.
pub(crate) fn check(house: &House, root: &str) -> Result<Vec<Finding>> {
    let mut findings = without_reason(root);
    let table: toml::Table = root.parse().context(ROOT)?;
    let declared = table
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(toml::Value::as_table)
        .context("Cargo.toml has no [workspace.dependencies]")?;
    let asked: BTreeSet<&String> = house
        .crates
        .values()
        .flat_map(|member| member.dependencies.iter().chain(&member.dev_dependencies))
        .collect();
    let unused = declared
        .keys()
        .filter(|name| !asked.contains(name) && !house.crates.contains_key(*name));
    findings.extend(unused.map(|name| Finding::of(ROOT, format!("no crate asks for `{name}`"))));
    for (name, member) in &house.crates {
        findings.extend(of_crate(house, name, member));
    }
    Ok(findings)
}

/// Every block of lines in `[workspace.dependencies]` starts with a comment, or has one inside above the line.
fn without_reason(root: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inside = false;
    let mut reason = false;
    for (index, line) in root.lines().map(str::trim).enumerate() {
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            reason = false;
        } else if line.is_empty() {
            reason = false;
        } else if let Some(comment) = line.strip_prefix('#') {
            reason = !comment.trim().is_empty();
        } else if inside
            && !reason
            && let Some((name, _)) = line.split_once('=')
        {
            let message = format!(
                "`{}` has no comment above it that says what it is for",
                name.trim()
            );
            findings.push(Finding::at(ROOT, index + 1, message));
        }
    }
    findings
}

fn of_crate(house: &House, name: &str, member: &Crate) -> Vec<Finding> {
    let manifest = format!("{}/Cargo.toml", member.folder);
    let mut findings = Vec::new();
    if !member.takes_lints {
        findings.push(Finding::of(
            &manifest,
            "takes no lints: add `[lints]` with `workspace = true`",
        ));
    }
    for used in &member.own_versions {
        findings.push(Finding::of(
            &manifest,
            format!("`{used}` belongs into the root manifest: `{used}.workspace = true`"),
        ));
    }
    for used in member.dependencies.iter().chain(&member.dev_dependencies) {
        let ident = used.replace('-', "_");
        let mut files = house.files.iter().filter(|file| file.owner == *name);
        if !files.any(|file| file.source.find_word(&ident).next().is_some()) {
            findings.push(Finding::of(
                &manifest,
                format!("`{used}` is not used by `{name}`: remove it"),
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::house::File;

    fn house(manifest: &str, text: &str) -> House {
        let (name, member) = Crate::parse("crates/x", manifest).expect("a manifest");
        let files = vec![File::new("crates/x/src/lib.rs", &name, text.to_owned())];
        House {
            root: "/".into(),
            crates: BTreeMap::from([(name, member)]),
            files,
        }
    }

    #[test]
    fn every_dependency_says_what_it_is_for() {
        let root = "[workspace.lints]\na = 1\n[workspace.dependencies]\n# Bytes.\nbytes = \"1\"\nmore = \"1\"\n\nlone = \"1\"\n#\nempty = \"1\"\n";
        let found: Vec<_> = without_reason(root)
            .into_iter()
            .filter_map(|finding| finding.line)
            .collect();
        assert_eq!(found, [8, 10]);
    }

    #[test]
    fn dependencies_are_declared_once_and_used() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nserde-json = \"1\"\nbytes.workspace = true\nrand.workspace = true\n";
        let house = house(
            manifest,
            "//! Takes bytes.\nuse bytes::Bytes;\n// rand\nuse serde_json as json;\n",
        );
        let root = "[workspace.dependencies]\n# A.\nbytes = \"1\"\nrand = \"1\"\nspare = \"1\"\n";
        let found: Vec<String> = check(&house, root)
            .expect("TOML")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 4, "{found:#?}");
        for expected in [
            "takes no lints",
            "`serde-json` belongs into",
            "`rand` is not used",
            "no crate asks for `spare`",
        ] {
            assert!(
                found.iter().any(|line| line.contains(expected)),
                "{expected}: {found:#?}"
            );
        }
    }
}
