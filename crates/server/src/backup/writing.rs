//! Making a backup.

use super::reading::Header;
use super::{BackupError, COSTS, END, FIXED, Keys, MAGIC, PIECE, TAG, VERSION, bound, kept};
use crate::api::bodies::rfc3339;
use crate::keys;
use crate::random;
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use model::{Directory, UnixMillis};
use peer::seal::SealKeys;
use std::io::{self, Write};

/// Fast; what takes long is the passphrase.
const LEVEL: i32 = 3;

/// Writes a backup of a directory; `seal` opens its stored secrets.
///
/// # Errors
/// [`BackupError`].
pub(crate) fn write(
    out: impl Write,
    directory: &Directory,
    seals: &SealKeys,
    passphrase: &[u8],
    made: UnixMillis,
) -> Result<(), BackupError> {
    let salt: [u8; 16] = random::bytes().map_err(|_| BackupError::Key)?;
    let keys = Keys::of(passphrase, &salt, COSTS)?;
    let group = directory.group();
    let header = Header {
        group: group.name.to_string(),
        group_id: group.id.to_string(),
        made: rfc3339(made),
        version: crate::found::VERSION.to_owned(),
        costs: COSTS,
        salt: HEXLOWER.encode(&salt),
        check: keys.check.clone(),
    };
    // The group's id stays in what is sealed: whoever restores knows it from the group's record.
    let directory = keys::seal_again(directory, seals, (group.id, &keys.seal))?;
    let mut out = Pieces::begin(out, &header, keys)?;
    put_records(&mut out, &directory)?;
    out.finish()?;
    Ok(())
}

fn put_records(out: impl Write, directory: &Directory) -> io::Result<()> {
    let mut stream = zstd::stream::write::Encoder::new(out, LEVEL)?;
    let mut count = 0u64;
    for record in directory.records().filter_map(kept) {
        let bytes = wire::encode(&record);
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&length.to_le_bytes())?;
        stream.write_all(&bytes)?;
        count += 1;
    }
    stream.write_all(&END.to_le_bytes())?;
    stream.write_all(&count.to_le_bytes())?;
    stream.finish()?.flush()
}

/// Writes the header; gives what binds the pieces to it.
fn put_head(out: &mut impl Write, header: &Header) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(header).map_err(io::Error::other)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    let mut head = Vec::with_capacity(FIXED + json.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&[0; 2]);
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&json);
    let hash = digest::digest(&digest::SHA256, &head);
    out.write_all(&head)?;
    out.write_all(hash.as_ref())?;
    Ok(hash.as_ref().to_vec())
}

/// Cuts what is written into pieces and seals each.
struct Pieces<W> {
    out: W,
    keys: Keys,
    head: Vec<u8>,
    piece: Vec<u8>,
    place: u64,
}

impl<W: Write> Pieces<W> {
    fn begin(mut out: W, header: &Header, keys: Keys) -> Result<Self, BackupError> {
        let head = put_head(&mut out, header)?;
        Ok(Self {
            out,
            keys,
            head,
            piece: Vec::with_capacity(PIECE + TAG),
            place: 0,
        })
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        let bound = bound(&self.head, last);
        self.keys.seal_piece(self.place, &bound, &mut self.piece)?;
        let length = u32::try_from(self.piece.len()).map_err(io::Error::other)?;
        self.out.write_all(&[u8::from(last)])?;
        self.out.write_all(&length.to_le_bytes())?;
        self.out.write_all(&self.piece)?;
        self.piece.clear();
        self.place += 1;
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.put(true)?;
        self.out.flush()
    }
}

impl<W: Write> Write for &mut Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE {
            self.put(false)?;
        }
        let room = bytes.len().min(PIECE - self.piece.len());
        let taken = bytes.get(..room).unwrap_or_default();
        self.piece.extend_from_slice(taken);
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file with one piece that nobody can open.
pub(super) fn unopened() -> Vec<u8> {
    let header = Header {
        group: "east".to_owned(),
        group_id: "00".repeat(16),
        made: rfc3339(UnixMillis(0)),
        version: crate::found::VERSION.to_owned(),
        costs: COSTS,
        salt: HEXLOWER.encode(&[0; 16]),
        check: HEXLOWER.encode(&[0; 32]),
    };
    let mut file = Vec::new();
    // Memory takes all that is written.
    let _ = put_head(&mut file, &header);
    file.push(1);
    file.extend_from_slice(&40u32.to_le_bytes());
    file.extend_from_slice(&[0; 40]);
    file
}

/// The records of a group of which little is known.
pub(super) fn opened() -> Vec<u8> {
    let authority = model::Authority {
        certificate: vec![1],
        fingerprint: "sha256:00".to_owned(),
        key: Default::default(),
        ticket_public: Vec::new(),
        ticket_key: Default::default(),
        expires: UnixMillis(0),
    };
    let name = "east".parse().expect("a literal that is a group's name");
    let group = crate::node::nobody_in(model::GroupId::default(), name, authority);
    let directory = Directory::from_records([model::Record::Group(group.into())])
        .expect("a group's record alone makes a directory");
    let mut bytes = Vec::new();
    // Memory takes all that is written.
    let _ = put_records(&mut bytes, &directory);
    bytes
}
