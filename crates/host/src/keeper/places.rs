//! The placeholders of an application's command, backends and environment, and what they stand for in one session.
//!
//! `{session} {user} {token} {socket} {port} {dir}` are replaced inside of words that were already split, so no value can become a word of
//! its own; what is a placeholder [`model::placeholder`] says. `{secret:NAME}` is a path at which the command, and nobody else, reads the
//! secret.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use model::placeholder::{Piece, pieces};
use wire::keeper::Spec;

use super::account::Account;
use super::handed::Handed;
use crate::socket::PATH_LIMIT;

/// What the placeholders stand for.
#[derive(Debug)]
pub(crate) struct Places {
    session: String,
    user: String,
    token: String,
    socket: PathBuf,
    port: u16,
    dir: PathBuf,
    /// A folder that was made because the session's own is too deep for a socket, or another account's command is not to enter it;
    /// removed with this value.
    private: Option<PathBuf>,
    /// Whose command it is, by user id, where that is not the keeper's own account.
    owner: Option<u32>,
    /// Which of several running backends accepted last, where the session stays with it; beyond their number: none.
    accepted: Option<AtomicUsize>,
    /// What the command is given in secret, until it runs.
    handed: Mutex<Handed>,
}

/// A name in braces that stands for nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{{{name}}} stands for nothing here; there are {{session}} {{user}} {{token}} {{socket}} {{port}} {{dir}}, and in a command and its environment {{secret:NAME}}"
)]
pub(crate) struct UnknownPlaceholder {
    /// The name.
    pub(crate) name: String,
}

impl Places {
    /// Chooses a port that is free now and a path for a socket that is short enough.
    pub(crate) fn new(dir: &Path, spec: &Spec) -> io::Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut socket = dir.join("app.sock");
        let mut private = None;
        if socket.as_os_str().len() > PATH_LIMIT {
            let folder = private_folder(&spec.session.to_string())?;
            socket = folder.join("app.sock");
            private = Some(folder);
        }
        Ok(Self {
            session: spec.session.to_string(),
            user: spec.user.to_string(),
            token: spec.token.to_string(),
            socket,
            port,
            dir: dir.to_owned(),
            private,
            owner: None,
            accepted: spec.app.is_balanced().then(|| AtomicUsize::new(usize::MAX)),
            handed: Mutex::default(),
        })
    }

    /// The same with what the command is given in secret.
    pub(crate) fn with(mut self, handed: Handed) -> Self {
        self.handed = Mutex::new(handed);
        self
    }

    /// For a backend that runs already. It has no port of the session's own: port 0 is none.
    pub(crate) fn of_running(dir: &Path, session: &model::Session) -> Self {
        Self {
            session: session.id.to_string(),
            user: session.user.to_string(),
            token: session.token.to_string(),
            socket: dir.join("app.sock"),
            port: 0,
            dir: dir.to_owned(),
            private: None,
            owner: None,
            accepted: None,
            handed: Mutex::default(),
        }
    }

    /// Makes `{dir}` and `{socket}` another account's: in a folder that only it can enter, because the keeper's is not for it.
    pub(crate) fn give_to(&mut self, account: &Account) -> io::Result<()> {
        if account.is_own {
            return Ok(());
        }
        let folder = match self.private.take() {
            Some(folder) => folder,
            None => private_folder(&self.session)?,
        };
        self.private = Some(folder.clone());
        account.own_folder(&folder)?;
        self.socket = folder.join("app.sock");
        self.dir = folder;
        self.owner = Some(account.uid());
        Ok(())
    }

    /// The place of the backend that the session stays with, if it stays with one and had one.
    pub(crate) fn accepted(&self) -> Option<usize> {
        let accepted = self.accepted.as_ref()?.load(Ordering::Relaxed);
        (accepted != usize::MAX).then_some(accepted)
    }

    /// The backend at that place accepted.
    pub(crate) fn note_accepted(&self, place: usize) {
        if let Some(accepted) = &self.accepted {
            accepted.store(place, Ordering::Relaxed);
        }
    }

    /// What `{dir}` stands for.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whose command it is, by user id, where that is not the keeper's own account.
    pub(crate) fn owner(&self) -> Option<u32> {
        self.owner
    }

    /// What the command is given in secret; only the first who asks gets it.
    pub(crate) fn take_handed(&self) -> Handed {
        std::mem::take(&mut *self.handed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the placeholders of one text.
    pub(crate) fn fill(&self, text: &str) -> Result<String, UnknownPlaceholder> {
        self.fill_with(text, &Handed::default())
    }

    /// The same for a command that is given something in secret.
    pub(crate) fn fill_with(
        &self,
        text: &str,
        handed: &Handed,
    ) -> Result<String, UnknownPlaceholder> {
        let filled = pieces(text).into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(text.to_owned()),
            Piece::Name(name) => match model::secret::named(name) {
                Some(secret) => {
                    let place = secret.ok().and_then(|secret| handed.place(&secret));
                    place.ok_or_else(|| UnknownPlaceholder {
                        name: name.to_owned(),
                    })
                }
                None => self.value(name),
            },
        });
        filled.collect()
    }

    fn value(&self, name: &str) -> Result<String, UnknownPlaceholder> {
        Ok(match name {
            "session" => self.session.clone(),
            "user" => self.user.clone(),
            "token" => self.token.clone(),
            "socket" => self.socket.to_string_lossy().into_owned(),
            "port" => self.port.to_string(),
            "dir" => self.dir.to_string_lossy().into_owned(),
            _ => {
                return Err(UnknownPlaceholder {
                    name: name.to_owned(),
                });
            }
        })
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        if let Some(folder) = &self.private
            && let Err(error) = fs::remove_dir_all(folder)
        {
            tracing::debug!(folder = %folder.display(), %error, "the folder of the application's socket stays");
        }
    }
}

