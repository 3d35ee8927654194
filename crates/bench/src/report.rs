//! `docs/BENCHMARKS.md`: one section a bench, each with its set-up. A run replaces the sections of the benches it ran and
//! leaves the others.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::samples::Samples;

const PAGE: &str = "docs/BENCHMARKS.md";
const HEAD: &str = "# Benchmarks

What a user feels, measured beside what they would otherwise use: both sides in one run on one machine, taking turns.
Written by `cargo xtask bench`; each section says when and how it was measured. Absolute figures are those of a small
machine that carries all servers and the clients at once; the ratios are what to look at.
";

/// A table under construction.
pub(crate) struct Table {
    text: String,
}

impl Table {
    /// A table with these columns; the first is text, the others are numbers.
    pub(crate) fn new(columns: &[&str]) -> Self {
        let mut table = Self {
            text: String::new(),
        };
        table.row(columns);
        let rules: Vec<&str> = columns
            .iter()
            .enumerate()
            .map(|(index, _)| if index == 0 { "---" } else { "---:" })
            .collect();
        table.row(&rules);
        table
    }

    /// Adds a row.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        self.text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }

    /// The table as Markdown.
    pub(crate) fn finish(self) -> String {
        self.text
    }
}

/// Milliseconds with one digit behind the point, three below ten.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.2}")
    } else {
        format!("{millis:.0}")
    }
}

/// A rate a second in groups of three digits.
pub(crate) fn rate(per_second: f64) -> String {
    let digits = format!("{per_second:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The machine and the moment, for the foot of each section.
///
/// # Errors
/// When the folder for data cannot be written to.
pub(crate) fn set_up() -> Result<String> {
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default();
        line.split_once(':')
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    };
    let printed = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let folder = std::env::temp_dir();
    Ok(format!(
        "{}; {cores} cores ({}), {} memory, Linux {}, data on {} with {} ms for an fdatasync of 4 KiB (median).",
        printed("date", &["-u", "+%Y-%m-%d"]),
        first("/proc/cpuinfo", "model name"),
        first("/proc/meminfo", "MemTotal"),
        printed("uname", &["-r"]),
        printed(
            "stat",
            &["--file-system", "--format=%T", &folder.to_string_lossy()]
        ),
        millis(sync_time(&folder)?.median()),
    ))
}

/// How long it takes to have 4 KiB on disk: the unit that every acknowledged change is paid in.
fn sync_time(folder: &Path) -> Result<Samples> {
    use std::io::Write;
    let mut file = tempfile::tempfile_in(folder).context("a temporary file")?;
    let mut took = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 4096])?;
        let start = Instant::now();
        file.sync_data()?;
        took.push(start.elapsed());
    }
    Ok(Samples::of(took))
}

/// Writes a section into the page.
///
/// # Errors
/// When the page cannot be read or written.
pub(crate) fn write(root: &Path, name: &str, title: &str, body: &str) -> Result<()> {
    let path = root.join(PAGE);
    let old = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).context(PAGE),
    };
    std::fs::write(&path, with_section(&old, name, title, body)).context(PAGE)
}

/// The page with one section replaced or appended. Sections stand between two comments with their name.
fn with_section(page: &str, name: &str, title: &str, body: &str) -> String {
    let (opens, closes) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->\n"),
    );
    let mut section = opens.clone();
    let _infallible = write!(section, "## {title}\n\n{}\n{closes}", body.trim_end());
    let page = if page.is_empty() { HEAD } else { page };
    match (page.find(&opens), page.find(&closes)) {
        (Some(from), Some(to)) if from < to => {
            let (before, rest) = (page.get(..from), page.get(to + closes.len()..));
            format!(
                "{}{section}{}",
                before.unwrap_or_default(),
                rest.unwrap_or_default()
            )
        }
        _ => format!("{}\n\n{section}", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_where_it_stands() {
        let page = with_section("", "one", "One", "first");
        let page = with_section(&page, "two", "Two", "second");
        let again = with_section(&page, "one", "One", "third\n");
        assert!(again.starts_with(HEAD));
        assert_eq!(again, page.replace("first", "third"));
        assert!(again.find("third") < again.find("second"));
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(rate(1_234_567.4), "1,234,567");
        assert_eq!(rate(12.0), "12");
        assert_eq!(millis(Duration::from_micros(1234)), "1.23");
        assert_eq!(millis(Duration::from_micros(12_340)), "12");
    }

    #[test]
    fn a_table_is_markdown() {
        let mut table = Table::new(&["what", "ms"]);
        table.row(&["x", "1"]);
        assert_eq!(table.finish(), "| what | ms |\n| --- | ---: |\n| x | 1 |\n");
    }
}
