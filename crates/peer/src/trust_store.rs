//! Keys and certificates of a server on disk, in `<data>/trust/`.
//!
//! | file | what |
//! | --- | --- |
//! | `authority.pem` | certificate of the group's authority; while it rotates, the one in force first, then the other that is accepted |
//! | `former.pem` | certificates of authorities that are not accepted any more; those who were away still know them |
//! | `links.pem` | what leads from authorities of before to the one in force, and is shown with this server's certificates |
//! | `peer.pem`, `peer.key` | certificate and key for servers among themselves |
//! | `client.pem`, `client.key` | certificate and key of the client port |
//! | `secret` | a line `current HEX`; while the group secret rotates, `previous HEX`; then `old HEX` for each that may only fetch it |
//! | `seal.key` | the seal keys in hexadecimal, a line each, the newest first, on servers that may lead only |
//!
//! What must always be true: a crash at any point leaves a folder that loads, with the old or the new
//! content; a file with a secret in it that others may read is refused, with the remedy.

use crate::files::{self, Privacy, ReadError, WriteError};
use crate::fingerprint::Fingerprint;
use crate::identity::{CertificateFacts, CertificateFactsError, CertificateRole};
use crate::key::{KeyError, PrivateKey};
use crate::seal::{KEYS_LIMIT, SealKey, SealKeys};
use crate::secret::{GroupSecrets, OLD_SECRETS, Secret};
use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// The most certificates of authorities that a file may have.
const AUTHORITY_LIMIT: usize = 12;

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKey,
}

/// All that a server holds to be trusted and to trust.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Certificates of the group's authority: the one in force first, then others still accepted.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Certificates of authorities that are not accepted any more: whoever shows one's may ask for another, and for nothing else.
    pub former: Vec<CertificateDer<'static>>,
    /// Certificates that lead from authorities of before to the one in force, and what clients of before know that one by.
    pub links: Vec<CertificateDer<'static>>,
    /// For servers among themselves.
    pub peer: Credential,
    /// For the client port.
    pub client: Credential,
    /// The group secret.
    pub secrets: GroupSecrets,
    /// The seal keys; only servers that may lead have any.
    pub seals: SealKeys,
}

impl Trust {
    /// The fingerprint of the authority in force; none when there is no authority.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        self.authorities
            .first()
            .map(|certificate| Fingerprint::of(certificate))
    }
}

/// Why `<data>/trust/` cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is missing, unreadable or exposed.
    #[error(
        "the keys of this server cannot be loaded; restore the folder from this server's backup, \
         or remove this server from the group and let it join again"
    )]
    File(#[from] ReadError),
    /// What was left half-way by a crash cannot be completed.
    #[error("an interrupted renewal cannot be completed")]
    Complete(#[from] WriteError),
    /// A file has something else in it than expected.
    #[error("{} is damaged: it should hold {expected}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What should be in it.
        expected: &'static str,
    },
    /// A private key cannot be used.
    #[error("{} is damaged", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
    /// A certificate that is no server's.
    #[error("{} is damaged", path.display())]
    Certificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: CertificateFactsError,
    },
    /// A peer certificate in place of a client certificate or the reverse.
    #[error("{} holds a {found} certificate instead of a {expected} certificate", path.display())]
    Role {
        /// Which file.
        path: PathBuf,
        /// What should be there.
        expected: CertificateRole,
        /// What is there.
        found: CertificateRole,
    },
    /// A certificate and a key of different pairs.
    #[error("{} and {} do not belong together", certificate.display(), key.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
}

/// Where a server keeps its keys and certificates.
#[derive(Debug, Clone)]
pub struct TrustStore {
    folder: PathBuf,
}

impl TrustStore {
    /// The store of the server whose data is in `data`.
    pub fn of(data: &Path) -> Self {
        Self {
            folder: data.join("trust"),
        }
    }

    /// Whether there is anything to load.
    pub fn exists(&self) -> bool {
        self.folder.join(AUTHORITY).exists()
    }

    /// Reads everything, and completes a renewal that a crash interrupted.
    ///
    /// # Errors
    /// When a file is missing, damaged, exposed to others, or does not belong with the others.
    pub fn load(&self) -> Result<Trust, LoadError> {
        Ok(Trust {
            authorities: self.load_authorities(AUTHORITY)?,
            former: self.load_further(FORMER)?,
            links: self.load_further(LINKS)?,
            peer: self.load_credential(CertificateRole::Peer)?,
            client: self.load_credential(CertificateRole::Client)?,
            secrets: self.load_secrets()?,
            seals: self.load_seal_keys()?,
        })
    }