/// Where private folders are made: the first that can be used.
fn parents() -> [PathBuf; 2] {
    [PathBuf::from("/run/stead"), std::env::temp_dir()]
}

fn private_name(session: &str) -> String {
    format!("stead-{session}")
}

/// A private folder with a short path.
fn private_folder(session: &str) -> io::Result<PathBuf> {
    let mut last = io::ErrorKind::NotFound.into();
    for parent in parents() {
        // Fails without rights to /run; the next place is for that.
        if parent.starts_with("/run") && fs::DirBuilder::new().mode(0o711).create(&parent).is_ok() {
            // Other accounts pass through it, whatever the mask is.
            fs::set_permissions(&parent, fs::Permissions::from_mode(0o711))?;
        }
        let folder = parent.join(private_name(session));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Removes the private folder of a session whose keeper was killed, if it had one. Symbolic links are not followed.
pub(crate) fn remove_private(session: &str) {
    for folder in parents().map(|parent| parent.join(private_name(session))) {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::debug!(folder = %folder.display(), %error, "the folder of a killed keeper's application stays");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            session: "0123".into(),
            user: "ann".into(),
            token: "card.1".into(),
            socket: "/s/app.sock".into(),
            port: 5901,
            dir: "/s".into(),
            private: None,
            owner: None,
            accepted: None,
            handed: Mutex::default(),
        }
    }

    #[test]
    fn every_placeholder_is_filled() {
        let filled = places().fill("{session}-{user}-{token} {socket}:{port} {dir}/{dir}");
        assert_eq!(filled.unwrap(), "0123-ann-card.1 /s/app.sock:5901 /s//s");
    }

    #[test]
    fn other_braces_stay() {
        for text in ["", "{", "{ user }", "${user}", "'{\"x\":1}'"] {
            assert_eq!(places().fill(text).unwrap(), text);
        }
        assert_eq!(places().fill("{{user}}").unwrap(), "{ann}");
    }

    #[test]
    fn an_unknown_name_is_said() {
        assert_eq!(places().fill("x{nobody}").unwrap_err().name, "nobody");
        assert_eq!(
            places().fill("{secret:KEY}").unwrap_err().name,
            "secret:KEY"
        );
    }
}
