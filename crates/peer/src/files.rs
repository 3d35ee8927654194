//! Small private files: written whole or not at all, readable by their owner only.
//!
//! A file is written under a temporary name, synced, renamed over the old one, and its folder synced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The most bytes of a file of this kind.
pub(crate) const FILE_LIMIT: u64 = 64 * 1024;

/// Why a private file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("{} is missing", path.display())]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "{} has mode {mode:04o}, so that others can use what must stay private; \
         make new keys if they may have been read, otherwise: chmod 600 '{}'",
        path.display(), path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More than any such file has.
    #[error("{} has {length} bytes, which no file of this kind has", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
}

/// Why a private file cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be written", path.display())]
pub struct WriteError {
    /// Which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Whether a file must be readable by its owner only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    Private,
    Public,
}

/// Reads a file whole.
pub(crate) fn read(path: &Path, privacy: Privacy) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ReadError::Missing {
            path: path.to_owned(),
        },
        _ => ReadError::Unreadable {
            path: path.to_owned(),
            source,
        },
    };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    let mode = metadata.mode() & 0o7777;
    if privacy == Privacy::Private && mode & 0o077 != 0 {
        return Err(ReadError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    if metadata.len() > FILE_LIMIT {
        return Err(ReadError::TooLong {
            path: path.to_owned(),
            length: metadata.len(),
        });
    }
    // Room for all of it from the start, so that no copy of a key is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_LIMIT as usize + 1));
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    Ok(bytes)
}

/// Writes a file whole, mode 0600, replacing what was there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let failed = |source| WriteError {
        path: path.to_owned(),
        source,
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    remove(&temporary)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    rename(&temporary, path)
}

/// Renames a file over another and syncs their folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), WriteError> {
    std::fs::rename(from, to).map_err(|source| WriteError {
        path: to.to_owned(),
        source,
    })?;
    sync_parent(to)
}

/// Removes a file if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), WriteError> {
    match std::fs::remove_file(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(WriteError {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Makes a folder that only its owner enters, unless it is there, and the folders above it.
pub(crate) fn make_folder(path: &Path) -> Result<(), WriteError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| WriteError {
            path: path.to_owned(),
            source,
        })?;
    sync_parent(path)
}

/// Syncs the folder that a path is in, so that its name survives a crash.
pub(crate) fn sync_parent(path: &Path) -> Result<(), WriteError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| WriteError {
            path: parent.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_and_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(
            read(&path, Privacy::Private),
            Err(ReadError::Missing { .. })
        ));
        write(&path, b"one").unwrap();
        // What a crash left behind is no obstacle.
        std::fs::write(folder.path().join("secret.new"), b"half").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(**read(&path, Privacy::Private).unwrap(), *b"two");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_others_can_read_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer.key");
        write(&path, b"key").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let error = read(&path, Privacy::Private).unwrap_err();
            assert!(matches!(error, ReadError::Exposed { mode: found, .. } if found == mode));
            assert!(error.to_string().contains("chmod 600"), "{error}");
            assert!(read(&path, Privacy::Public).is_ok());
        }
    }

    #[test]
    fn oversized_files_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peer.pem");
        write(&path, &vec![0; FILE_LIMIT as usize + 1]).unwrap();
        assert!(matches!(
            read(&path, Privacy::Public),
            Err(ReadError::TooLong { .. })
        ));
    }
}
