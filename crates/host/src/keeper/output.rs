//! What a session's command printed, bounded: the last of it in memory, somewhat more in a file.
//!
//! Always true: at most [`KEPT`] bytes are in memory and [`FILE_LIMIT`] in the file; a disk that is full loses output and nothing else.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes kept in memory, and in the file when it is cut.
pub(crate) const KEPT: usize = 64 * 1024;
/// The file is cut when it is longer than this.
const FILE_LIMIT: u64 = 128 * 1024;
/// The most bytes that are told of in a message.
const TOLD: usize = 2 * 1024;

/// The end of what was printed. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    last: VecDeque<u8>,
    file: Option<LogFile>,
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: fs::File,
    length: u64,
    failed: u64,
}

impl Output {
    /// In memory only.
    pub(crate) fn in_memory() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                last: VecDeque::new(),
                file: None,
            })),
        }
    }

    /// In memory and in a new file. A file that cannot be made is done without.
    pub(crate) fn in_file(path: PathBuf) -> Self {
        let output = Self::in_memory();
        match open(&path) {
            Ok(file) => output.with(|inner| {
                inner.file = Some(LogFile {
                    path,
                    file,
                    length: 0,
                    failed: 0,
                })
            }),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the command's output is not written")
            }
        }
        output
    }

    /// Takes what was printed.
    pub(crate) fn add(&self, bytes: &[u8]) {
        self.with(|inner| {
            let new = bytes.get(bytes.len().saturating_sub(KEPT)..).unwrap_or(bytes);
            let surplus = (inner.last.len() + new.len()).saturating_sub(KEPT);
            inner.last.drain(..surplus);
            inner.last.extend(new);
            if let Some(log) = &mut inner.file
                && let Err(error) = log.add(bytes, &inner.last)
            {
                log.failed += 1;
                if log.failed == 1 {
                    tracing::warn!(path = %log.path.display(), %error, "output of the command is lost");
                }
            }
        });
    }

    /// All that is kept.
    pub(crate) fn last(&self) -> Vec<u8> {
        self.with(|inner| inner.last.iter().copied().collect())
    }

    /// The last lines for a message: at most 2 KiB, without control characters.
    pub(crate) fn told(&self) -> String {
        let last = self.last();
        let end = last
            .get(last.len().saturating_sub(TOLD)..)
            .unwrap_or_default();
        let text: String = String::from_utf8_lossy(end)
            .chars()
            .filter(|c| *c == '\n' || !c.is_control())
            .collect();
        text.trim().to_owned()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogFile {
    /// Appends `bytes`; a file that gets too long begins anew with the last of what was printed, which contains them.
    fn add(&mut self, bytes: &[u8], last: &VecDeque<u8>) -> io::Result<()> {
        if self.length.saturating_add(bytes.len() as u64) <= FILE_LIMIT {
            self.file.write_all(bytes)?;
            self.length += bytes.len() as u64;
            return Ok(());
        }
        self.file.set_len(0)?;
        self.length = 0;
        let (front, back) = last.as_slices();
        self.file.write_all(front)?;
        self.file.write_all(back)?;
        self.length = last.len() as u64;
        Ok(())
    }
}

fn open(path: &PathBuf) -> io::Result<fs::File> {
    // Appending, so that cutting the file needs no seek.
    let file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_it_is_kept_in_memory_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.log");
        let output = Output::in_file(path.clone());
        let all: Vec<u8> = (0..1_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
        for piece in all.chunks(777) {
            output.add(piece);
            assert!(fs::metadata(&path).unwrap().len() <= FILE_LIMIT);
        }
        assert_eq!(output.last(), &all[all.len() - KEPT..]);
        let file = fs::read(&path).unwrap();
        assert!(
            file.len() >= KEPT && all.ends_with(&file),
            "{} bytes",
            file.len()
        );
    }

    #[test]
    fn one_piece_that_is_longer_than_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output.log");
        let output = Output::in_file(path.clone());
        output.add(&vec![1; KEPT * 3]);
        output.add(&[2]);
        assert_eq!(output.last().len(), KEPT);
        assert_eq!(output.last().last(), Some(&2));
        assert!(fs::metadata(&path).unwrap().len() <= FILE_LIMIT);
    }

    #[test]
    fn a_full_disk_loses_output_and_nothing_else() {
        let output = Output::in_file("/dev/full".into());
        output.add(b"one\n");
        output.add(b"two\n");
        assert_eq!(output.told(), "one\ntwo");
    }

    #[test]
    fn what_is_told_is_short_and_plain() {
        let output = Output::in_memory();
        output.add(&[b'x'; 5000]);
        output.add(b"\x1b[31mred\x07 \xff\n");
        let told = output.told();
        assert!(
            told.len() <= TOLD + 3 && told.ends_with("[31mred \u{fffd}"),
            "{told:?}"
        );
    }
}
