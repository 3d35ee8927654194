//! `/etc/stead/stead.toml`: what a server must know before it has a directory. All else is a setting of the group.
//!
//! Always true: an unknown key is refused, with the line; the command line and `STEAD_*` go before the file.

use crate::errors::{Failure, chain};
use crate::logging::LogFormat;
use model::ServerName;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Where the file is when nothing else is said.
pub(crate) const DEFAULT_FILE: &str = "/etc/stead/stead.toml";
/// Where the data is when nothing else is said.
pub(crate) const DEFAULT_DATA: &str = "/var/lib/stead";
const SIZE_LIMIT: u64 = 64 * 1024;

/// What the file may say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConfigFile {
    /// The server's name.
    pub(crate) name: Option<ServerName>,
    /// The data folder.
    pub(crate) data: Option<PathBuf>,
    /// Where other servers reach this one, `HOST:PORT`.
    pub(crate) peer: Option<String>,
    /// Where clients and administrators reach it, `HOST:PORT`.
    pub(crate) client: Option<String>,
    /// Where it listens for other servers, if not where they reach it.
    pub(crate) listen_peer: Option<String>,
    /// Where it listens for clients, if not where they reach it.
    pub(crate) listen_client: Option<String>,
    /// How log lines look.
    pub(crate) log_format: Option<LogFormat>,
}

impl ConfigFile {
    /// Reads the file that was named, or the usual one if it is there.
    ///
    /// # Errors
    /// A file that was named is not there; what cannot be read or understood, and where in it.
    pub(crate) fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        let failed = |why: String| {
            Failure::failed(
                format!("the configuration {} was not read", path.display()),
                why,
            )
        };
        let size = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
                return Ok(Self::default());
            }
            found => found.map_err(|error| failed(error.to_string()))?.len(),
        };
        if size > SIZE_LIMIT {
            return Err(failed(format!("it is larger than {SIZE_LIMIT} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        toml::from_str(&text).map_err(|error| {
            failed(chain(&error))
                .remedy("correct it; the keys are name, data, peer, client, listen_peer, listen_client and log_format")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ConfigFile, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stead.toml");
        std::fs::write(&path, text).unwrap();
        ConfigFile::read(Some(&path))
    }

    #[test]
    fn reads_what_it_may_say() {
        let file = read("name = \"boston\"\ndata = \"/srv/stead\"\npeer = \"10.0.0.1:5427\"\nlog_format = \"json\"\n").unwrap();
        assert_eq!(file.name.unwrap().as_str(), "boston");
        assert_eq!(file.data, Some(PathBuf::from("/srv/stead")));
        assert_eq!(file.peer.as_deref(), Some("10.0.0.1:5427"));
        assert_eq!(file.log_format, Some(LogFormat::Json));
        assert_eq!(file.client, None);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let failure = read("nmae = \"boston\"\n").unwrap_err();
        assert!(failure.why.contains("nmae"), "{failure}");
        assert!(
            read("name = \"not a name\"\n")
                .unwrap_err()
                .why
                .contains("server name")
        );
        assert!(ConfigFile::read(Some(Path::new("/nowhere/stead.toml"))).is_err());
    }
}
