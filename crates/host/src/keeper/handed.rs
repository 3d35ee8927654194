//! The secrets that a session's command is given: read from the keeper's standard input when it starts, held in memory that has no name,
//! and inherited by the command alone.
//!
//! Always true: a value is in no file, argument or variable; the keeper has none any more once its command runs; only the account of
//! the command, and root, can open what the command inherits.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use model::{Application, SecretName};
use rustix::fs::{MemfdFlags, Mode, SealFlags};
use rustix::io::FdFlags;
use wire::keeper::Handed as Message;
use zeroize::Zeroizing;

use super::account::Account;

/// Pieces in which standard input is read.
const STEP: usize = 64 * 1024;

/// Secrets, each in memory of its own that can be read and not changed.
#[derive(Debug, Default)]
pub(crate) struct Handed(BTreeMap<SecretName, OwnedFd>);

/// Takes what the server handed over for an application; nothing, and standard input is left alone, where it is given nothing.
pub(crate) fn take(app: &Application) -> io::Result<Handed> {
    let names = app.secrets().unwrap_or_default();
    if names.is_empty() {
        return Ok(Handed::default());
    }
    let bytes = read()?;
    let Message(values) = wire::decode(&bytes).map_err(io::Error::other)?;
    let mut handed = BTreeMap::new();
    for (name, value) in values.iter().filter(|(name, _)| names.contains(name)) {
        handed.insert(name.clone(), in_memory(&value.0)?);
    }
    // Nobody is to find it there as long as the keeper lives.
    let nothing = rustix::fs::open(
        "/dev/null",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&nothing)?;
    Ok(Handed(handed))
}

/// What standard input holds, from its beginning.
fn read() -> io::Result<Zeroizing<Vec<u8>>> {
    let stdin = rustix::stdio::stdin();
    let size = u64::try_from(rustix::fs::fstat(stdin)?.st_size).unwrap_or(0);
    if size > Message::LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Made as long as it is to be, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(size).unwrap_or(0)]);
    let mut read = 0;
    while let Some(room @ [_, ..]) = bytes.get_mut(read..) {
        let room = room.len().min(STEP);
        let room = bytes.get_mut(read..read + room).unwrap_or_default();
        match rustix::io::pread(stdin, room, read as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => read += count,
        }
    }
    Ok(bytes)
}

/// Bytes in memory that has no name and does not change any more.
pub(crate) fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = rustix::fs::memfd_create("stead-secret", flags)?;
    let mut written = 0;
    while let Some(rest @ [_, ..]) = bytes.get(written..) {
        // At a place, so that whoever inherits it reads from the beginning.
        match rustix::io::pwrite(&memory, rest, written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    rustix::fs::fchmod(&memory, Mode::RUSR)?;
    let all = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, all)?;
    Ok(memory)
}

impl Handed {
    /// Where the command finds a secret.
    pub(crate) fn place(&self, name: &SecretName) -> Option<String> {
        let memory = self.0.get(name)?;
        // Not /dev/fd: shells take that for the descriptor itself, and what has been read from it is gone.
        Some(format!("/proc/self/fd/{}", memory.as_raw_fd()))
    }

    /// Lets the command's account open them by their places.
    pub(crate) fn give_to(&self, account: &Account) -> io::Result<()> {
        self.0
            .values()
            .try_for_each(|memory| account.own_file(memory.as_fd()))
    }

    /// Has the process that is to be the command keep them. System calls only: it runs between fork and exec.
    pub(crate) fn leave_open(&self) -> io::Result<()> {
        for memory in self.0.values() {
            rustix::io::fcntl_setfd(memory, FdFlags::empty())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_in_memory_is_read_again_and_again_and_never_changed() {
        let bytes = vec![7; 100_000];
        let memory = in_memory(&bytes).unwrap();
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        for _ in 0..2 {
            assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o400);
        let mut file = File::from(memory);
        assert!(file.write_all(b"x").is_err() && file.set_len(1).is_err());
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
    }

    #[test]
    fn an_application_that_is_given_nothing_leaves_standard_input_alone() {
        let app = Application::named("a".parse().unwrap());
        assert!(take(&app).unwrap().0.is_empty());
    }
}
