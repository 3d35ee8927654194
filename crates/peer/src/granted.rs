//! What a server asks for and is given: certificates for keys that it made itself, taken only when they are really its own.

use crate::identity::{CertificateFacts, CertificateFactsError, CertificateRole};
use crate::key::{KeyError, PrivateKey};
use crate::tls::TlsBasis;
use crate::trust_store::Credential;
use model::{GroupId, ServerId};
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

/// Why what was granted cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Another authority than the one that is known.
    #[error("the authority is not the one that this server knows")]
    Authority,
    /// A certificate cannot be read.
    #[error("the {role} certificate cannot be read")]
    Damaged {
        /// Which.
        role: CertificateRole,
        /// What is wrong.
        #[source]
        source: CertificateFactsError,
    },
    /// A certificate was not signed by the authority, or is not valid now.
    #[error("the {role} certificate does not verify")]
    Unsigned {
        /// Which.
        role: CertificateRole,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// A certificate of somebody else, or of another role.
    #[error("the {role} certificate is not this server's")]
    Foreign {
        /// Which.
        role: CertificateRole,
    },
}

/// Keys that a server asks certificates for.
#[derive(Debug)]
pub struct NewKeys {
    peer: PrivateKey,
    client: PrivateKey,
}

/// Both certificates of a server, with their keys.
#[derive(Debug, Clone)]
pub struct Granted {
    /// For servers among themselves.
    pub peer: Credential,
    /// For the client port.
    pub client: Credential,
}

impl NewKeys {
    /// Makes them.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn make() -> Result<Self, KeyError> {
        Ok(Self {
            peer: PrivateKey::make()?,
            client: PrivateKey::make()?,
        })
    }

    /// What to ask with (PKCS#10, DER): for the certificate between servers, and for that of the client port.
    ///
    /// # Errors
    /// When the library refuses to write them.
    pub fn requests(&self) -> Result<(Vec<u8>, Vec<u8>), KeyError> {
        Ok((
            self.peer.certificate_request()?,
            self.client.certificate_request()?,
        ))
    }

    /// Takes the certificates that were given for them, between servers and of the client port (DER): both must be of server
    /// `owner`, for these keys, signed by one of the authorities and valid now.
    ///
    /// # Errors
    /// Why they cannot be used.
    pub fn take(
        &self,
        (peer, client): (&[u8], &[u8]),
        owner: (GroupId, ServerId),
        authorities: &[CertificateDer<'static>],
        basis: &TlsBasis,
    ) -> Result<Granted, GrantError> {
        let credential = |role, der: &[u8], key: &PrivateKey| {
            let certificate = CertificateDer::from(der.to_vec());
            check(role, &certificate, key, owner, authorities, basis)?;
            Ok(Credential {
                certificate,
                key: key.clone(),
            })
        };
        Ok(Granted {
            peer: credential(CertificateRole::Peer, peer, &self.peer)?,
            client: credential(CertificateRole::Client, client, &self.client)?,
        })
    }
}

fn check(
    role: CertificateRole,
    certificate: &CertificateDer<'_>,
    key: &PrivateKey,
    owner: (GroupId, ServerId),
    authorities: &[CertificateDer<'static>],
    basis: &TlsBasis,
) -> Result<(), GrantError> {
    let facts = CertificateFacts::read(certificate)
        .map_err(|source| GrantError::Damaged { role, source })?;
    if facts.name.role != role || (facts.name.group, facts.name.server) != owner {
        return Err(GrantError::Foreign { role });
    }
    let unsigned = |source| GrantError::Unsigned { role, source };
    basis
        .verify_issued(certificate, authorities)
        .map_err(unsigned)?;
    let parsed = ParsedCertificate::try_from(certificate).map_err(unsigned)?;
    if parsed.subject_public_key_info().as_ref() != key.public_key() {
        return Err(GrantError::Foreign { role });
    }
    Ok(())
}
