//! `docs/settings.md`: every setting, from the catalogue in `model`, so that the page cannot be out of date.

use std::path::Path;

use anyhow::{Context, Result};
use model::settings::CATALOGUE;

use crate::tidy::Finding;

const PAGE: &str = "docs/settings.md";
const HEAD: &str = "# Settings

Settings belong to the group: `stead config set KEY VALUE` changes one everywhere and at once, on any server. Where a
server may differ, `--on SERVER` gives it a value of its own. `stead config describe KEY` says what stands here; an
unknown key or a bad value is refused with the nearest valid one. What a server must know before it has a directory
(its name, folder and addresses) is not here but in its `stead.toml`.

This page is written by `cargo xtask tidy --write` from the catalogue in the crate `model`.
";

/// Compares the page with the catalogue.
pub(super) fn check(root: &Path) -> Vec<Finding> {
    match std::fs::read_to_string(root.join(PAGE)) {
        Ok(text) if text == page() => Vec::new(),
        _ => vec![Finding::of(
            PAGE,
            "differs from the settings in `model`: cargo xtask tidy --write",
        )],
    }
}

/// Writes the page.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write(root: &Path) -> Result<()> {
    std::fs::write(root.join(PAGE), page()).context(PAGE)
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for setting in CATALOGUE {
        let (of, _) = setting.key.split_once('.').unwrap_or((setting.key, ""));
        if of != section {
            section = of;
            page.push_str(&format!(
                "\n## {section}\n\n| setting | default | values | per server | meaning |\n"
            ));
            page.push_str("| --- | --- | --- | --- | --- |\n");
        }
        let default = if setting.default.is_empty() {
            "empty".to_owned()
        } else {
            format!("`{}`", setting.default)
        };
        let values = format!("{}: {}", setting.kind.as_str(), setting.kind.range());
        let per_server = if setting.per_server { "yes" } else { "" };
        page.push_str(&format!(
            "| `{}` | {default} | {values} | {per_server} | {} |\n",
            setting.key, setting.help
        ));
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_on_the_page_once() {
        let page = page();
        for setting in CATALOGUE {
            assert_eq!(
                page.matches(&format!("| `{}` |", setting.key)).count(),
                1,
                "{}",
                setting.key
            );
        }
        assert!(
            page.lines()
                .all(|line| !line.starts_with("| `") || line.matches(" | ").count() == 4)
        );
    }

    #[test]
    fn a_page_that_differs_is_found_and_mended() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("docs")).expect("a folder");
        assert_eq!(check(folder.path()).len(), 1);
        write(folder.path()).expect("a page");
        assert_eq!(check(folder.path()), []);
    }
}
