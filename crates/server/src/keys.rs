//! What a server that holds the seal key can do: issue certificates, sign tickets, open invitations.

use crate::random::{self, NoRandomness};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use model::{
    Authority as AuthorityRecord, Directory, GroupId, SealedAt, SecretName, Server, ServerId,
    UnixMillis,
    trust::{Sealed, TicketKeys},
};
use peer::address::{Address, AddressError, Host};
use peer::authority::{Authority, AuthorityError, Issued, Validity};
use peer::key::{RequestedKey, RequestedKeyError};
use peer::seal::{SealError, SealKey, SealKeys, Sealing};
use peer::secret::Secret;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

/// Why a key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A sealed key does not open.
    #[error("a key in the directory does not open with this server's seal key")]
    Seal(#[from] SealError),
    /// The authority cannot be made or used.
    #[error("the group's authority cannot be used")]
    Authority(#[from] AuthorityError),
    /// A certificate request that is not one.
    #[error("the certificate request is not valid")]
    Request(#[from] RequestedKeyError),
    /// An address that is not one.
    #[error("an address is not valid")]
    Address(#[from] AddressError),
    /// The group secret in the directory has another length.
    #[error("the group secret in the directory is damaged")]
    Secret,
    /// The ticket key cannot be made.
    #[error("the ticket key cannot be made")]
    TicketKey,
    /// The operating system has no randomness to give.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
}

/// A new group's authority and ticket key, sealed for the directory.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn make(
    group: GroupId,
    seal: &SealKey,
    now: UnixMillis,
) -> Result<(Authority, AuthorityRecord), KeysError> {
    let authority = Authority::make(group, now)?;
    let tickets = make_tickets(group, seal)?;
    let record = AuthorityRecord {
        certificate: authority.certificate().to_vec(),
        fingerprint: authority.fingerprint().to_string(),
        key: seal_authority(group, seal, &authority)?,
        ticket_public: tickets.public,
        ticket_key: tickets.key,
        expires: authority.expires(),
    };
    Ok((authority, record))
}

/// A new ticket key, sealed for the directory.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn make_tickets(group: GroupId, seal: &SealKey) -> Result<TicketKeys, KeysError> {
    let key = Zeroizing::new(
        Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| KeysError::TicketKey)?
            .as_ref()
            .to_vec(),
    );
    let pair = Ed25519KeyPair::from_pkcs8(&key).map_err(|_| KeysError::TicketKey)?;
    Ok(TicketKeys {
        public: pair.public_key().as_ref().to_vec(),
        key: Sealed(seal.seal(Sealing::TicketKey, group, &key)?),
    })
}

/// The key of an authority, sealed for the directory.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn seal_authority(
    group: GroupId,
    seal: &SealKey,
    authority: &Authority,
) -> Result<Sealed, KeysError> {
    let sealed = seal.seal(Sealing::AuthorityKey, group, authority.key_pkcs8())?;
    Ok(Sealed(sealed))
}

/// The group secret, sealed for the directory.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn seal_secret(group: GroupId, seal: &SealKey, secret: &Secret) -> Result<Sealed, KeysError> {
    let sealed = seal.seal(Sealing::GroupSecret, group, &**secret.as_bytes())?;
    Ok(Sealed(sealed))
}

/// The group secret that is in force, opened.
///
/// # Errors
/// When it is sealed under a key that is not among these, or the record is damaged.
pub fn open_secret(directory: &Directory, seals: &SealKeys) -> Result<Secret, KeysError> {
    let group = directory.group();
    let bytes = seals.open(Sealing::GroupSecret, group.id, &group.secret.sealed.0)?;
    let bytes: [u8; 32] = bytes.as_slice().try_into().map_err(|_| KeysError::Secret)?;
    Ok(Secret::from_bytes(Zeroizing::new(bytes)))
}

/// A stored credential's value, sealed for the directory.
///
/// # Errors
/// When it is too long, or the operating system has no randomness to give.
pub fn seal_stored(
    group: GroupId,
    seal: &SealKey,
    name: &SecretName,
    value: &[u8],
) -> Result<Sealed, KeysError> {
    let whose = (group, name.as_str());
    let sealed = seal.seal_named(Sealing::StoredSecret, whose, value)?;
    Ok(Sealed(sealed))
}

/// A stored credential's value, opened.
///
/// # Errors
/// When it is sealed under a key that is not among these, or the record is damaged or another secret's.
pub fn open_stored(
    group: GroupId,
    seals: &SealKeys,
    name: &SecretName,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let whose = (group, name.as_str());
    Ok(seals.open_named(Sealing::StoredSecret, whose, &sealed.0)?)
}

/// The private key of an operator's certificate, sealed for the directory.
///
/// # Errors
/// When it is too long, or the operating system has no randomness to give.
pub fn seal_external(group: GroupId, seal: &SealKey, key: &[u8]) -> Result<Sealed, KeysError> {
    Ok(Sealed(seal.seal(Sealing::ExternalKey, group, key)?))
}

/// The private key of an operator's certificate, opened.
///
/// # Errors
/// When it is sealed under a key that is not among these, or the record is damaged.
pub fn open_external(
    group: GroupId,
    seals: &SealKeys,
    sealed: &Sealed,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    Ok(seals.open(Sealing::ExternalKey, group, &sealed.0)?)
}

