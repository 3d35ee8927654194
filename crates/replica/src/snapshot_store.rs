//! The snapshots of one formation on this server: which one is current, writing the next, taking one from another server.
//!
//! Always true: the current snapshot is whole and durable before entries that it holds are purged from the log; an
//! older one is removed only when a newer one is current. Start at [`SnapshotStore`].

use crate::disk::{DiskFile, SharedDisk, sync_parent};
use crate::snapshot::{Meta, SnapshotError, read_snapshot, write_snapshot};
use crate::state_machine::State;
use model::Directory;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SUFFIX: &str = ".snapshot";
const INCOMING: &str = "incoming";

/// A snapshot in its file. Clones name the same one.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    path: PathBuf,
    meta: Arc<Meta>,
    length: u64,
}

impl SnapshotFile {
    fn new(path: &Path, meta: &Meta, length: u64) -> Self {
        Self {
            path: path.to_path_buf(),
            meta: Arc::new(meta.clone()),
            length,
        }
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// What it holds.
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }
}

#[derive(Debug, Default)]
struct Held {
    current: Option<SnapshotFile>,
    finished: Option<SnapshotFile>,
    /// What was read of a received file when it was checked, so that it need not be read again.
    checked: Option<(Meta, Directory)>,
}

/// The snapshots of one formation.
#[derive(Debug)]
pub(crate) struct SnapshotStore {
    disk: SharedDisk,
    dir: PathBuf,
    held: Mutex<Held>,
}

/// The file name of the snapshot that ends with an entry.
fn name(meta: &Meta) -> String {
    let index = meta.last.map_or(0, |id| id.index);
    format!("{index:020}{SUFFIX}")
}

/// Writes the first snapshot of a formation into its folder.
///
/// # Errors
/// The disk's.
pub(crate) fn write_first(
    disk: &SharedDisk,
    dir: &Path,
    meta: &Meta,
    directory: &Directory,
) -> io::Result<()> {
    write_snapshot(&**disk, &dir.join(name(meta)), meta, directory).map(|_| ())
}

impl SnapshotStore {
    /// Reads the newest snapshot in a folder, and removes what is left of unfinished ones.
    ///
    /// # Errors
    /// [`SnapshotError`]: the newest one cannot be used.
    pub(crate) fn open(
        disk: &SharedDisk,
        dir: &Path,
    ) -> Result<(Self, Option<(Meta, Directory)>), SnapshotError> {
        let io_error = |source| SnapshotError::Io {
            path: dir.to_path_buf(),
            source,
        };
        let names = disk.list(dir).map_err(io_error)?;
        let newest = names.iter().rev().find(|name| name.ends_with(SUFFIX));
        let store = Self {
            disk: disk.clone(),
            dir: dir.to_path_buf(),
            held: Mutex::default(),
        };
        let loaded = newest.map(|name| store.load(&dir.join(name))).transpose()?;
        for name in &names {
            let left_over = name == INCOMING || name.contains(".snapshot.new");
            if left_over || (name.ends_with(SUFFIX) && Some(name) != newest) {
                match disk.remove(&dir.join(name)) {
                    // One that was being written when the replica was stopped has got its name meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => removed.map_err(io_error)?,
                }
            }
        }
        Ok((store, loaded))
    }

    fn load(&self, path: &Path) -> Result<(Meta, Directory), SnapshotError> {
        let (meta, directory) = read_snapshot(&*self.disk, path)?;
        let length = self.length(path);
        self.held().current = Some(SnapshotFile::new(path, &meta, length));
        Ok((meta, directory))
    }

    /// The length of a file that was just read; only a figure to weigh costs by.
    fn length(&self, path: &Path) -> u64 {
        let file = self.disk.open(path);
        file.and_then(|file| file.length()).unwrap_or(0)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current snapshot.
    pub(crate) fn current(&self) -> Option<SnapshotFile> {
        self.held().current.clone()
    }

    /// Opens a snapshot for reading.
    ///
    /// # Errors
    /// The disk's; it is gone when a newer one has become current.
    pub(crate) fn read(&self, file: &SnapshotFile) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&file.path)
    }

    /// Bytes that the disk has free.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn free(&self) -> io::Result<u64> {
        self.disk.free(&self.dir)
    }

    /// Writes a snapshot of a state. It becomes current when openraft takes it, see [`SnapshotStore::take_finished`].
    ///
    /// # Errors
    /// The disk's; nothing changed then.
    pub(crate) fn write(&self, state: &State) -> io::Result<()> {
        let Some(directory) = &state.directory else {
            return Ok(());
        };
        let meta = Meta {
            last: state.last,
            membership: state.membership.clone(),
        };
        let path = self.dir.join(name(&meta));
        let length = write_snapshot(&*self.disk, &path, &meta, directory)?;
        self.held().finished = Some(SnapshotFile::new(&path, &meta, length));
        Ok(())
    }

    /// Makes the snapshot that was written last the current one, unless a newer one was installed meanwhile.
    pub(crate) fn take_finished(&self) -> Option<SnapshotFile> {
        let finished = self.held().finished.take()?;
        if self
            .current()
            .is_some_and(|current| current.meta.last >= finished.meta.last)
        {
            return None;
        }
        self.make_current(finished.clone());
        Some(finished)
    }

    fn make_current(&self, file: SnapshotFile) {
        let before = self.held().current.replace(file.clone());
        if let Some(before) = before.filter(|before| before.path != file.path)
            && let Err(error) = self.disk.remove(&before.path)
        {
            tracing::debug!(path = %before.path.display(), %error, "an old snapshot could not be removed; it is removed at the next start");
        }
    }

    /// Makes an empty file for a snapshot from another server.
    ///
    /// # Errors
    /// The disk's.
    pub(crate) fn begin_incoming(&self) -> io::Result<Box<dyn DiskFile>> {
        self.disk.create(&self.dir.join(INCOMING), 0)
    }

    /// Reads all of the received file.
    ///
    /// # Errors
    /// [`SnapshotError`]: it is not what was announced.
    pub(crate) fn check_incoming(&self, meta: &Meta) -> Result<SnapshotFile, SnapshotError> {
        let path = self.dir.join(INCOMING);
        let (found, directory) = read_snapshot(&*self.disk, &path)?;
        if &found != meta {
            return Err(SnapshotError::Damaged {
                path,
                part: "it is not the one that was announced",
            });
        }
        self.held().checked = Some((found, directory));
        let length = self.length(&path);
        Ok(SnapshotFile::new(&path, meta, length))
    }

    /// Gives a received file its name and makes it current.
    ///
    /// # Errors
    /// [`SnapshotError`]; the current snapshot stays then.
    pub(crate) fn install(
        &self,
        meta: Meta,
        file: &SnapshotFile,
    ) -> Result<(Meta, Directory), SnapshotError> {
        let path = self.dir.join(name(&meta));
        let io_error = |source| SnapshotError::Io {
            path: path.clone(),
            source,
        };
        let checked = self
            .held()
            .checked
            .take()
            .filter(|(found, _)| *found == meta);
        let (meta, directory) = match checked {
            Some(checked) => checked,
            None => read_snapshot(&*self.disk, &file.path)?,
        };
        if file.path != path {
            self.disk.rename(&file.path, &path).map_err(io_error)?;
            sync_parent(&*self.disk, &path).map_err(io_error)?;
        }
        let length = self.length(&path);
        self.make_current(SnapshotFile::new(&path, &meta, length));
        Ok((meta, directory))
    }
}
