//! Which crate may use which: the table of floors in `docs/ARCHITECTURE.md` against the manifests.
//!
//! The document is the source of truth. Start at [`Floors::parse`] for what the table means, at [`check`] for the rules.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};

use crate::house::House;
use crate::tidy::Finding;

/// Where the table stands.
pub(crate) const DOCUMENT: &str = "docs/ARCHITECTURE.md";
const HEADER: &str = "| floor | crate | pure | for | may use |";

/// The table, one row a crate.
#[derive(Debug)]
pub(crate) struct Floors {
    rows: BTreeMap<String, Row>,
}

/// What the table says about one crate.
#[derive(Debug)]
pub(crate) struct Row {
    /// `None` is the floor `dev`.
    floor: Option<u32>,
    /// Whether it has no clock, randomness, I/O or threads.
    pub(crate) pure: bool,
    /// Line in the document.
    line: usize,
    uses: BTreeSet<String>,
    /// Allowed for tests only.
    tests_use: BTreeSet<String>,
}

impl Floors {
    /// Reads the table out of the document.
    ///
    /// # Errors
    /// When there is no such table, or a row of it cannot be understood: names the row.
    pub(crate) fn parse(document: &str) -> Result<Self> {
        let mut raw = Vec::new();
        let mut lines = document
            .lines()
            .enumerate()
            .skip_while(|(_, line)| line.trim() != HEADER);
        ensure!(lines.next().is_some(), "{DOCUMENT} has no table `{HEADER}`");
        for (index, line) in lines.skip(1).take_while(|(_, line)| line.starts_with('|')) {
            let cells: Vec<&str> = line
                .trim()
                .trim_matches('|')
                .split('|')
                .map(str::trim)
                .collect();
            let [floor, name, pure, _, uses] = cells.as_slice() else {
                bail!("{DOCUMENT}:{}: a row needs five cells", index + 1);
            };
            let name = name.trim_matches('`').to_owned();
            let floor = match *floor {
                "dev" => None,
                number => match number.parse() {
                    Ok(number) => Some(number),
                    Err(_) => bail!(
                        "{DOCUMENT}:{}: floor `{number}` is no number and not `dev`",
                        index + 1
                    ),
                },
            };
            ensure!(
                matches!(*pure, "pure" | ""),
                "{DOCUMENT}:{}: `{pure}` is not `pure`",
                index + 1
            );
            raw.push((index + 1, name, floor, *pure == "pure", *uses));
        }
        let known: BTreeMap<&str, Option<u32>> = raw
            .iter()
            .map(|(_, name, floor, ..)| (name.as_str(), *floor))
            .collect();
        let mut rows = BTreeMap::new();
        for (line, name, floor, pure, cell) in &raw {
            let mut row = Row {
                floor: *floor,
                pure: *pure,
                line: *line,
                uses: BTreeSet::new(),
                tests_use: BTreeSet::new(),
            };
            for word in cell.split(',').map(str::trim) {
                row.take(word, &known)
                    .map_err(|wrong| anyhow::anyhow!("{DOCUMENT}:{line}: {wrong}"))?;
            }
            ensure!(
                rows.insert(name.clone(), row).is_none(),
                "{DOCUMENT}:{line}: `{name}` stands twice"
            );
        }
        Ok(Self { rows })
    }

    /// Names of the pure crates.
    pub(crate) fn pure(&self) -> impl Iterator<Item = &str> {
        self.rows
            .iter()
            .filter(|(_, row)| row.pure)
            .map(|(name, _)| name.as_str())
    }
}

impl Row {
    fn take(&mut self, word: &str, known: &BTreeMap<&str, Option<u32>>) -> Result<()> {
        match word {
            "–" | "" => {}
            "all" => self
                .uses
                .extend(known.keys().map(|name| (*name).to_owned())),
            "all below" => {
                let Some(floor) = self.floor else {
                    bail!("`all below` means nothing on the floor `dev`")
                };
                let below = known
                    .iter()
                    .filter(|(_, other)| other.is_some_and(|other| other < floor));
                self.uses.extend(below.map(|(name, _)| (*name).to_owned()));
            }
            named => {
                let (name, tests_only) = match named.strip_suffix("(tests)") {
                    Some(name) => (name.trim().trim_matches('`'), true),
                    None => (named.trim_matches('`'), false),
                };
                let Some(floor) = known.get(name) else {
                    bail!("`{name}` has no row of its own")
                };
                let below = match (self.floor, floor) {
                    (Some(mine), Some(other)) => *other < mine,
                    (Some(_), None) => tests_only,
                    (None, _) => true,
                };
                ensure!(below, "`{name}` is not below this floor");
                if tests_only {
                    &mut self.tests_use
                } else {
                    &mut self.uses
                }
                .insert(name.to_owned());
            }
        }
        Ok(())
    }
}

