//! The disk as the replica sees it, so that a simulation can take its place.
//!
//! Always true: what was written and synced survives a crash; what was only written may be lost, in any part; a
//! rename survives once the folder was synced. Everything that `replica` keeps goes through [`Disk`].
//! Start at the two traits; [`RealDisk`] is what a server uses, [`MemoryDisk`] what simulation and tests use.

mod memory;
mod real;

pub use memory::{MemoryDisk, Weather};
pub use real::RealDisk;

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A disk, shared by everything of one server.
pub type SharedDisk = Arc<dyn Disk>;

/// Folders and names.
///
/// # Errors
/// Every function passes the system's error on; a full disk is [`io::ErrorKind::StorageFull`] or
/// [`io::ErrorKind::QuotaExceeded`], see [`is_full`].
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a folder and those above it, durably.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a folder, sorted; empty when there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a file of `len` zero bytes whose space is really there, and syncs it. Replaces what had the name.
    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name; replaces what had it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all that is in it, if it exists.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes renames and removals in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes that can still be written.
    fn free(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
///
/// # Errors
/// As for [`Disk`].
pub trait DiskFile: Debug + Send + Sync {
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`; the file grows where needed.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// Whether an error says that there is no room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Reads a whole file.
///
/// # Errors
/// The system's; [`io::ErrorKind::FileTooLarge`] when the file is longer than `limit`.
pub fn read_all(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.length()?;
    if len > limit {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{} has {len} bytes, more than {limit}", path.display()),
        ));
    }
    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let read = file.read_at(done as u64, rest)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        done += read;
    }
    Ok(bytes)
}

/// Writes a file so that a crash leaves the old one or the new one: temporary name, sync, rename, sync of the folder.
///
/// # Errors
/// The system's; the old file is then still in place.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_name(path);
    let mut file = disk.create(&temporary, 0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, path)?;
    sync_parent(disk, path)
}

/// The name under which a file is written before it gets its own.
pub(crate) fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Syncs the folder that a file is in.
pub(crate) fn sync_parent(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) => disk.sync_dir(dir),
        None => Ok(()),
    }
}
