//! Pages for people: every decision is in the index of decisions, and links between pages lead somewhere.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tidy::Finding;

const DECISIONS: &str = "docs/decisions";

/// Checks the pages in the root, in `docs/` and in `docs/decisions/`.
///
/// # Errors
/// When a folder or page cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let index = std::fs::read_to_string(root.join(DECISIONS).join("README.md"))
        .context("the index of decisions")?;
    for folder in ["", "docs", DECISIONS] {
        for page in pages(&root.join(folder))? {
            let text = std::fs::read_to_string(&page)
                .with_context(|| format!("reading {}", page.display()))?;
            let path = page.strip_prefix(root)?.to_string_lossy().into_owned();
            let name = page.file_name().unwrap_or_default().to_string_lossy();
            if folder == DECISIONS && !index.contains(&format!("({name})")) && name != "README.md" {
                findings.push(Finding::of(
                    &path,
                    format!("has no line in {DECISIONS}/README.md"),
                ));
            }
            for (line, target) in links(&text) {
                if !page.parent().unwrap_or(root).join(&target).exists() {
                    findings.push(Finding::at(
                        &path,
                        line,
                        format!("links to `{target}`, which does not exist"),
                    ));
                }
            }
        }
    }
    Ok(findings)
}

fn pages(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Targets of links to files, with the line they stand on; fenced code is passed over.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for after in line.split("](").skip(1) {
            let target = after.split(')').next().unwrap_or_default();
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:") {
                found.push((index + 1, file.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_files_are_found() {
        let text = "[a](b.md#c) [d](https://e) [f](#g)\n```\n[h](i)\n```\n[j](k/)\n";
        assert_eq!(links(text), [(1, "b.md".to_owned()), (5, "k/".to_owned())]);
    }

    #[test]
    fn decisions_are_indexed_and_links_hold() {
        let folder = tempfile::tempdir().expect("a folder");
        let decisions = folder.path().join(DECISIONS);
        std::fs::create_dir_all(&decisions).expect("a folder");
        for (name, text) in [
            ("README.md", "[1](0001-a.md)"),
            ("0001-a.md", "[x](../b.md)"),
            ("0002-b.md", ""),
        ] {
            std::fs::write(decisions.join(name), text).expect("a page");
        }
        let found: Vec<String> = check(folder.path())
            .expect("pages")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found
                .iter()
                .any(|line| line.starts_with("docs/decisions/0001-a.md:1: links to `../b.md`"))
        );
        assert!(
            found
                .iter()
                .any(|line| line.starts_with("docs/decisions/0002-b.md: has no line"))
        );
    }
}
