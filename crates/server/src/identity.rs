//! What a server must know before it has a directory: `<data>/identity.toml`, mode 0600.
//!
//! Written by `init` or `join`, and anew by a reset, whole or not at all; all else is in the directory.

use model::{GroupId, GroupName, IncarnationId, ServerId, ServerName, Standing};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The file's name in the data folder.
pub const FILE: &str = "identity.toml";
const FORMAT: u16 = 1;
const LIMIT: u64 = 64 * 1024;

/// Who a server is and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The format of the file.
    pub format: u16,
    /// Its name.
    pub name: ServerName,
    /// Its id, for good.
    pub server: ServerId,
    /// Its group.
    pub group: GroupId,
    /// The group's name.
    pub group_name: GroupName,
    /// What it was asked to be.
    pub standing: Standing,
    /// The life of its log.
    pub incarnation: IncarnationId,
    /// Where it listens for other servers, and where they reach it, `host:port`.
    pub peer: Endpoint,
    /// Where it listens for clients, and where they reach it, `host:port`.
    pub client: Endpoint,
    /// The members that it knew when it joined: whom to ask when it starts without a directory.
    #[serde(default)]
    pub members: Vec<KnownMember>,
}

/// An address to listen on and the one to tell others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub listen: String,
    /// Where others reach it.
    pub advertise: String,
}

/// A member and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownMember {
    /// Which.
    pub server: ServerId,
    /// Where other servers reach it.
    pub peer_address: String,
}

/// Why the identity cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is none.
    #[error("{} is no data folder of a server: run `stead init` or `stead join` first", folder.display())]
    Missing {
        /// The data folder.
        folder: PathBuf,
    },
    /// There is one already.
    #[error("{} already belongs to a server: choose another --data, or remove that folder", folder.display())]
    Exists {
        /// The data folder.
        folder: PathBuf,
    },
    /// The file system refused.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// It is not what this version writes.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: toml::de::Error,
    },
    /// A later version wrote it.
    #[error("{} has format {found}: it was written by a later version of stead", path.display())]
    Later {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u16,
    },
}

impl Identity {
    /// The current format of the file.
    pub const FORMAT: u16 = FORMAT;

    /// Whether a data folder has one.
    pub fn exists(data: &Path) -> bool {
        data.join(FILE).exists()
    }

    /// Reads it.
    ///
    /// # Errors
    /// When it is missing, unreadable, damaged or of a later version.
    pub fn load(data: &Path) -> Result<Self, IdentityError> {
        let path = data.join(FILE);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => IdentityError::Missing {
                folder: data.to_owned(),
            },
            _ => IdentityError::Io {
                path: path.clone(),
                source,
            },
        };
        let mut text = String::new();
        File::open(&path)
            .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
            .map_err(failed)?;
        let identity: Self = toml::from_str(&text).map_err(|source| IdentityError::Damaged {
            path: path.clone(),
            source,
        })?;
        if identity.format > FORMAT {
            return Err(IdentityError::Later {
                path,
                found: identity.format,
            });
        }
        Ok(identity)
    }

    /// Writes it: temporary name, sync, rename, sync of the folder.
    ///
    /// # Errors
    /// When the file system refuses; the file is then as it was.
    pub fn save(&self, data: &Path) -> Result<(), IdentityError> {
        let path = data.join(FILE);
        let text = toml::to_string(self).expect("an identity is plain data that TOML can say");
        let write = || -> io::Result<()> {
            let temporary = data.join(format!("{FILE}.new"));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)?;
            File::open(data)?.sync_all()
        };
        write().map_err(|source| IdentityError::Io {
            path: path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            format: FORMAT,
            name: "boston".parse().unwrap(),
            server: ServerId::from_bytes([1; 16]),
            group: GroupId::from_bytes([2; 16]),
            group_name: "east".parse().unwrap(),
            standing: Standing::Voter,
            incarnation: IncarnationId::from_bytes([3; 16]),
            peer: Endpoint {
                listen: "10.0.0.1:5427".into(),
                advertise: "10.0.0.1:5427".into(),
            },
            client: Endpoint {
                listen: "10.0.0.1:5443".into(),
                advertise: "10.0.0.1:5443".into(),
            },
            members: vec![KnownMember {
                server: ServerId::from_bytes([4; 16]),
                peer_address: "h:1".into(),
            }],
        }
    }

    #[test]
    fn written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            Identity::load(folder.path()),
            Err(IdentityError::Missing { .. })
        ));
        identity().save(folder.path()).unwrap();
        assert_eq!(Identity::load(folder.path()).unwrap(), identity());
    }

    #[test]
    fn damage_and_later_versions_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "format = ").unwrap();
        assert!(matches!(
            Identity::load(folder.path()),
            Err(IdentityError::Damaged { .. })
        ));
        Identity {
            format: 99,
            ..identity()
        }
        .save(folder.path())
        .unwrap();
        assert!(matches!(
            Identity::load(folder.path()),
            Err(IdentityError::Later { found: 99, .. })
        ));
    }
}
