//! Where `stead login` keeps what it got: one file for each group, under the user's configuration folder.
//!
//! Always true: files are readable by their owner only from the moment they exist; the token is in no `Debug` output.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use model::UnixMillis;
use serde::{Deserialize, Serialize};

use crate::trust::Fingerprint;

/// A login that is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The bearer token.
    pub token: String,
    /// Who logged in.
    pub user: String,
    /// The role that the account had.
    pub role: String,
    /// When the token stops being valid.
    pub expires: UnixMillis,
    /// The servers that were given, `host:port`.
    pub servers: Vec<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("role", &self.role)
            .field("expires", &self.expires)
            .field("servers", &self.servers)
            .finish_non_exhaustive()
    }
}

/// Why logins cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum LoginFileError {
    /// There is no place for them.
    #[error("neither XDG_CONFIG_HOME nor HOME is set: there is no place to keep logins")]
    NoHome,
    /// Reading or writing failed.
    #[error("cannot {what} {}", .path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged: log in again", .path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// The folder with the logins.
#[derive(Debug, Clone)]
pub struct Logins {
    folder: PathBuf,
}

impl Logins {
    /// Those of the user who runs this program: `$XDG_CONFIG_HOME/stead/logins`, or `~/.config/stead/logins`.
    ///
    /// # Errors
    /// Neither variable is set.
    pub fn of_user() -> Result<Self, LoginFileError> {
        let config = std::env::var_os("XDG_CONFIG_HOME").filter(|path| !path.is_empty());
        let home = std::env::var_os("HOME").filter(|path| !path.is_empty());
        let join = |home: OsString| PathBuf::from(home).join(".config");
        let config = config.map(PathBuf::from).or_else(|| home.map(join));
        Ok(Self::in_folder(
            config
                .ok_or(LoginFileError::NoHome)?
                .join("stead")
                .join("logins"),
        ))
    }

    /// Those of this folder.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The login for a group, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn load(&self, group: Fingerprint) -> Result<Option<Login>, LoginFileError> {
        let path = self.path(group);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(LoginFileError::File {
                    what: "read",
                    path,
                    source,
                });
            }
        };
        match serde_json::from_slice(&bytes) {
            Ok(login) => Ok(Some(login)),
            Err(source) => Err(LoginFileError::Damaged { path, source }),
        }
    }

    /// Keeps a login, instead of the one that was there.
    ///
    /// # Errors
    /// The folder or file cannot be written.
    pub fn save(&self, group: Fingerprint, login: &Login) -> Result<(), LoginFileError> {
        let folder = &self.folder;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| LoginFileError::File {
                what: "make",
                path: folder.clone(),
                source,
            })?;
        let path = self.path(group);
        let text = serde_json::to_vec(login).expect("invariant: a login is plain data");
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        written.map_err(|source| LoginFileError::File {
            what: "write",
            path,
            source,
        })
    }

    /// Forgets a login; says whether there was one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn delete(&self, group: Fingerprint) -> Result<bool, LoginFileError> {
        let path = self.path(group);
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(LoginFileError::File {
                what: "remove",
                path,
                source,
            }),
        }
    }

    fn path(&self, group: Fingerprint) -> PathBuf {
        self.folder.join(format!("{}.json", group.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_login_is_kept_for_its_owner_only_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let logins = Logins::in_folder(folder.path().join("stead/logins"));
        let (group, other) = (Fingerprint::of(b"a"), Fingerprint::of(b"b"));
        assert_eq!(logins.load(group).unwrap(), None);
        let login = Login {
            token: "secret-words".to_owned(),
            user: "admin".to_owned(),
            role: "admin".to_owned(),
            expires: UnixMillis(5),
            servers: vec!["192.0.2.1:5443".to_owned()],
        };
        logins.save(group, &login).unwrap();
        logins.save(group, &login).unwrap();
        assert_eq!(logins.load(group).unwrap(), Some(login.clone()));
        assert_eq!(logins.load(other).unwrap(), None);
        let mode = fs::metadata(logins.path(group))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{login:?}").contains("secret-words"));
        fs::write(logins.path(group), b"{").unwrap();
        assert!(matches!(
            logins.load(group),
            Err(LoginFileError::Damaged { .. })
        ));
        assert!(logins.delete(group).unwrap());
        assert!(!logins.delete(group).unwrap());
    }
}