/// A directory for another group or seal key: values of stored credentials and keys of operators' certificates are sealed anew, and lost
/// where the old keys do not open them. Nothing else changes.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn seal_again(
    directory: &Directory,
    old: &SealKeys,
    (new_group, new): (GroupId, &SealKey),
) -> Result<Directory, KeysError> {
    let old_group = directory.group().id;
    directory.with_secrets_sealed(|at, sealed| {
        let (what, opened) = match at {
            SealedAt::Secret(name) | SealedAt::Diverged { secret: name, .. } => {
                let opened = open_stored(old_group, old, name, sealed);
                let again = opened.map(|value| seal_stored(new_group, new, name, &value));
                (format!("the value of the stored secret {name}"), again)
            }
            SealedAt::ExternalKey(name) | SealedAt::DivergedKey { name, .. } => {
                let opened = open_external(old_group, old, sealed);
                let again = opened.map(|key| seal_external(new_group, new, &key));
                (format!("the key of the certificate for {name}"), again)
            }
            _ => return Ok(sealed.clone()),
        };
        opened.unwrap_or_else(|error| {
            tracing::warn!(what, %error, "this cannot be opened: it has to be put in again");
            Ok(Sealed::default())
        })
    })
}

/// Something that the directory has sealed, sealed under the key in force.
///
/// # Errors
/// When it is sealed under a key that is not among these, or the record is damaged.
pub fn sealed_again(
    group: GroupId,
    seals: &SealKeys,
    new: &SealKey,
    (at, sealed): (&SealedAt, &Sealed),
) -> Result<Sealed, KeysError> {
    let (what, name) = match at {
        SealedAt::AuthorityKey | SealedAt::OtherAuthorityKey => (Sealing::AuthorityKey, ""),
        SealedAt::TicketKey => (Sealing::TicketKey, ""),
        SealedAt::GroupSecret => (Sealing::GroupSecret, ""),
        SealedAt::Invitation(_) => (Sealing::Invitation, ""),
        SealedAt::ExternalKey(_) | SealedAt::DivergedKey { .. } => (Sealing::ExternalKey, ""),
        SealedAt::Secret(name) | SealedAt::Diverged { secret: name, .. } => {
            (Sealing::StoredSecret, name.as_str())
        }
    };
    let value = seals.open_named(what, (group, name), &sealed.0)?;
    Ok(Sealed(new.seal_named(what, (group, name), &value)?))
}

/// The authority, opened.
///
/// # Errors
/// When it is sealed under a key that is not among these, or the record is damaged.
pub fn open_authority(directory: &Directory, seals: &SealKeys) -> Result<Authority, KeysError> {
    let group = directory.group();
    let key = seals.open(Sealing::AuthorityKey, group.id, &group.authority.key.0)?;
    Ok(Authority::from_parts(
        CertificateDer::from(group.authority.certificate.clone()),
        key,
    )?)
}

/// The ticket key (PKCS #8), opened.
///
/// # Errors
/// When it is sealed under a key that is not among these, or the record is damaged.
pub fn open_ticket_key(
    directory: &Directory,
    seals: &SealKeys,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let group = directory.group();
    Ok(seals.open(Sealing::TicketKey, group.id, &group.authority.ticket_key.0)?)
}

/// Both certificates of a server, for requests that it made.
#[derive(Debug, Clone)]
pub struct Pair {
    /// For servers among themselves.
    pub peer: Issued,
    /// For the client port.
    pub client: Issued,
}

/// Where the server that certificates are for is reached.
#[derive(Debug, Clone)]
pub struct Reached<'a> {
    /// By other servers.
    pub peer: &'a str,
    /// By clients: its own address, and those that it has in some of their networks.
    pub client: Vec<&'a str>,
}

impl<'a> Reached<'a> {
    /// Where a member is reached.
    pub fn of(server: &'a Server) -> Self {
        let external = server.external.iter().map(|it| it.address.as_str());
        Self {
            peer: &server.peer_address,
            client: std::iter::once(server.client_address.as_str())
                .chain(external)
                .collect(),
        }
    }

    /// Where servers reach it.
    ///
    /// # Errors
    /// When the address is not one.
    pub fn peer_address(&self) -> Result<Address, AddressError> {
        self.peer.parse()
    }

    /// The hosts under which clients reach it.
    ///
    /// # Errors
    /// When an address is not one.
    pub fn client_hosts(&self) -> Result<Vec<Host>, AddressError> {
        let hosts = self.client.iter().map(|address| address.parse::<Address>());
        hosts.map(|address| Ok(address?.host)).collect()
    }
}

/// Issues both certificates of a server of a group.
///
/// # Errors
/// When a request or an address is not valid, or the authority has expired.
pub fn issue(
    authority: &Authority,
    (group, server): (GroupId, ServerId),
    reached: &Reached<'_>,
    requests: (&[u8], &[u8]),
    validity: Validity,
) -> Result<Pair, KeysError> {
    let (peer_address, hosts) = (reached.peer_address()?, reached.client_hosts()?);
    let peer = RequestedKey::from_request(requests.0)?;
    let client = RequestedKey::from_request(requests.1)?;
    Ok(Pair {
        peer: authority.issue_peer(&peer, group, server, &peer_address, validity)?,
        client: authority.issue_client(&client, group, server, &hosts, validity)?,
    })
}

/// A server id, a group id and the like, drawn at random.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn fresh<T>(wrap: impl FnOnce([u8; 16]) -> T) -> Result<T, NoRandomness> {
    Ok(wrap(random::bytes()?))
}
