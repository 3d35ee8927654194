//! The token of a device whose user has no credential: `pseudo.ID`, the same at every start of the same machine.
//!
//! Always true: the machine's own id leaves it only as a digest that nothing else uses (machine-id(5)). Start at [`token`].

use aws_lc_rs::digest;
use model::Token;
use std::io;
use std::path::{Path, PathBuf};

/// Where the system keeps the machine's id.
const MACHINE_ID: &str = "/etc/machine-id";
/// Makes the digest one of this use.
const USE: &[u8] = b"stead pseudo token 1";
/// How many bytes of the digest are shown.
const SHOWN: usize = 10;

/// Why a device has no token.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The file cannot be read.
    #[error("{} cannot be read, and this device is known by nothing else", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system was not given an id yet.
    #[error("{} holds no id", .path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
}

/// This device's token.
///
/// # Errors
/// The system has no machine id.
pub fn token() -> Result<Token, DeviceError> {
    of_file(Path::new(MACHINE_ID))
}

fn of_file(path: &Path) -> Result<Token, DeviceError> {
    let text = std::fs::read_to_string(path).map_err(|source| DeviceError::Read {
        path: path.to_owned(),
        source,
    })?;
    let id = text.trim();
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err(DeviceError::Empty {
            path: path.to_owned(),
        });
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(USE);
    context.update(id.as_bytes());
    let digest = context.finish();
    let shown = digest.as_ref().iter().take(SHOWN);
    let hex: String = shown.map(|byte| format!("{byte:02x}")).collect();
    Ok(Token::new(&format!("pseudo.{hex}")).expect("invariant: letters, digits and a full stop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_one_token_that_does_not_show_its_id() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let id = "0123456789abcdef0123456789abcdef";
        std::fs::write(file.path(), format!("{id}\n")).unwrap();
        let one = of_file(file.path()).unwrap();
        assert_eq!(one, of_file(file.path()).unwrap());
        assert_eq!((one.kind(), one.as_str().len()), (Some("pseudo"), 27));
        assert!(!one.as_str().contains(&id[..8]));
        std::fs::write(file.path(), "uninitialized\n").unwrap();
        assert!(matches!(
            of_file(file.path()),
            Err(DeviceError::Empty { .. })
        ));
    }
}
