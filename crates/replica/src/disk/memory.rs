//! A disk in memory that can lose what was not synced, be full and be slow: for simulation and tests.
//!
//! Always true: [`MemoryDisk::crash`] leaves what was synced, and of the rest whole 512-byte sectors in any
//! combination, chosen by the seed; whoever holds a file from before the crash can do nothing any more.

use super::{Disk, DiskFile};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// A disk writes this much at once or not at all.
const SECTOR: usize = 512;

/// What the disk does to those who use it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Bytes that may be used in all; none: no limit.
    pub capacity: Option<u64>,
    /// Every sync fails with an I/O error.
    pub broken: bool,
    /// Syncs of files do not come back while it is so. The thread that asked waits: not for simulations, which have one.
    pub stalled: bool,
    /// The machine loses its power in the middle of the write or sync that comes after so many; none: it does not.
    pub dies_after: Option<u32>,
    /// Syncs of files say that they are done and do nothing.
    pub lies: bool,
}

#[derive(Debug, Clone, Default)]
struct Content {
    synced: Vec<u8>,
    now: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct State {
    life: u64,
    next_inode: u64,
    weather: Weather,
    dirs: BTreeSet<PathBuf>,
    inodes: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    synced_names: BTreeMap<PathBuf, u64>,
}

/// A disk in memory. Clones share the medium; a handle made before [`MemoryDisk::crash`] stays dead after it.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk {
    medium: Arc<Mutex<State>>,
    weather_changed: Arc<Condvar>,
    life: u64,
}

#[derive(Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: u64,
}

impl MemoryDisk {
    /// An empty disk without limits.
    pub fn new() -> Self {
        Self::default()
    }

    fn medium(&self) -> MutexGuard<'_, State> {
        self.medium.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.medium();
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("the machine that used this disk crashed"))
        }
    }

    /// Whether the machine that used this handle lost its power.
    pub fn is_dead(&self) -> bool {
        self.medium().life != self.life
    }

    /// Changes what the disk does from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.medium().weather = weather;
        self.weather_changed.notify_all();
    }

    /// The machine stops at this moment. Returns the disk as the machine finds it when it starts again.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Self {
        let mut chance = SmallRng::seed_from_u64(seed);
        let mut state = self.medium();
        state.life += 1;
        state.weather.dies_after = None;
        state.names = state.synced_names.clone();
        let kept: BTreeSet<u64> = state.names.values().copied().collect();
        state.inodes.retain(|inode, _| kept.contains(inode));
        for content in state.inodes.values_mut() {
            content.lose_unsynced(&mut chance);
        }
        Self {
            medium: self.medium.clone(),
            weather_changed: self.weather_changed.clone(),
            life: state.life,
        }
    }

    /// Changes bytes of a file behind everybody's back, durably.
    ///
    /// # Errors
    /// No such file, or the range is not inside it.
    pub fn damage(&self, path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.medium();
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        let content = state.inodes.get_mut(&inode).ok_or(ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let range = start..start + bytes.len();
        content
            .now
            .get_mut(range.clone())
            .ok_or(ErrorKind::InvalidInput)?
            .copy_from_slice(bytes);
        if let Some(synced) = content.synced.get_mut(range) {
            synced.copy_from_slice(bytes);
        }
        Ok(())
    }
}

impl Content {
    fn lose_unsynced(&mut self, chance: &mut SmallRng) {
        if self.now.len() > self.synced.len() && chance.random_bool(0.5) {
            self.synced.resize(self.now.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if chance.random_bool(0.5) {
                continue;
            }
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.now.len()).min(self.synced.len());
            if let (Some(to), Some(from)) =
                (self.synced.get_mut(start..end), self.now.get(start..end))
            {
                to.copy_from_slice(from);
            }
        }
        self.now = self.synced.clone();
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        if let Some(place) = self.now.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        self.synced.resize(self.now.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.now.len());
            if let (Some(to), Some(from)) =
                (self.synced.get_mut(start..end), self.now.get(start..end))
            {
                to.copy_from_slice(from);
            }
        }
    }
}

