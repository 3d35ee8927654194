//! What a server that holds the seal key can do: issue certificates, sign tickets, open invitations.

use crate::random::{self, NoRandomness};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use model::{
    Authority as AuthorityRecord, Directory, GroupId, ServerId, UnixMillis, trust::Sealed,
};
use peer::address::Address;
use peer::authority::{Authority, AuthorityError, Issued};
use peer::key::{RequestedKey, RequestedKeyError};
use peer::seal::{SealError, SealKey, Sealing};
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
    Address(#[from] peer::address::AddressError),
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
    let ticket_key = Zeroizing::new(
        Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| KeysError::TicketKey)?
            .as_ref()
            .to_vec(),
    );
    let pair = Ed25519KeyPair::from_pkcs8(&ticket_key).map_err(|_| KeysError::TicketKey)?;
    let record = AuthorityRecord {
        certificate: authority.certificate().to_vec(),
        fingerprint: authority.fingerprint().to_string(),
        key: Sealed(seal.seal(Sealing::AuthorityKey, group, authority.key_pkcs8())?),
        ticket_public: pair.public_key().as_ref().to_vec(),
        ticket_key: Sealed(seal.seal(Sealing::TicketKey, group, &ticket_key)?),
        expires: authority.expires(),
    };
    Ok((authority, record))
}

/// The authority, opened.
///
/// # Errors
/// When the seal key is another one, or the record is damaged.
pub fn open_authority(directory: &Directory, seal: &SealKey) -> Result<Authority, KeysError> {
    let group = directory.group();
    let key = seal.open(Sealing::AuthorityKey, group.id, &group.authority.key.0)?;
    Ok(Authority::from_parts(
        CertificateDer::from(group.authority.certificate.clone()),
        key,
    )?)
}

/// The ticket key (PKCS #8), opened.
///
/// # Errors
/// When the seal key is another one, or the record is damaged.
pub fn open_ticket_key(
    directory: &Directory,
    seal: &SealKey,
) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    let group = directory.group();
    Ok(seal.open(Sealing::TicketKey, group.id, &group.authority.ticket_key.0)?)
}

/// Both certificates of a server, for requests that it made.
#[derive(Debug, Clone)]
pub struct Pair {
    /// For servers among themselves.
    pub peer: Issued,
    /// For the client port.
    pub client: Issued,
}

/// Where the server that a certificate is for is reached.
#[derive(Debug, Clone, Copy)]
pub struct Reached<'a> {
    /// By other servers.
    pub peer: &'a str,
    /// By clients.
    pub client: &'a str,
}

/// Issues both certificates of a server.
///
/// # Errors
/// When a request or an address is not valid, or the authority has expired.
pub fn issue(
    authority: &Authority,
    group: GroupId,
    server: ServerId,
    reached: Reached<'_>,
    requests: (&[u8], &[u8]),
    now: UnixMillis,
) -> Result<Pair, KeysError> {
    let peer_address: Address = reached.peer.parse()?;
    let client_address: Address = reached.client.parse()?;
    let peer = RequestedKey::from_request(requests.0)?;
    let client = RequestedKey::from_request(requests.1)?;
    Ok(Pair {
        peer: authority.issue_peer(&peer, group, server, &peer_address, now)?,
        client: authority.issue_client(&client, group, server, &[client_address.host], now)?,
    })
}

/// A server id, a group id and the like, drawn at random.
///
/// # Errors
/// When the operating system has no randomness to give.
pub fn fresh<T>(wrap: impl FnOnce([u8; 16]) -> T) -> Result<T, NoRandomness> {
    Ok(wrap(random::bytes()?))
}
