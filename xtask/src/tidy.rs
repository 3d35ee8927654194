//! `cargo xtask tidy`: the rules of the house, checked like a test.
//!
//! Each rule is a function from the [`House`] (and documents) to [`Finding`]s, in a module of its own; nothing here
//! changes a file. Start at [`check`]. A new rule is one more line there.

mod edges;
mod manifest;
mod pages;
mod purity;
mod ratchet;
mod settings;
mod sizes;
mod text;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::advisories;
use crate::house::House;

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, below the root.
    pub(crate) path: String,
    /// The line, where there is one.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}

impl Finding {
    fn at(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: Some(line),
            message: message.into(),
        }
    }

    fn of(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Checks every rule and returns what breaks one, sorted by place.
///
/// # Errors
/// When the workspace or a document cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let house = House::read(root)?;
    let read = |path: &str| {
        std::fs::read_to_string(root.join(path)).with_context(|| format!("reading {path}"))
    };

    let floors = edges::Floors::parse(&read(edges::DOCUMENT)?)?;
    let ratchet = ratchet::Ratchet::parse(&read(ratchet::FILE)?)?;
    let mut findings = Vec::new();
    findings.extend(edges::check(&house, &floors));
    findings.extend(purity::check(&house, &floors, &read(purity::CLIPPY)?));
    findings.extend(ratchet.check(sizes::measure(&house)));
    findings.extend(house.files.iter().flat_map(text::check));
    findings.extend(manifest::check(&house, &read("Cargo.toml")?)?);
    findings.extend(pages::check(root)?);
    findings.extend(settings::check(root));
    let unknown = advisories::not_looked_up(root)?.into_iter();
    findings.extend(unknown.map(|one| Finding::of("Cargo.lock", advisories::remedy(&one))));
    findings.sort();
    Ok(findings)
}

/// Writes the pages that are made from the code.
///
/// # Errors
/// When one cannot be written.
pub(crate) fn write(root: &Path) -> Result<()> {
    settings::write(root)
}

/// Runs the rules for a person: prints what breaks one, and says whether none does.
///
/// # Errors
/// As [`check`].
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn run(root: &Path) -> Result<bool> {
    let findings = check(root)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => println!("tidy: the house is in order"),
        1 => println!("tidy: 1 finding"),
        many => println!("tidy: {many} findings"),
    }
    Ok(findings.is_empty())
}
