//! Backups: a file with everything that people made in a group, sealed with a passphrase.
//!
//! ```text
//! "STEADBAK" version:u16 zero:2 length:u32 [header, JSON] sha256:32
//! { last:u8 length:u32 [AES-256-GCM of a piece] }
//! ```
//!
//! The pieces together are a zstd stream of the directory's records, each as its length (u32) and postcard, and end with a length of
//! `u32::MAX` and the number of records (u64). Numbers are little-endian. The key comes from the passphrase (Argon2id, with salt and costs
//! of the header); a piece is bound to the header, to its place and to whether it is the last.
//!
//! Always true: nothing is believed that the passphrase does not open; what is cut, damaged or of a newer version is refused with that
//! reason; values of stored secrets and keys of operators' certificates are sealed under another key from the passphrase, and no key of
//! the group is in it.
//! [`write()`] makes one, [`reading::read`] opens one, [`restoring::restore`] makes a group of it.

pub(crate) mod reading;
pub mod restoring;
mod writing;

pub use reading::{Header, inspect, records};
pub(crate) use writing::write;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use model::Record;
use model::directory::LoadError;
use peer::seal::SealKey;
use serde::{Deserialize, Serialize};
use std::io;
use zeroize::Zeroizing;

const MAGIC: &[u8; 8] = b"STEADBAK";
/// The format that this version writes, and the newest that it reads.
const VERSION: u16 = 1;
/// Magic, version, zeros and length.
const FIXED: usize = 16;
/// The largest header, in bytes.
const MAX_HEADER: usize = 64 * 1024;
/// Bytes of a piece before it is sealed.
const PIECE: usize = 256 * 1024;
const TAG: usize = 16;
/// The largest record, in bytes.
const MAX_RECORD: usize = 4 << 20;
const END: u32 = u32::MAX;
/// The least bytes of a passphrase.
pub const PASSPHRASE_LEAST: usize = 8;

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file.
    #[error("it cannot be read or written")]
    Io(#[from] io::Error),
    /// It is none.
    #[error("it is not a backup of stead")]
    NotABackup,
    /// It was written by a newer version.
    #[error(
        "it has format version {version}, this version of stead knows {VERSION}: restore it with a newer one"
    )]
    Version {
        /// Its version.
        version: u16,
    },
    /// It ends too early.
    #[error("it is cut off: its end is missing")]
    Truncated,
    /// It is not as it was written.
    #[error("it is damaged ({part}): another copy may be whole")]
    Damaged {
        /// Which part.
        part: &'static str,
    },
    /// Another passphrase.
    #[error("the passphrase is not the one that it was made with")]
    Passphrase,
    /// A passphrase that is too easily found.
    #[error("the passphrase has less than {PASSPHRASE_LEAST} bytes")]
    Weak,
    /// Its records make no directory.
    #[error("what it holds makes no directory")]
    Load(#[from] LoadError),
    /// Keys.
    #[error("a key cannot be made of the passphrase")]
    Key,
    /// Values of stored secrets, and keys of operators' certificates.
    #[error("the stored secrets and the keys of certificates cannot be sealed")]
    Secrets(#[from] crate::keys::KeysError),
}

/// What making a key of a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Costs {
    /// KiB of memory.
    pub(crate) memory_kib: u32,
    /// How often it is gone through.
    pub(crate) passes: u32,
    /// How many lanes.
    pub(crate) lanes: u32,
}

/// Those of the files that this version writes: a second or less, and too much for a stolen file's finder to try many.
const COSTS: Costs = Costs {
    memory_kib: 64 * 1024,
    passes: 3,
    lanes: 1,
};
/// What a file may ask for.
const COSTS_LIMIT: Costs = Costs {
    memory_kib: 1024 * 1024,
    passes: 64,
    lanes: 16,
};

/// What a passphrase opens.
pub(crate) struct Keys {
    pieces: LessSafeKey,
    /// For the values of stored secrets and the keys of operators' certificates.
    pub(crate) seal: SealKey,
    /// Tells whether a passphrase is the right one, and nothing about it.
    check: String,
}

