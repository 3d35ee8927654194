//! `cargo xtask advisories`: looks every crate of `Cargo.lock` up among known vulnerabilities (RustSec), and notes on
//! `docs/advisories.md` which were looked up, when, and in what.
//!
//! The database is on GitHub alone, which the build machine does not reach; and one that changes by itself would fail a build of
//! yesterday without a change. So `tidy` asks for less, and always: that no crate is in `Cargo.lock` which nobody has looked up.
//! Always true: the page is written only when nothing was found.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use toml::{Table, Value};

use crate::{programs, setup};

/// Where it is noted what was looked up.
pub(crate) const PAGE: &str = "docs/advisories.md";
/// What cargo-deny calls the folder of RustSec's database.
const DATABASE: &str = "advisory-db-3157b0e258782691";
const FENCE: &str = "```";
const HEAD: &str = "# Known vulnerabilities

Every crate that Stead is built of was looked up in the database of [RustSec](https://rustsec.org): vulnerabilities, unsound code, crates
that nobody maintains, versions that were taken back (of the last as far as the machine's copy of the registry's index knew), for the targets that
`deny.toml` names. `cargo xtask tidy`, and so `.ci/run`, fails when `Cargo.lock` has a crate that is not on this
page in that version; `cargo xtask advisories` looks all of them up again and writes the page. Where GitHub is not reached, give it a
checkout of `rustsec/advisory-db`: `cargo xtask advisories FOLDER`.

What this does not do: it says nothing of what became known after the date of the database below, and so little of crates that are younger. So it is to be run again
before a release, whatever `tidy` says. An advisory that does not concern Stead stands in `deny.toml` with the reason.
";

/// What `Cargo.lock` has of registries, each as `name version`.
///
/// # Errors
/// When it is not what cargo writes.
fn packages(lock: &str) -> Result<BTreeSet<String>> {
    let lock: Table = lock.parse().context("Cargo.lock")?;
    let all = lock.get("package").and_then(Value::as_array);
    let word = |package: &Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    let all = all.context("Cargo.lock has no packages")?.iter();
    let foreign = all.filter(|package| package.get("source").is_some());
    let named = foreign.filter_map(|package| {
        Some(format!(
            "{} {}",
            word(package, "name")?,
            word(package, "version")?
        ))
    });
    Ok(named.collect())
}

/// What the page says was looked up.
fn covered(page: &str) -> BTreeSet<&str> {
    let mut lines = page.lines().skip_while(|line| *line != FENCE);
    lines.next();
    lines.take_while(|line| *line != FENCE).collect()
}

/// The crates of `Cargo.lock` that were not looked up.
///
/// # Errors
/// When `Cargo.lock` cannot be read.
pub(crate) fn not_looked_up(root: &Path) -> Result<Vec<String>> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    let page = fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    let covered = covered(&page);
    let all = packages(&lock)?.into_iter();
    Ok(all.filter(|one| !covered.contains(one.as_str())).collect())
}

