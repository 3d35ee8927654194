//! The times by which this server promised its vote to its primary, kept where a restart finds them.
//!
//! Always true: what is stored is no shorter than any lease that this server may still owe. So a longer lease is stored before
//! it is taken up, and a shorter one when the longer has run out. A server that started with less could help elect another
//! primary while the one before still acts.

use crate::disk::{SharedDisk, read_all, replace};
use crate::formation::{FORMATIONS, FormationError};
use crate::timing::Timing;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its name among the formations.
const NAME: &str = "timing";

fn path(data: &Path) -> PathBuf {
    data.join(FORMATIONS).join(NAME)
}

/// What was promised last; none: by the times that a server begins with.
///
/// # Errors
/// [`FormationError::Io`] and [`FormationError::Promise`].
pub(crate) fn stored(disk: &SharedDisk, data: &Path) -> Result<Option<Timing>, FormationError> {
    let path = path(data);
    let bytes = match read_all(&**disk, &path, 1024) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(FormationError::Io { path, source }),
    };
    match parse(&bytes) {
        Some(timing) => Ok(Some(timing)),
        None => Err(FormationError::Promise { path }),
    }
}

fn parse(bytes: &[u8]) -> Option<Timing> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (heartbeat, lease) = text.trim_end().split_once(' ')?;
    let millis = |text: &str| text.parse().ok().map(Duration::from_millis);
    Timing::new(millis(heartbeat)?, millis(lease)?).ok()
}

/// Stores what is promised from now on.
///
/// # Errors
/// [`FormationError::Io`]; what was stored before is there.
pub(crate) fn store(disk: &SharedDisk, data: &Path, timing: Timing) -> Result<(), FormationError> {
    let path = path(data);
    let (heartbeat, lease) = (timing.heartbeat().as_millis(), timing.lease().as_millis());
    replace(&**disk, &path, format!("{heartbeat} {lease}\n").as_bytes())
        .map_err(|source| FormationError::Io { path, source })
}