    /// Replaces everything at once: for a new group, for joining and for leaving one.
    ///
    /// # Errors
    /// When the file system refuses; the old content is then still in force.
    pub fn replace(&self, trust: &Trust) -> Result<(), WriteError> {
        let mut beside = self.folder.clone().into_os_string();
        beside.push(".new");
        let beside = Self {
            folder: PathBuf::from(beside),
        };
        remove_folder(&beside.folder)?;
        files::make_folder(&beside.folder)?;
        beside.save_authorities(trust)?;
        beside.save_secrets(&trust.secrets)?;
        beside.save_seal_keys(&trust.seals)?;
        for (role, credential) in [
            (CertificateRole::Peer, &trust.peer),
            (CertificateRole::Client, &trust.client),
        ] {
            files::write(
                &beside.path(role, "key"),
                pem_of_key(&credential.key).as_bytes(),
            )?;
            files::write(
                &beside.path(role, "pem"),
                pem_of_certificate(credential).as_bytes(),
            )?;
        }
        let refused = |source: rustix::io::Errno| WriteError {
            path: self.folder.clone(),
            source: source.into(),
        };
        if self.folder.exists() {
            renameat_with(
                CWD,
                &beside.folder,
                CWD,
                &self.folder,
                RenameFlags::EXCHANGE,
            )
            .map_err(refused)?;
            files::sync_parent(&self.folder)?;
            remove_folder(&beside.folder)
        } else {
            files::rename(&beside.folder, &self.folder)
        }
    }

    /// Replaces the certificates of the authorities.
    ///
    /// # Errors
    /// When the file system refuses. Some may have been replaced then: each file is whole, and whoever follows the directory
    /// completes them.
    pub fn save_authorities(&self, trust: &Trust) -> Result<(), WriteError> {
        // What is accepted comes last: a server that comes back between two of these writes accepts what it did before.
        for (name, certificates) in [
            (LINKS, &trust.links),
            (FORMER, &trust.former),
            (AUTHORITY, &trust.authorities),
        ] {
            let text: String = certificates
                .iter()
                .map(|der| pem("CERTIFICATE", der))
                .collect();
            files::write(&self.folder.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// Replaces the certificate and the key of a role: a renewal.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save_credential(
        &self,
        role: CertificateRole,
        credential: &Credential,
    ) -> Result<(), WriteError> {
        // The certificate's rename decides: before it the old pair is in force, after it the new one, whose
        // key `load` finds under its temporary name if the last step is missing.
        let next = self.path(role, "key.next");
        files::write(&next, pem_of_key(&credential.key).as_bytes())?;
        files::write(
            &self.path(role, "pem"),
            pem_of_certificate(credential).as_bytes(),
        )?;
        files::rename(&next, &self.path(role, "key"))
    }

    /// Replaces the group secret.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save_secrets(&self, secrets: &GroupSecrets) -> Result<(), WriteError> {
        // Room for all of it from the start, so that no copy of a secret is left behind by growing.
        let mut text = Zeroizing::new(String::with_capacity((OLD_SECRETS + 2) * 80));
        let current = std::iter::once((CURRENT, &secrets.current));
        let previous = secrets.previous.iter().map(|secret| (PREVIOUS, secret));
        let old = secrets.old.iter().map(|secret| (OLD, secret));
        for (word, secret) in current.chain(previous).chain(old) {
            text.push_str(word);
            text.push(' ');
            push_hex_line(&mut text, secret.as_bytes());
        }
        files::write(&self.folder.join(SECRET), text.as_bytes())
    }

    /// Replaces the seal keys, or removes them from a server that may no longer lead.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn save_seal_keys(&self, seals: &SealKeys) -> Result<(), WriteError> {
        let path = self.folder.join(SEAL_KEY);
        if seals.is_empty() {
            return files::remove(&path);
        }
        let mut text = Zeroizing::new(String::with_capacity(KEYS_LIMIT * 65));
        for seal in seals.iter() {
            push_hex_line(&mut text, seal.as_bytes());
        }
        files::write(&path, text.as_bytes())
    }

    fn path(&self, role: CertificateRole, extension: &str) -> PathBuf {
        self.folder.join(format!("{role}.{extension}"))
    }