impl State {
    /// A step towards the moment at which the power is lost.
    fn wear(&mut self) -> io::Result<()> {
        match self.weather.dies_after {
            Some(0) => {
                self.life += 1;
                Err(io::Error::other("the machine lost its power"))
            }
            Some(left) => {
                self.weather.dies_after = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.inodes
            .values()
            .map(|content| content.now.len() as u64)
            .sum()
    }

    fn make_room(&self, more: u64) -> io::Result<()> {
        match self.weather.capacity {
            Some(capacity) if self.used().saturating_add(more) > capacity => {
                Err(ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn forget_unnamed(&mut self) {
        let kept: BTreeSet<u64> = self
            .names
            .values()
            .chain(self.synced_names.values())
            .copied()
            .collect();
        self.inodes.retain(|inode, _| kept.contains(inode));
    }
}

impl Disk for MemoryDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        state.dirs.extend(dir.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state()?;
        let names = state
            .names
            .keys()
            .chain(state.dirs.iter())
            .filter(|path| path.parent() == Some(dir));
        let names: BTreeSet<String> = names
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        Ok(names.into_iter().collect())
    }

    fn create(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state()?;
        state.make_room(len)?;
        let zeroes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(
            inode,
            Content {
                synced: zeroes.clone(),
                now: zeroes,
                dirty: BTreeSet::new(),
            },
        );
        state.names.insert(path.to_path_buf(), inode);
        state.forget_unnamed();
        Ok(Box::new(MemoryFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.state()?.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(Box::new(MemoryFile {
            disk: self.clone(),
            inode,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        let inode = state.names.remove(from).ok_or(ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        state.names.remove(path).ok_or(ErrorKind::NotFound)?;
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        state.names.retain(|path, _| !path.starts_with(dir));
        state.synced_names.retain(|path, _| !path.starts_with(dir));
        state.dirs.retain(|path| !path.starts_with(dir));
        state.forget_unnamed();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state()?;
        if state.weather.broken {
            return Err(io::Error::other("the disk is broken"));
        }
        state.wear()?;
        let State {
            names,
            synced_names,
            ..
        } = &mut *state;
        synced_names.retain(|path, _| path.parent() != Some(dir));
        let here = names.iter().filter(|(path, _)| path.parent() == Some(dir));
        synced_names.extend(here.map(|(path, inode)| (path.clone(), *inode)));
        state.forget_unnamed();
        Ok(())
    }

    fn free(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.state()?;
        Ok(state
            .weather
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut state = self.disk.state()?;
        let content = state
            .inodes
            .get_mut(&self.inode)
            .ok_or(ErrorKind::NotFound)?;
        Ok(act(content))
    }
}

impl DiskFile for MemoryFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|content| content.now.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|content| {
            let rest = content.now.get(start..).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
                to.copy_from_slice(from);
            }
            count
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let length = self.length()?;
        let end = offset + bytes.len() as u64;
        if end > length {
            self.disk.state()?.make_room(end - length)?;
        }
        self.with(|content| content.write(start, bytes))?;
        self.disk.state()?.wear()
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state()?;
        while state.weather.stalled {
            let changed = self.disk.weather_changed.wait(state);
            state = changed.unwrap_or_else(PoisonError::into_inner);
        }
        if state.weather.broken {
            return Err(io::Error::other("the disk is broken"));
        }
        state.wear()?;
        if state.weather.lies {
            return Ok(());
        }
        drop(state);
        self.with(Content::sync)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced() {
        for seed in 0..50 {
            let disk = MemoryDisk::new();
            let dir = Path::new("/d");
            disk.create_dir(dir).expect("made");
            let path = dir.join("f");
            let mut file = disk.create(&path, 2048).expect("made");
            disk.sync_dir(dir).expect("synced");
            file.write_at(0, &[1; 1024]).expect("written");
            file.sync().expect("synced");
            file.write_at(1024, &[2; 1024]).expect("written");
            let after = disk.crash(seed);
            assert!(
                file.write_at(0, &[9]).is_err(),
                "seed {seed}: a dead machine wrote"
            );
            let bytes = super::super::read_all(&after, &path, 4096).expect("read");
            assert_eq!(bytes.get(..1024), Some(&[1; 1024][..]), "seed {seed}");
        }
    }

    #[test]
    fn a_full_disk_refuses_and_recovers() {
        let disk = MemoryDisk::new();
        disk.set_weather(Weather {
            capacity: Some(1000),
            broken: false,
            ..Weather::default()
        });
        let error = disk.create(Path::new("/f"), 1001).expect_err("too large");
        assert!(super::super::is_full(&error));
        disk.set_weather(Weather::default());
        disk.create(Path::new("/f"), 1001).expect("room");
    }
}
