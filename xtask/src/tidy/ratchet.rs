//! Files and functions that are longer than they should be, listed with their length. The list may only shrink: a
//! listed one that grew is a finding, one that shrank is a finding until the list says so, one that is gone or fits is
//! a finding until its line is removed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::tidy::Finding;
use crate::tidy::sizes::Measured;

/// Where the list stands.
pub(crate) const FILE: &str = "xtask/tidy-ratchet.toml";

/// The list: name, as in [`Measured::name`], to lines.
pub(crate) struct Ratchet {
    listed: BTreeMap<String, usize>,
}

impl Ratchet {
    /// Reads the list.
    ///
    /// # Errors
    /// When it is not a TOML table `[lines]` of numbers.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse().context(FILE)?;
        let lines = table
            .get("lines")
            .cloned()
            .unwrap_or_else(|| toml::Table::new().into());
        Ok(Self {
            listed: lines
                .try_into()
                .with_context(|| format!("{FILE}: [lines] is name = number"))?,
        })
    }

    /// Compares what was measured with the limits and the list.
    pub(crate) fn check(&self, measured: Vec<Measured>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut unused = self.listed.clone();
        for thing in measured {
            let Measured {
                path,
                line,
                name,
                lines,
                limit,
            } = thing;
            if lines <= limit {
                continue;
            }
            let message = match unused.remove(&name) {
                None => {
                    format!("`{name}` has {lines} lines, {limit} are the limit: is it one idea?")
                }
                Some(listed) if lines > listed => {
                    format!("`{name}` has {lines} lines and had {listed}: it may only shrink")
                }
                Some(listed) if lines < listed => {
                    format!("`{name}` shrank: write {lines} instead of {listed} in {FILE}")
                }
                Some(_) => continue,
            };
            findings.push(Finding::at(path, line, message));
        }
        let stale = unused
            .into_keys()
            .map(|name| Finding::of(FILE, format!("`{name}` fits now or is gone: remove it")));
        findings.extend(stale);
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(list: &str, lines: usize) -> Vec<String> {
        let measured = Measured {
            path: "a.rs".into(),
            line: 7,
            name: "a.rs: f".into(),
            lines,
            limit: 70,
        };
        Ratchet::parse(list)
            .expect("a list")
            .check(vec![measured])
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn the_list_may_only_shrink() {
        let list = "[lines]\n\"a.rs: f\" = 80\n";
        assert_eq!(findings("", 70), Vec::<String>::new());
        assert!(
            findings("", 71)
                .concat()
                .contains("a.rs:7: `a.rs: f` has 71 lines")
        );
        assert_eq!(findings(list, 80), Vec::<String>::new());
        assert!(findings(list, 81).concat().contains("may only shrink"));
        assert!(
            findings(list, 79)
                .concat()
                .contains("write 79 instead of 80")
        );
        assert!(findings(list, 60).concat().contains("remove it"));
    }

    #[test]
    fn a_list_of_something_else_is_refused() {
        assert!(Ratchet::parse("[lines]\na = \"many\"\n").is_err());
    }
}