    /// Those of a file that may be missing, or empty.
    fn load_further(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, LoadError> {
        match std::fs::metadata(self.folder.join(name)) {
            Ok(file) if file.len() > 0 => self.load_authorities(name),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                self.load_authorities(name)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn load_authorities(&self, name: &str) -> Result<Vec<CertificateDer<'static>>, LoadError> {
        let path = self.folder.join(name);
        let bytes = files::read(&path, Privacy::Public)?;
        let damaged = || LoadError::Damaged {
            path: path.clone(),
            expected: "certificates of the group's authorities in PEM, a few at most",
        };
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|_| damaged())?;
        let all_authorities = certificates.iter().all(|der| {
            X509Certificate::from_der(der).is_ok_and(|(rest, it)| rest.is_empty() && it.is_ca())
        });
        if certificates.is_empty() || certificates.len() > AUTHORITY_LIMIT || !all_authorities {
            return Err(damaged());
        }
        Ok(certificates)
    }

    fn load_credential(&self, role: CertificateRole) -> Result<Credential, LoadError> {
        let path = self.path(role, "pem");
        let bytes = files::read(&path, Privacy::Public)?;
        let certificate =
            CertificateDer::from_pem_slice(&bytes).map_err(|_| LoadError::Damaged {
                path: path.clone(),
                expected: "a certificate in PEM",
            })?;
        let facts =
            CertificateFacts::read(&certificate).map_err(|source| LoadError::Certificate {
                path: path.clone(),
                source,
            })?;
        let found = facts.name.role;
        if found != role {
            return Err(LoadError::Role {
                path,
                expected: role,
                found,
            });
        }
        let key_path = self.path(role, "key");
        let next_path = self.path(role, "key.next");
        let key = match read_key(&key_path) {
            Ok(key) if belongs(&certificate, &key) => key,
            other => match read_key(&next_path) {
                Ok(next) if belongs(&certificate, &next) => {
                    files::rename(&next_path, &key_path)?;
                    next
                }
                _ => {
                    other?;
                    return Err(LoadError::Mismatch {
                        certificate: path,
                        key: key_path,
                    });
                }
            },
        };
        Ok(Credential { certificate, key })
    }

    fn load_secrets(&self) -> Result<GroupSecrets, LoadError> {
        let path = self.folder.join(SECRET);
        let bytes = files::read(&path, Privacy::Private)?;
        parse_secrets(&bytes).ok_or(LoadError::Damaged {
            path,
            expected: "a line `current` with 64 hexadecimal digits, then `previous` and `old` ones",
        })
    }

    fn load_seal_keys(&self) -> Result<SealKeys, LoadError> {
        let path = self.folder.join(SEAL_KEY);
        let bytes = match files::read(&path, Privacy::Private) {
            Ok(bytes) => bytes,
            Err(ReadError::Missing { .. }) => return Ok(SealKeys::default()),
            Err(error) => return Err(error.into()),
        };
        let lines = bytes.trim_ascii().split(|byte| *byte == b'\n');
        let keys: Option<Vec<_>> = lines
            .map(|line| parse_hex(line.trim_ascii()).map(SealKey::from_bytes))
            .collect();
        let keys = keys.filter(|keys| keys.len() <= KEYS_LIMIT);
        let keys = keys.ok_or(LoadError::Damaged {
            path,
            expected: "lines of 64 hexadecimal digits",
        })?;
        Ok(SealKeys::from_keys(keys))
    }
}

const AUTHORITY: &str = "authority.pem";
const FORMER: &str = "former.pem";
const LINKS: &str = "links.pem";
const SECRET: &str = "secret";
const SEAL_KEY: &str = "seal.key";
/// Words of `secret`.
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
const OLD: &str = "old";
const CURRENT_WORD: &[u8] = CURRENT.as_bytes();
const PREVIOUS_WORD: &[u8] = PREVIOUS.as_bytes();
const OLD_WORD: &[u8] = OLD.as_bytes();

fn read_key(path: &Path) -> Result<PrivateKey, LoadError> {
    let bytes = files::read(path, Privacy::Private)?;
    let damaged = || LoadError::Damaged {
        path: path.to_owned(),
        expected: "a private key in PEM (PKCS#8)",
    };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&bytes).map_err(|_| damaged())?;
    PrivateKey::from_pkcs8(Zeroizing::new(der.secret_pkcs8_der().to_vec())).map_err(|source| {
        LoadError::Key {
            path: path.to_owned(),
            source,
        }
    })
}

