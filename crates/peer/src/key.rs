//! Private keys: ECDSA on P-256, which every TLS client takes, browsers and curl included.
//!
//! The secret part exists only in [`PrivateKey`] and in what [`PrivateKey::pkcs8`] lends; both are wiped
//! when dropped and never shown by `Debug`.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use rcgen::{CertificateParams, CertificateSigningRequestParams, DistinguishedName, PublicKeyData};
use rustls::pki_types::{CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use zeroize::Zeroizing;

/// The most bytes that a certificate request may have.
pub const REQUEST_LIMIT: usize = 8 * 1024;

/// Why a private key cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness, or the library could not make a key of it.
    #[error("a private key could not be made")]
    Make(#[source] aws_lc_rs::error::Unspecified),
    /// The bytes are no P-256 key in PKCS#8.
    #[error("this is not a private key of the expected kind (ECDSA P-256 in PKCS#8)")]
    Read(#[source] aws_lc_rs::error::KeyRejected),
    /// A certificate request could not be written.
    #[error("a certificate request could not be written")]
    Request(#[source] rcgen::Error),
}

/// A private key of a certificate authority or of a certificate.
pub struct PrivateKey {
    pair: EcdsaKeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn make() -> Result<Self, KeyError> {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
                .map_err(KeyError::Make)?;
        Self::from_pkcs8(Zeroizing::new(document.as_ref().to_vec()))
    }

    /// Reads a key that [`Self::pkcs8`] gave.
    ///
    /// # Errors
    /// When the bytes are anything else.
    pub fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8)
            .map_err(KeyError::Read)?;
        Ok(Self { pair, pkcs8 })
    }

    /// The key in PKCS#8, secret.
    pub fn pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        &self.pkcs8
    }

    /// The public key (SubjectPublicKeyInfo, DER).
    pub fn public_key(&self) -> Vec<u8> {
        self.subject_public_key_info()
    }

    /// A certificate request (PKCS#10, DER) that proves possession of this key and asks for nothing else:
    /// what the certificate will say is decided by who signs it.
    ///
    /// # Errors
    /// When the library refuses to write one.
    pub fn certificate_request(&self) -> Result<Vec<u8>, KeyError> {
        let mut wish = CertificateParams::default();
        wish.distinguished_name = DistinguishedName::new();
        let request = wish.serialize_request(self).map_err(KeyError::Request)?;
        Ok(request.der().to_vec())
    }

    /// The key as rustls takes it; the copy is wiped by rustls.
    pub(crate) fn for_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8.to_vec()))
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        Self::from_pkcs8(self.pkcs8.clone())
            .expect("invariant: these bytes were accepted when this key was made")
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(not shown)")
    }
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self
            .pair
            .sign(&SystemRandom::new(), message)
            .map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.as_ref().to_vec())
    }
}

/// The public key of a certificate request whose signature was checked.
#[derive(Debug, Clone)]
pub struct RequestedKey(rcgen::PublicKey);

/// Why a certificate request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestedKeyError {
    /// Longer than [`REQUEST_LIMIT`].
    #[error("the certificate request has {length} bytes, more than {REQUEST_LIMIT}")]
    TooLong {
        /// How many bytes were given.
        length: usize,
    },
    /// Not a certificate request, or not signed with its own key.
    #[error("the certificate request is damaged or not signed with its own key")]
    Damaged(#[source] rcgen::Error),
    /// A key of a kind that this group does not issue certificates for.
    #[error("the certificate request has a key of another kind than ECDSA P-256")]
    Kind,
}

impl RequestedKey {
    /// Reads a certificate request (PKCS#10, DER) and checks that it was signed with its own key.
    ///
    /// # Errors
    /// When it is too long, damaged, of another kind of key, or signed with another key.
    pub fn from_request(der: &[u8]) -> Result<Self, RequestedKeyError> {
        if der.len() > REQUEST_LIMIT {
            return Err(RequestedKeyError::TooLong { length: der.len() });
        }
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
                .map_err(RequestedKeyError::Damaged)?;
        if request.public_key.algorithm() != &rcgen::PKCS_ECDSA_P256_SHA256 {
            return Err(RequestedKeyError::Kind);
        }
        Ok(Self(request.public_key))
    }

    /// The public key (SubjectPublicKeyInfo, DER).
    pub fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    pub(crate) fn inner(&self) -> &rcgen::PublicKey {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_being_written_and_read() {
        let key = PrivateKey::make().unwrap();
        let again = PrivateKey::from_pkcs8(key.pkcs8().clone()).unwrap();
        assert_eq!(key.public_key(), again.public_key());
        assert!(!format!("{key:?}").contains(&format!("{:?}", &key.pkcs8()[..4])));
    }

    #[test]
    fn a_request_names_the_key_and_nothing_damaged_is_taken() {
        let key = PrivateKey::make().unwrap();
        let request = key.certificate_request().unwrap();
        assert_eq!(
            RequestedKey::from_request(&request).unwrap().public_key(),
            key.public_key()
        );
        for position in 0..request.len() {
            let mut damaged = request.clone();
            damaged[position] ^= 0x40;
            // Bytes around what is signed may be read leniently; the key never changes unnoticed.
            if let Ok(read) = RequestedKey::from_request(&damaged) {
                assert_eq!(read.public_key(), key.public_key(), "byte {position}");
            }
        }
        assert!(RequestedKey::from_request(&request[..request.len() - 1]).is_err());
        assert!(matches!(
            RequestedKey::from_request(&vec![0x30; REQUEST_LIMIT + 1]),
            Err(RequestedKeyError::TooLong { .. })
        ));
    }
}