/// Looks everything up, in the database of this folder or in one that is fetched, and writes the page; says whether nothing was found.
///
/// # Errors
/// When a tool is missing and cannot be installed, the database cannot be had, or the page cannot be written.
#[expect(clippy::print_stdout, reason = "what the command is for")]
pub(crate) fn run(root: &Path, database: Option<&Path>) -> Result<bool> {
    setup::tools(root)?;
    let folder = programs::target(root).join("advisories");
    let databases = folder.join(match database {
        Some(_) => "given",
        None => "fetched",
    });
    fs::create_dir_all(&databases).with_context(|| format!("making {}", databases.display()))?;
    let held = databases.join(DATABASE);
    if let Some(database) = database {
        let database = database
            .canonicalize()
            .with_context(|| format!("{} is not there", database.display()))?;
        let _before = fs::remove_file(&held);
        symlink(&database, &held).with_context(|| format!("linking {}", held.display()))?;
    }
    let rules = fs::read_to_string(root.join("deny.toml")).context("reading deny.toml")?;
    let rules: Table = rules.parse().context("deny.toml")?;
    let config = folder.join("deny.toml");
    fs::write(
        &config,
        with_database(rules.clone(), &databases).to_string(),
    )
    .with_context(|| format!("writing {}", config.display()))?;
    let mut deny = Command::new(programs::cache("STEAD_TOOLS", "tools")?.join("bin/cargo-deny"));
    deny.current_dir(root).arg("--config").arg(&config);
    deny.arg("--workspace");
    if database.is_some() {
        deny.arg("--offline");
    }
    let status = deny.args(["check", "advisories"]).status();
    if !status.context("starting cargo-deny")?.success() {
        println!(
            "advisories: something was found, or the database cannot be read; {PAGE} stays as it is"
        );
        return Ok(false);
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;
    let all = packages(&lock)?;
    let page = page(&looked_up(&held, &rules)?, &all);
    fs::write(root.join(PAGE), page).context(PAGE)?;
    println!(
        "advisories: nothing found for {} crates; {PAGE} says so",
        all.len()
    );
    Ok(true)
}

/// The rules of `deny.toml`, with the folder in which the database is. How old it is the page says.
fn with_database(mut rules: Table, databases: &Path) -> Table {
    let section = rules
        .entry("advisories")
        .or_insert(Value::Table(Table::new()));
    if let Some(section) = section.as_table_mut() {
        let path = databases.to_string_lossy().into_owned();
        section.insert("db-path".to_owned(), Value::String(path));
        let age = Value::String("P3650D".to_owned());
        section.insert("maximum-db-staleness".to_owned(), age);
    }
    rules
}

/// One row: when, in what, with what, and what was passed over.
fn looked_up(database: &Path, rules: &Table) -> Result<String> {
    let today = programs::output(Command::new("date").args(["-u", "+%F"]))?;
    let mut git = Command::new("git");
    git.arg("-C").arg(database);
    let state = programs::output(git.args(["log", "-1", "--format=`%h` of %cs"]))?;
    let passed_over = passed_over(rules);
    let found = match passed_over.is_empty() {
        true => "nothing; nothing is passed over".to_owned(),
        false => format!(
            "nothing but what `deny.toml` passes over: {}",
            passed_over.join(", ")
        ),
    };
    let (today, state, version) = (today.trim(), state.trim(), setup::CARGO_DENY);
    if state.is_empty() {
        bail!("{} is no checkout with git", database.display());
    }
    Ok(format!("| {today} | {state} | {version} | {found} |"))
}

/// The advisories that `deny.toml` says do not concern Stead.
fn passed_over(rules: &Table) -> Vec<String> {
    let ignored = rules.get("advisories").and_then(|it| it.get("ignore"));
    let ignored = ignored.and_then(Value::as_array).into_iter().flatten();
    let id = |one: &Value| match one {
        Value::String(id) => Some(id.clone()),
        other => other.get("id")?.as_str().map(str::to_owned),
    };
    ignored.filter_map(id).collect()
}

fn page(row: &str, all: &BTreeSet<String>) -> String {
    let mut page = format!(
        "{HEAD}\n| looked up | in rustsec/advisory-db at | with cargo-deny | found |\n| --- | --- | --- | --- |\n{row}\n\n{FENCE}\n"
    );
    for one in all {
        page.push_str(one);
        page.push('\n');
    }
    page.push_str(FENCE);
    page.push('\n');
    page
}

/// What `tidy` says of a crate that was not looked up.
pub(crate) fn remedy(one: &str) -> String {
    format!("{one} was not looked up among known vulnerabilities: cargo xtask advisories")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n\
        [[package]]\nname = \"serde\"\nversion = \"1.0.1\"\nsource = \"registry+x\"\n\
        [[package]]\nname = \"tar\"\nversion = \"0.4.1\"\nsource = \"registry+x\"\n";

    #[test]
    fn a_crate_that_nobody_looked_up_is_found_and_its_version_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs::write(root.join("Cargo.lock"), LOCK).expect("a lock file");
        let all = ["serde 1.0.1", "tar 0.4.1"];
        assert_eq!(not_looked_up(root).expect("a list"), all);
        fs::create_dir(root.join("docs")).expect("a folder");
        let looked_up = BTreeSet::from(["serde 1.0.1".to_owned(), "tar 0.4.0".to_owned()]);
        fs::write(root.join(PAGE), page("| row |", &looked_up)).expect("a page");
        assert_eq!(not_looked_up(root).expect("a list"), ["tar 0.4.1"]);
        let looked_up = packages(LOCK).expect("packages");
        fs::write(root.join(PAGE), page("| row |", &looked_up)).expect("a page");
        assert_eq!(not_looked_up(root).expect("a list"), Vec::<String>::new());
    }

    #[test]
    fn rules_stay_and_what_they_pass_over_is_named() {
        let rules: Table = "[advisories]\nignore = [\"A-1\", { id = \"A-2\", reason = \"not used\" }]\n[bans]\nwildcards = \"deny\"\n"
            .parse()
            .expect("rules");
        assert_eq!(passed_over(&rules), ["A-1", "A-2"]);
        let with = with_database(rules, Path::new("/db"));
        assert_eq!(passed_over(&with), ["A-1", "A-2"]);
        assert!(with.contains_key("bans"));
        let path = with.get("advisories").and_then(|it| it.get("db-path"));
        assert_eq!(path.and_then(Value::as_str), Some("/db"));
    }
}