impl Keys {
    fn of(passphrase: &[u8], salt: &[u8], costs: Costs) -> Result<Self, BackupError> {
        use argon2::{Algorithm, Argon2, Params, Version};
        if passphrase.len() < PASSPHRASE_LEAST {
            return Err(BackupError::Weak);
        }
        let params = Params::new(costs.memory_kib, costs.passes, costs.lanes, Some(96));
        let params = params.map_err(|_| BackupError::Key)?;
        let mut bytes = Zeroizing::new([0; 96]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, salt, &mut *bytes)
            .map_err(|_| BackupError::Key)?;
        let (pieces, rest) = bytes.split_at(32);
        let (seal, check) = rest.split_at(32);
        let pieces = UnboundKey::new(&AES_256_GCM, pieces).map_err(|_| BackupError::Key)?;
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(seal);
        Ok(Self {
            pieces: LessSafeKey::new(pieces),
            seal: SealKey::from_bytes(key),
            check: sha256(check),
        })
    }

    fn seal_piece(&self, place: u64, bound: &[u8], piece: &mut Vec<u8>) -> io::Result<()> {
        self.pieces
            .seal_in_place_append_tag(nonce(place), Aad::from(bound), piece)
            .map_err(io::Error::other)
    }

    fn open_piece(&self, place: u64, bound: &[u8], piece: &mut Vec<u8>) -> Result<(), BackupError> {
        let damaged = |_| BackupError::Damaged { part: "a piece" };
        let opened = self
            .pieces
            .open_in_place(nonce(place), Aad::from(bound), piece)
            .map_err(damaged)?
            .len();
        piece.truncate(opened);
        Ok(())
    }
}

/// No two pieces of a file have one, and no two files one key.
fn nonce(place: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    if let Some(end) = bytes.last_chunk_mut::<8>() {
        *end = place.to_be_bytes();
    }
    Nonce::assume_unique_for_key(bytes)
}

/// What a piece is bound to beside its place.
fn bound(head: &[u8], last: bool) -> Vec<u8> {
    [head, &[u8::from(last)]].concat()
}

fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    data_encoding::HEXLOWER.encode(hash.as_ref())
}

/// What of a record goes into a backup: what people made, and what tells of it. Keys of the group stay behind.
fn kept(record: Record) -> Option<Record> {
    match record {
        Record::Group(group) => {
            let mut group = (*group).clone();
            group.authority.key = Default::default();
            group.authority.ticket_key = Default::default();
            group.secret = Default::default();
            group.succession = Default::default();
            group.seal = Default::default();
            Some(Record::Group(group.into()))
        }
        // Overrides are of servers that there will not be.
        Record::Setting(_, on, _) if on.is_some() => None,
        record if crate::reset::kept::stays(&record) => Some(record),
        _ => None,
    }
}