/// Compares the manifests with the table.
pub(crate) fn check(house: &House, floors: &Floors) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, row) in &floors.rows {
        if !house.crates.contains_key(name) {
            findings.push(Finding::at(
                DOCUMENT,
                row.line,
                format!("there is no crate `{name}`"),
            ));
        }
    }
    for (name, member) in &house.crates {
        let manifest = format!("{}/Cargo.toml", member.folder);
        let Some(row) = floors.rows.get(name) else {
            findings.push(Finding::of(
                manifest,
                format!("`{name}` has no row in the table of floors in {DOCUMENT}"),
            ));
            continue;
        };
        let edges = member.dependencies.iter().map(|used| (used, false));
        let test_edges = member.dev_dependencies.iter().map(|used| (used, true));
        for (used, in_tests) in edges
            .chain(test_edges)
            .filter(|(used, _)| house.crates.contains_key(*used))
        {
            if !(row.uses.contains(used) || in_tests && row.tests_use.contains(used)) {
                let message = format!(
                    "`{name}` may not use `{used}`: {DOCUMENT}, line {}, does not name it",
                    row.line
                );
                findings.push(Finding::of(manifest.clone(), message));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::Crate;

    const TABLE: &str = "# Map\n\n| floor | crate | pure | for | may use |\n| --- | --- | --- | --- | --- |\n\
        | 0 | `model` | pure | x | – |\n| 1 | `wire` | | x | `model` |\n| 1 | `policy` | pure | x | `model` |\n\
        | 2 | `stead` | | x | all below, `kit` (tests) |\n| dev | `kit` | | x | – |\n| dev | `sim` | | x | all |\n\nMore.\n";

    fn house(members: &[(&str, &str)]) -> House {
        let mut house = House {
            root: "/".into(),
            crates: BTreeMap::new(),
            files: Vec::new(),
        };
        for (name, sections) in members {
            let text = format!("[package]\nname = \"{name}\"\n{sections}");
            let (name, member) =
                Crate::parse(&format!("crates/{name}"), &text).expect("a manifest");
            house.crates.insert(name, member);
        }
        house
    }

    fn messages(members: &[(&str, &str)]) -> Vec<String> {
        let floors = Floors::parse(TABLE).expect("a table");
        let all = ["model", "wire", "policy", "stead", "kit", "sim"];
        let missing = all
            .iter()
            .filter(|name| members.iter().all(|(other, _)| other != *name))
            .map(|name| (*name, ""));
        let members: Vec<(&str, &str)> = members.iter().copied().chain(missing).collect();
        check(&house(&members), &floors)
            .into_iter()
            .map(|finding| finding.to_string())
            .collect()
    }

    #[test]
    fn allowed_edges_pass() {
        let found = messages(&[
            (
                "wire",
                "[dependencies]\nmodel.workspace = true\nserde.workspace = true\n",
            ),
            (
                "stead",
                "[dependencies]\nwire.workspace = true\n[dev-dependencies]\nkit.workspace = true\n",
            ),
            ("sim", "[dependencies]\npolicy.workspace = true\n"),
        ]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn siblings_upward_edges_and_test_crates_are_refused() {
        let found = messages(&[
            ("model", "[dev-dependencies]\nstead.workspace = true\n"),
            ("wire", "[dependencies]\npolicy.workspace = true\n"),
            ("stead", "[dependencies]\nkit.workspace = true\n"),
        ]);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found
                .iter()
                .any(|line| line.contains("`wire` may not use `policy`"))
        );
    }

    #[test]
    fn crates_and_rows_match() {
        let floors = Floors::parse(TABLE).expect("a table");
        let found = check(&house(&[("model", ""), ("other", "")]), &floors);
        assert!(
            found
                .iter()
                .any(|finding| finding.message.contains("`other` has no row"))
        );
        assert!(
            found
                .iter()
                .any(|finding| finding.message == "there is no crate `wire`")
        );
    }

    #[test]
    fn a_table_that_makes_no_sense_names_its_line() {
        for (row, expected) in [
            ("| 0 | `a` | | x | `b` |", ":3: `b` has no row"),
            ("| 0 | `a` | | x | `a` |", ":3: `a` is not below"),
            ("| x | `a` | | x | – |", ":3: floor `x`"),
            ("| 0 | `a` | maybe | x | – |", ":3: `maybe`"),
            ("| 0 | `a` | x | – |", ":3: a row needs"),
        ] {
            let wrong = Floors::parse(&format!("{HEADER}\n| --- |\n{row}\n"))
                .expect_err("no sense")
                .to_string();
            assert!(wrong.contains(expected), "{wrong}");
        }
        assert!(Floors::parse("no table").is_err());
    }
}