fn belongs(certificate: &CertificateDer<'_>, key: &PrivateKey) -> bool {
    X509Certificate::from_der(certificate)
        .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.public_key())
}

fn remove_folder(path: &Path) -> Result<(), WriteError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(WriteError {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

fn pem_of_certificate(credential: &Credential) -> Zeroizing<String> {
    Zeroizing::new(pem("CERTIFICATE", &credential.certificate))
}

fn pem_of_key(key: &PrivateKey) -> Zeroizing<String> {
    Zeroizing::new(pem("PRIVATE KEY", key.pkcs8()))
}

/// Bytes as a PEM section (RFC 7468); all room is taken at once, so that the caller can wipe it.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = String::with_capacity(2 * der.len() + 2 * label.len() + 64);
    let _ = writeln!(text, "-----BEGIN {label}-----");
    for line in der.chunks(48) {
        BASE64.encode_append(line, &mut text);
        text.push('\n');
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

fn parse_secrets(text: &[u8]) -> Option<GroupSecrets> {
    let mut lines = text
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let space = line.iter().position(|byte| *byte == b' ')?;
            let (word, hex) = line.split_at_checked(space)?;
            let secret = Secret::from_bytes(parse_hex(hex.get(1..)?)?);
            Some((word, secret))
        });
    let (CURRENT_WORD, current) = lines.next()?? else {
        return None;
    };
    let mut secrets = GroupSecrets::only(current);
    for line in lines {
        match line? {
            (PREVIOUS_WORD, secret) if secrets.previous.is_none() && secrets.old.is_empty() => {
                secrets.previous = Some(secret);
            }
            (OLD_WORD, secret) if secrets.old.len() < OLD_SECRETS => secrets.old.push(secret),
            _ => return None,
        }
    }
    Some(secrets)
}

fn push_hex_line(text: &mut String, bytes: &[u8; 32]) {
    HEXLOWER.encode_append(bytes, text);
    text.push('\n');
}

fn parse_hex(text: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 64 {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(text, &mut *bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::{Authority, Validity};
    use crate::key::RequestedKey;
    use model::{GroupId, ServerId, UnixMillis};
    use std::os::unix::fs::PermissionsExt;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const GROUP: GroupId = GroupId::from_bytes([7; 16]);
    const SERVER: ServerId = ServerId::from_bytes([9; 16]);

    fn credential(authority: &Authority, role: CertificateRole) -> Credential {
        let key = PrivateKey::make().unwrap();
        let request = RequestedKey::from_request(&key.certificate_request().unwrap()).unwrap();
        let address = "127.0.0.1:5427".parse::<crate::address::Address>().unwrap();
        let issued = match role {
            CertificateRole::Peer => {
                authority.issue_peer(&request, GROUP, SERVER, &address, Validity::ordinary(NOW))
            }
            CertificateRole::Client => authority.issue_client(
                &request,
                GROUP,
                SERVER,
                &[address.host],
                Validity::ordinary(NOW),
            ),
        };
        Credential {
            certificate: issued.unwrap().certificate,
            key,
        }
    }

    fn trust() -> (Authority, Trust) {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let trust = Trust {
            former: Vec::new(),
            links: Vec::new(),
            authorities: vec![authority.certificate().clone()],
            peer: credential(&authority, CertificateRole::Peer),
            client: credential(&authority, CertificateRole::Client),
            secrets: GroupSecrets::only(Secret::make().unwrap()),
            seals: SealKeys::from_keys([SealKey::make().unwrap(), SealKey::make().unwrap()]),
        };
        (authority, trust)
    }

    fn assert_same(one: &Trust, other: &Trust) {
        assert_eq!(one.authorities, other.authorities);
        for (one, other) in [(&one.peer, &other.peer), (&one.client, &other.client)] {
            assert_eq!(one.certificate, other.certificate);
            assert_eq!(one.key.pkcs8(), other.key.pkcs8());
        }
        let secrets = |trust: &Trust| {
            let GroupSecrets {
                current,
                previous,
                old,
            } = &trust.secrets;
            (
                current.as_bytes().clone(),
                previous.as_ref().map(|it| it.as_bytes().clone()),
                old.iter().map(Secret::mark).collect::<Vec<_>>(),
            )
        };
        assert_eq!(secrets(one), secrets(other));
        assert_eq!(one.seals.marks(), other.seals.marks());
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let data = tempfile::tempdir().unwrap();
        let store = TrustStore::of(data.path());
        assert!(!store.exists());
        assert!(matches!(
            store.load(),
            Err(LoadError::File(ReadError::Missing { .. }))
        ));
        let (_, first) = trust();
        store.replace(&first).unwrap();
        assert_same(&store.load().unwrap(), &first);
        // Another group, without a seal key: nothing of the first is left.
        let (_, mut second) = trust();
        second.seals = SealKeys::default();
        second.secrets.previous = Some(first.secrets.current.clone());
        store.replace(&second).unwrap();
        assert_same(&store.load().unwrap(), &second);
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_renewal_survives_a_crash_after_each_step() {
        let data = tempfile::tempdir().unwrap();
        let store = TrustStore::of(data.path());
        let (authority, old) = trust();
        let renewed = credential(&authority, CertificateRole::Peer);
        let next = store.path(CertificateRole::Peer, "key.next");
        store.replace(&old).unwrap();
        files::write(&next, pem_of_key(&renewed.key).as_bytes()).unwrap();
        assert_eq!(store.load().unwrap().peer.certificate, old.peer.certificate);
        let certificate = store.path(CertificateRole::Peer, "pem");
        files::write(&certificate, pem_of_certificate(&renewed).as_bytes()).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.peer.certificate, renewed.certificate);
        assert_eq!(loaded.peer.key.pkcs8(), renewed.key.pkcs8());
        assert!(!next.exists());
        let again = credential(&authority, CertificateRole::Peer);
        store
            .save_credential(CertificateRole::Peer, &again)
            .unwrap();
        assert_eq!(store.load().unwrap().peer.certificate, again.certificate);
    }

    #[test]
    fn damage_is_named_by_its_file() {
        let data = tempfile::tempdir().unwrap();
        let store = TrustStore::of(data.path());
        let (authority, good) = trust();
        for file in [
            "authority.pem",
            "peer.pem",
            "peer.key",
            "client.pem",
            "client.key",
            "secret",
            "seal.key",
        ] {
            let path = data.path().join("trust").join(file);
            for damage in [
                &b""[..],
                b"\0\xff",
                b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
            ] {
                store.replace(&good).unwrap();
                files::write(&path, damage).unwrap();
                let error = store.load().unwrap_err();
                assert!(error.to_string().contains(file), "{file}: {error}");
            }
        }
        store.replace(&good).unwrap();
        store
            .save_credential(CertificateRole::Peer, &good.client)
            .unwrap();
        assert!(matches!(
            store.load(),
            Err(LoadError::Role {
                found: CertificateRole::Client,
                ..
            })
        ));
        let mixed = Credential {
            key: PrivateKey::make().unwrap(),
            ..good.peer.clone()
        };
        store
            .save_credential(CertificateRole::Peer, &mixed)
            .unwrap();
        assert!(matches!(store.load(), Err(LoadError::Mismatch { .. })));
        store.replace(&good).unwrap();
        let mut changed = good.clone();
        changed.authorities = vec![good.peer.certificate.clone()];
        store.save_authorities(&changed).unwrap();
        assert!(matches!(store.load(), Err(LoadError::Damaged { .. })));
        let next = Authority::make(GROUP, NOW).unwrap();
        changed.authorities = vec![next.certificate().clone(), authority.certificate().clone()];
        changed.links = vec![authority.bridge_to(&next, NOW).unwrap()];
        changed.former = vec![trust().0.certificate().clone()];
        store.save_authorities(&changed).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(loaded.authorities, changed.authorities);
        assert_eq!(
            (loaded.links, loaded.former),
            (changed.links, changed.former)
        );
        store.replace(&good).unwrap();
        assert!(store.load().unwrap().former.is_empty());
    }

    #[test]
    fn exposed_secrets_are_refused() {
        let data = tempfile::tempdir().unwrap();
        let store = TrustStore::of(data.path());
        for file in ["peer.key", "client.key", "secret", "seal.key"] {
            store.replace(&trust().1).unwrap();
            let path = data.path().join("trust").join(file);
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
            assert!(
                matches!(
                    store.load(),
                    Err(LoadError::File(ReadError::Exposed { .. }))
                ),
                "{file}"
            );
        }
    }
}