/// Files and records to begin with, for whoever makes up others: a file that is whole to everybody who has no passphrase, and
/// records as they are once it is opened.
pub fn examples() -> Vec<Vec<u8>> {
    vec![writing::unopened(), writing::opened()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;
    use crate::node::nobody_in;
    use model::trust::Sealed;
    use model::{
        Authority, Directory, Event, EventKind, ExternalCertificate, ExternalName, Fields, GroupId,
        Severity, UnixMillis,
    };
    use peer::seal::SealKeys;

    const PASSPHRASE: &[u8] = b"correct horse";

    /// A journal that fills several pieces.
    fn directory() -> Directory {
        let authority = Authority {
            certificate: vec![1],
            fingerprint: "sha256:00".to_owned(),
            key: Sealed(vec![2; 64]),
            ticket_public: vec![3],
            ticket_key: Sealed(vec![4; 64]),
            expires: UnixMillis(0),
        };
        let mut group = nobody_in(
            GroupId::from_bytes([8; 16]),
            "east".parse().unwrap(),
            authority,
        );
        group.last_event = 3_000;
        // Nothing that compresses well.
        let noise = |seq: u64| -> String {
            let parts = seq * 8..seq * 8 + 8;
            parts.map(|part| sha256(&part.to_be_bytes())).collect()
        };
        let event = |seq: u64| Event {
            seq,
            at: UnixMillis(seq),
            server: None,
            kind: EventKind::UserChanged,
            severity: Severity::Info,
            subject: noise(seq),
            fields: Fields::default(),
            reasons: Vec::new(),
        };
        let events = (1..=3_000).map(|seq| Record::Event(event(seq).into()));
        let group = std::iter::once(Record::Group(group.into()));
        Directory::from_records(group.chain(events)).unwrap()
    }

    fn written(directory: &Directory) -> Vec<u8> {
        let mut file = Vec::new();
        let seals = SealKeys::only(SealKey::make().unwrap());
        write(&mut file, directory, &seals, PASSPHRASE, UnixMillis(5)).unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read_and_keys_of_the_group_are_not_in_it() {
        let directory = directory();
        let file = written(&directory);
        assert!(file.len() > 2 * PIECE, "several pieces: {}", file.len());
        let (header, read, _) = reading::read(&file[..], PASSPHRASE).unwrap();
        assert_eq!(inspect(&file[..]).unwrap(), header);
        assert_eq!(header.group, "east");
        assert!(read.events_back().eq(directory.events_back()));
        assert_eq!(read.sealed(), []);
        assert_eq!(read.group().authority.certificate, [1]);
    }

    #[test]
    fn operators_certificates_are_in_it_with_their_keys_sealed_anew() {
        let old = SealKey::make().unwrap();
        let directory = directory();
        let group = directory.group().id;
        let of = |name, key| {
            let certificate = ExternalCertificate {
                name: ExternalName::new(name).unwrap(),
                chain: vec![vec![1]],
                key,
                fingerprint: String::new(),
                issuer: String::new(),
                expires: UnixMillis(0),
                version_number: 7,
            };
            Record::Certificate(certificate.into())
        };
        let sealed = keys::seal_external(group, &old, b"its key").unwrap();
        let records = [
            of("portal.example.org", sealed),
            of("damaged.example.org", Sealed(vec![1; 64])),
        ];
        let directory = Directory::from_records(directory.records().chain(records)).unwrap();
        let mut file = Vec::new();
        write(
            &mut file,
            &directory,
            &SealKeys::only(old.clone()),
            PASSPHRASE,
            UnixMillis(5),
        )
        .unwrap();
        let (_, read, keys_of_file) = reading::read(&file[..], PASSPHRASE).unwrap();
        let kept: Vec<_> = read.certificates().collect();
        let [kept] = kept.as_slice() else {
            panic!("one that nobody can open is of no use: {kept:?}")
        };
        assert_eq!(kept.name.as_str(), "portal.example.org");
        assert!(keys::open_external(group, &SealKeys::only(old), &kept.key).is_err());
        let opened =
            keys::open_external(group, &SealKeys::only(keys_of_file.seal), &kept.key).unwrap();
        assert_eq!(opened.as_slice(), b"its key");
    }

    #[test]
    fn pieces_have_their_places_and_the_last_is_the_last() {
        let file = written(&directory());
        let head =
            FIXED + u32::from_le_bytes([file[12], file[13], file[14], file[15]]) as usize + 32;
        let piece = 5 + PIECE + TAG;
        let refused = |file: &[u8]| reading::read(file, PASSPHRASE).err().unwrap().to_string();
        let (first, second) = (head..head + piece, head + piece..head + 2 * piece);
        let swapped = [
            &file[..head],
            &file[second.clone()],
            &file[first.clone()],
            &file[second.end..],
        ];
        assert!(refused(&swapped.concat()).contains("damaged (a piece)"));
        // Cut behind a whole piece that is then called the last.
        let mut cut = file[..second.end].to_vec();
        assert!(refused(&cut).contains("its end is missing"));
        cut[second.start] = 1;
        assert!(refused(&cut).contains("damaged (a piece)"));
        let mut costly = file.clone();
        costly[head - 1] ^= 1;
        assert!(refused(&costly).contains("damaged (header)"));
        assert!(matches!(
            reading::read(&file[..], b"short"),
            Err(BackupError::Weak)
        ));
        assert!(matches!(
            reading::read(&file[..], b"another passphrase"),
            Err(BackupError::Passphrase)
        ));
    }
}
