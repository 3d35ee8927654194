//! The workspace as it lies on disk: its crates with their dependencies, and its source files.
//!
//! Read once by [`House::read`], and only looked at afterwards. Paths are relative to the root, with `/`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::source::Source;

/// Everything `tidy` looks at.
pub(crate) struct House {
    /// Where the root Cargo.toml lies.
    pub(crate) root: PathBuf,
    /// Members of the workspace by name.
    pub(crate) crates: BTreeMap<String, Crate>,
    /// Rust files of all crates.
    pub(crate) files: Vec<File>,
}

/// One member of the workspace.
pub(crate) struct Crate {
    /// Its folder below the root: `crates/model`.
    pub(crate) folder: String,
    /// What it depends on.
    pub(crate) dependencies: BTreeSet<String>,
    /// What only its tests and build depend on.
    pub(crate) dev_dependencies: BTreeSet<String>,
    /// Dependencies that give a version or path of their own instead of `workspace = true`.
    pub(crate) own_versions: BTreeSet<String>,
    /// Whether it takes the lints of the workspace.
    pub(crate) takes_lints: bool,
}

/// One Rust file.
pub(crate) struct File {
    /// Below the root: `crates/model/src/lib.rs`.
    pub(crate) path: String,
    /// Name of the crate it belongs to.
    pub(crate) owner: String,
    /// As it is.
    pub(crate) text: String,
    /// Scanned.
    pub(crate) source: Source,
}

impl File {
    /// Whether all of it is test code: below a folder `tests`, or a module file named `tests.rs`.
    pub(crate) fn is_test(&self) -> bool {
        self.path
            .split('/')
            .any(|part| part == "tests" || part == "tests.rs")
    }
}

impl House {
    /// Reads the workspace at `root`.
    ///
    /// # Errors
    /// When a manifest or source file cannot be read or a manifest is not TOML.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut house = Self {
            root: root.to_owned(),
            crates: BTreeMap::new(),
            files: Vec::new(),
        };
        let mut folders: Vec<PathBuf> = list(&root.join("crates"))?;
        folders.push(root.join("xtask"));
        for folder in folders {
            let manifest = folder.join("Cargo.toml");
            if manifest.is_file() {
                house.read_crate(&folder, &manifest)?;
            }
        }
        Ok(house)
    }

    fn read_crate(&mut self, folder: &Path, manifest: &Path) -> Result<()> {
        let text = std::fs::read_to_string(manifest)
            .with_context(|| format!("reading {}", manifest.display()))?;
        let relative = folder
            .strip_prefix(&self.root)?
            .to_string_lossy()
            .into_owned();
        let (name, read) = Crate::parse(&relative, &text)
            .with_context(|| format!("reading {}", manifest.display()))?;
        self.read_files(folder, &name)?;
        self.crates.insert(name, read);
        Ok(())
    }

    fn read_files(&mut self, folder: &Path, owner: &str) -> Result<()> {
        for path in list(folder)? {
            if path.is_dir() {
                self.read_files(&path, owner)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("reading {}", path.display()))?;
                let relative = path
                    .strip_prefix(&self.root)?
                    .to_string_lossy()
                    .into_owned();
                self.files.push(File::new(&relative, owner, text));
            }
        }
        Ok(())
    }
}

impl File {
    /// A file with its text.
    pub(crate) fn new(path: &str, owner: &str, text: String) -> Self {
        Self {
            path: path.to_owned(),
            owner: owner.to_owned(),
            source: Source::parse(&text),
            text,
        }
    }
}

impl Crate {
    /// Reads a manifest; gives the name of the package as well.
    ///
    /// # Errors
    /// When the text is no manifest of a package.
    pub(crate) fn parse(folder: &str, text: &str) -> Result<(String, Self)> {
        let manifest: toml::Table = text.parse().context("not TOML")?;
        let name = manifest
            .get("package")
            .and_then(|package| package.get("name"))
            .and_then(toml::Value::as_str)
            .context("no package name")?;
        let takes_lints = manifest
            .get("lints")
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool)
            .unwrap_or(false);
        let mut read = Self {
            folder: folder.to_owned(),
            dependencies: BTreeSet::new(),
            dev_dependencies: BTreeSet::new(),
            own_versions: BTreeSet::new(),
            takes_lints,
        };
        read.take_sections(&manifest);
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        for section in targets
            .into_iter()
            .flat_map(toml::Table::values)
            .filter_map(toml::Value::as_table)
        {
            read.take_sections(section);
        }
        Ok((name.to_owned(), read))
    }

    fn take_sections(&mut self, table: &toml::Table) {
        for (section, only_tests) in [
            ("dependencies", false),
            ("build-dependencies", false),
            ("dev-dependencies", true),
        ] {
            for (key, value) in table
                .get(section)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flatten()
            {
                let name = value
                    .get("package")
                    .and_then(toml::Value::as_str)
                    .unwrap_or(key)
                    .to_owned();
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    self.own_versions.insert(name.clone());
                }
                if only_tests {
                    &mut self.dev_dependencies
                } else {
                    &mut self.dependencies
                }
                .insert(name);
            }
        }
    }
}

/// What a folder holds, in the order of names, without build output and hidden things.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?
    {
        let entry = entry?;
        let name = entry.file_name();
        if name != "target" && !name.to_string_lossy().starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_tell_edges_apart() {
        let text = "[package]\nname = \"host\"\n[lints]\nworkspace = true\n[dependencies]\nmodel.workspace = true\n\
                    serde = \"1\"\n[dev-dependencies]\ntempfile = { workspace = true }\n\
                    [target.'cfg(unix)'.dependencies]\nrustix.workspace = true\n";
        let (name, read) = Crate::parse("crates/host", text).expect("a manifest");
        assert_eq!(name, "host");
        assert!(read.takes_lints);
        assert_eq!(
            read.dependencies.into_iter().collect::<Vec<_>>(),
            ["model", "rustix", "serde"]
        );
        assert_eq!(
            read.dev_dependencies.into_iter().collect::<Vec<_>>(),
            ["tempfile"]
        );
        assert_eq!(read.own_versions.into_iter().collect::<Vec<_>>(), ["serde"]);
    }

    #[test]
    fn this_workspace_is_read() {
        let house = House::read(&crate::root()).expect("this workspace");
        assert!(house.crates.contains_key("xtask") && house.crates.contains_key("model"));
        assert!(
            house
                .files
                .iter()
                .any(|file| file.path == "xtask/src/house.rs" && file.owner == "xtask")
        );
    }
}
