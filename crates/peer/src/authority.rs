//! The group's certificate authority: made once by the first server, then used by whichever server leads.
//!
//! What must always be true: a certificate says only what the issuer decided, never what the request asked
//! for; peer certificates are for servers among themselves, client certificates for the client port, and
//! neither passes for the other. Times come in as `now`, so that lifetimes can be tested.

use crate::address::{Address, Host};
use crate::fingerprint::Fingerprint;
use crate::identity::{Alternative, CertificateName, CertificateRole, validity};
use crate::key::{KeyError, PrivateKey, RequestedKey};
use aws_lc_rs::rand;
use model::{GroupId, ServerId, UnixMillis};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// How long a certificate of a server lasts.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// How long an authority lasts.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// How far before its making a certificate is already valid, so that a member whose clock is behind takes
/// it: joining allows clocks 60 s apart, and a member's clock may drift further later.
pub const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// The same, at least.
pub(crate) const LEAST_BACKDATED: Duration = Duration::from_secs(120);

/// The most bridges that may lead from an authority of before to what the one in force issues.
const BRIDGES: u8 = model::Succession::FORMER_LIMIT as u8 + 1;

/// Why the authority cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its private key.
    #[error("the authority's private key cannot be used")]
    Key(#[from] KeyError),
    /// The library refused to write a certificate.
    #[error("a certificate cannot be written")]
    Write(#[source] rcgen::Error),
    /// The bytes are no authority's certificate.
    #[error("this is not the certificate of an authority")]
    NoAuthority,
    /// Certificate and key do not belong together.
    #[error("the authority's certificate and its private key do not belong together")]
    Mismatch,
    /// The system gave no randomness.
    #[error("no random serial number could be drawn")]
    Random(#[source] aws_lc_rs::error::Unspecified),
    /// A time that no certificate can say.
    #[error("the time is out of the range of certificates; check the clock")]
    Times,
    /// The authority ends before a new certificate would begin.
    #[error("the authority's certificate has expired")]
    Expired,
}

/// From when and for how long a certificate is to be valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when. The certificate says an earlier time: by as much as `lifetime`, but two minutes at least, which members' clocks
    /// may differ by, and [`BACKDATED`] at most.
    pub from: UnixMillis,
    /// For how long after `from`.
    pub lifetime: Duration,
}

impl Validity {
    /// For as long as certificates last unless somebody asks for something else.
    pub fn ordinary(from: UnixMillis) -> Self {
        Self {
            from,
            lifetime: CERTIFICATE_LIFETIME,
        }
    }

    /// When a certificate with this validity begins, and when it ends.
    fn ends(self) -> (UnixMillis, UnixMillis) {
        let before = self.lifetime.clamp(LEAST_BACKDATED, BACKDATED);
        let before = u64::try_from(before.as_millis()).unwrap_or(u64::MAX);
        let begins = UnixMillis(self.from.0.saturating_sub(before));
        (begins, self.from.after(self.lifetime))
    }
}

/// The authority of a group, with its key: exists only in the memory of a server that may lead.
#[derive(Debug, Clone)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: PrivateKey,
    expires: UnixMillis,
}

/// A certificate that was just issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Until when it is valid.
    pub expires: UnixMillis,
}

impl Authority {
    /// Makes the authority of a new group.
    ///
    /// # Errors
    /// When the system has no randomness, or `now` is beyond what a certificate can say.
    pub fn make(group: GroupId, now: UnixMillis) -> Result<Self, AuthorityError> {
        let key = PrivateKey::make()?;
        let validity = Validity {
            from: now,
            lifetime: AUTHORITY_LIFETIME,
        };
        // The group's id keeps the subjects of two groups apart, a part of the key's hash those of one group's authorities: whoever
        // trusts several can tell which is meant.
        let mark = Fingerprint::of(&key.public_key()).to_string();
        let mark = mark.get(7..15).unwrap_or_default();
        let name = common_name(&format!("Stead group {group} {mark}"));
        let wish = authority_params(validity.ends(), name)?;
        let certificate = wish.self_signed(&key).map_err(AuthorityError::Write)?;
        Self::from_parts(certificate.into(), key.pkcs8().clone())
    }

    /// A bridge: the certificate of `next` as this authority signs it, so that whoever trusts this one can trust what that one issues.
    ///
    /// # Errors
    /// When either has expired, or no serial number can be drawn.
    pub fn bridge_to(
        &self,
        next: &Self,
        now: UnixMillis,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        let ends = self.expires.min(next.expires);
        if now >= ends {
            return Err(AuthorityError::Expired);
        }
        let (_, parsed) = X509Certificate::from_der(&next.certificate)
            .map_err(|_| AuthorityError::NoAuthority)?;
        let subject = parsed.subject().iter_common_name().next();
        let subject = subject.and_then(|name| name.as_str().ok());
        let name = common_name(subject.ok_or(AuthorityError::NoAuthority)?);
        let (begins, _) = Validity::ordinary(now).ends();
        let mut wish = authority_params((begins, ends), name)?;
        wish.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)
            .map_err(AuthorityError::Write)?;
        let bridge = wish.signed_by(&next.key, &issuer);
        Ok(bridge.map_err(AuthorityError::Write)?.into())
    }

    /// Puts together an authority that was stored.
    ///
    /// # Errors
    /// When the certificate is no authority's, or the key is not the certificate's.
    pub fn from_parts(
        certificate: CertificateDer<'static>,
        pkcs8: Zeroizing<Vec<u8>>,
    ) -> Result<Self, AuthorityError> {
        let key = PrivateKey::from_pkcs8(pkcs8)?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| AuthorityError::NoAuthority)?;
        if !parsed.is_ca() {
            return Err(AuthorityError::NoAuthority);
        }
        if parsed.public_key().raw != key.public_key() {
            return Err(AuthorityError::Mismatch);
        }
        let (_, expires) = validity(&certificate).map_err(|_| AuthorityError::NoAuthority)?;
        Ok(Self {
            certificate,
            key,
            expires,
        })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// `sha256:HEX` of its certificate: what clients pin and join codes carry.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// Its private key in PKCS#8: to be sealed, never stored or sent as it is.
    pub fn key_pkcs8(&self) -> &Zeroizing<Vec<u8>> {
        self.key.pkcs8()
    }

    /// When its certificate expires.
    pub fn expires(&self) -> UnixMillis {
        self.expires
    }

    /// Issues the certificate that a server shows to other servers, at either end of a connection.
    ///
    /// # Errors
    /// When the authority has expired, or no serial number can be drawn.
    pub fn issue_peer(
        &self,
        key: &RequestedKey,
        group: GroupId,
        server: ServerId,
        peer_address: &Address,
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        let name = CertificateName {
            group,
            server,
            role: CertificateRole::Peer,
        };
        let usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.issue(
            key,
            name,
            &peer_alternatives(peer_address),
            usages,
            validity,
        )
    }

    /// Issues the certificate that a server shows on its client port.
    ///
    /// `hosts` are the names under which clients reach it; its names are [`client_alternatives`].
    ///
    /// # Errors
    /// When the authority has expired, or no serial number can be drawn.
    pub fn issue_client(
        &self,
        key: &RequestedKey,
        group: GroupId,
        server: ServerId,
        hosts: &[Host],
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        let name = CertificateName {
            group,
            server,
            role: CertificateRole::Client,
        };
        self.issue(
            key,
            name,
            &client_alternatives(hosts),
            vec![ExtendedKeyUsagePurpose::ServerAuth],
            validity,
        )
    }

    fn issue(
        &self,
        key: &RequestedKey,
        name: CertificateName,
        names: &BTreeSet<Alternative>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        if validity.from >= self.expires {
            return Err(AuthorityError::Expired);
        }
        let (begins, expires) = validity.ends();
        let expires = expires.min(self.expires);
        let mut wish = params((begins, expires))?;
        wish.distinguished_name = common_name(&format!("Stead server {}", name.server));
        wish.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        wish.extended_key_usages = usages;
        wish.use_authority_key_identifier_extension = true;
        wish.subject_alt_names = vec![SanType::URI(ia5(name.to_string())?)];
        for alternative in names {
            wish.subject_alt_names.push(match alternative {
                Alternative::Name(name) => SanType::DnsName(ia5(name.clone())?),
                Alternative::Ip(ip) => SanType::IpAddress(*ip),
            });
        }
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)
            .map_err(AuthorityError::Write)?;
        let certificate = wish
            .signed_by(key.inner(), &issuer)
            .map_err(AuthorityError::Write)?;
        // Certificates say whole seconds.
        let expires = UnixMillis(expires.0 / 1000 * 1000);
        Ok(Issued {
            certificate: certificate.into(),
            expires,
        })
    }
}

fn authority_params(
    times: (UnixMillis, UnixMillis),
    name: DistinguishedName,
) -> Result<CertificateParams, AuthorityError> {
    let mut wish = params(times)?;
    wish.distinguished_name = name;
    wish.is_ca = IsCa::Ca(BasicConstraints::Constrained(BRIDGES));
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(wish)
}

/// The names that a peer certificate has for this address.
pub fn peer_alternatives(peer_address: &Address) -> BTreeSet<Alternative> {
    BTreeSet::from([Alternative::from(&peer_address.host)])
}

/// The names that a client certificate has for these hosts; for a loopback address, or `localhost`, all of these.
pub fn client_alternatives(hosts: &[Host]) -> BTreeSet<Alternative> {
    let mut names: BTreeSet<Alternative> = hosts.iter().map(Alternative::from).collect();
    if hosts.iter().any(is_loopback) {
        names.insert(Alternative::Name("localhost".to_owned()));
        names.insert(Alternative::Ip(Ipv4Addr::LOCALHOST.into()));
        names.insert(Alternative::Ip(Ipv6Addr::LOCALHOST.into()));
    }
    names
}

fn is_loopback(host: &Host) -> bool {
    match host {
        Host::Ip(ip) => ip.is_loopback(),
        Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
    }
}

fn params((begins, ends): (UnixMillis, UnixMillis)) -> Result<CertificateParams, AuthorityError> {
    let mut serial = [0; 16];
    rand::fill(&mut serial).map_err(AuthorityError::Random)?;
    // Positive, as RFC 5280 section 4.1.2.2 asks, and of full length.
    serial[0] = serial[0] & 0x7f | 0x40;
    let epoch = date_time_ymd(1970, 1, 1);
    // Beyond the last day that a certificate can say (RFC 5280, section 4.1.2.5).
    let beyond = date_time_ymd(9999, 12, 31);
    let at = |time: UnixMillis| {
        let since_epoch = Duration::from_millis(time.0).try_into().ok()?;
        epoch.checked_add(since_epoch).filter(|time| *time < beyond)
    };
    let mut wish = CertificateParams::default();
    wish.serial_number = Some(SerialNumber::from_slice(&serial));
    wish.not_before = at(begins).ok_or(AuthorityError::Times)?;
    wish.not_after = at(ends).ok_or(AuthorityError::Times)?;
    Ok(wish)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn ia5(text: String) -> Result<Ia5String, AuthorityError> {
    Ia5String::try_from(text).map_err(AuthorityError::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::CertificateFacts;
    use rustls::RootCertStore;
    use rustls::client::verify_server_name;
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::server::ParsedCertificate;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const NOW: UnixMillis = UnixMillis(1_800_000_000_123);
    const GROUP: GroupId = GroupId::from_bytes([7; 16]);
    const SERVER: ServerId = ServerId::from_bytes([9; 16]);

    fn request(key: &PrivateKey) -> RequestedKey {
        RequestedKey::from_request(&key.certificate_request().unwrap()).unwrap()
    }

    fn peer_certificate(
        authority: &Authority,
        key: &PrivateKey,
        address: &Address,
        validity: Validity,
    ) -> Issued {
        authority
            .issue_peer(&request(key), GROUP, SERVER, address, validity)
            .unwrap()
    }

    #[test]
    fn a_peer_certificate_says_whose_it_is_and_for_how_long() {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let key = PrivateKey::make().unwrap();
        let address = "[::1]:5427".parse().unwrap();
        let issued = peer_certificate(&authority, &key, &address, Validity::ordinary(NOW));
        let facts = CertificateFacts::read(&issued.certificate).unwrap();
        assert_eq!(
            facts.name,
            CertificateName {
                group: GROUP,
                server: SERVER,
                role: CertificateRole::Peer
            }
        );
        assert_eq!(facts.not_after, issued.expires);
        assert_eq!(
            facts.not_after.since(NOW).as_secs() + 1,
            CERTIFICATE_LIFETIME.as_secs()
        );
        assert_eq!(NOW.since(facts.not_before).as_secs(), BACKDATED.as_secs());
        assert_eq!(facts.alternatives, peer_alternatives(&address));
        assert!(!facts.renewal_due(NOW.after(59 * DAY)));
        assert!(facts.renewal_due(NOW.after(60 * DAY)));
        let again = peer_certificate(&authority, &key, &address, Validity::ordinary(NOW));
        assert_ne!(
            facts.serial,
            CertificateFacts::read(&again.certificate).unwrap().serial
        );
    }

    #[test]
    fn two_thirds_of_a_short_life_are_counted_from_the_making() {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let key = PrivateKey::make().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        for seconds in [
            10, 119, 120, 121, 600, 3_599, 3_600, 3_601, 7_200, 1_000_000,
        ] {
            let validity = Validity {
                from: NOW,
                lifetime: Duration::from_secs(seconds),
            };
            let issued = peer_certificate(&authority, &key, &address, validity);
            let facts = CertificateFacts::read(&issued.certificate).unwrap();
            let due = facts.renew_at().since(NOW);
            let expected = Duration::from_secs(seconds) * 2 / 3;
            assert!(
                due.abs_diff(expected) < Duration::from_secs(2),
                "{seconds}: {due:?}"
            );
            assert!(facts.lifetime().abs_diff(validity.lifetime) < Duration::from_secs(2));
            assert!(!facts.renewal_due(NOW));
        }
    }

    #[test]
    fn a_client_certificate_has_the_names_that_clients_use() {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let key = PrivateKey::make().unwrap();
        let valid_for = |hosts: &[&str], name: &str| {
            let hosts: Vec<Host> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            let issued = authority
                .issue_client(
                    &request(&key),
                    GROUP,
                    SERVER,
                    &hosts,
                    Validity::ordinary(NOW),
                )
                .unwrap();
            let parsed = ParsedCertificate::try_from(&issued.certificate).unwrap();
            verify_server_name(&parsed, &ServerName::try_from(name).unwrap()).is_ok()
        };
        assert!(valid_for(
            &["Boston.example.net", "192.0.2.1"],
            "boston.example.net"
        ));
        assert!(valid_for(&["boston.example.net", "192.0.2.1"], "192.0.2.1"));
        assert!(!valid_for(
            &["boston.example.net", "192.0.2.1"],
            "localhost"
        ));
        assert!(!valid_for(&["boston.example.net"], "example.net"));
        for name in ["localhost", "127.0.0.1", "::1", "127.0.0.7"] {
            assert!(valid_for(&["127.0.0.7"], name), "{name}");
        }
    }

    #[test]
    fn certificates_verify_against_their_own_authority_only() {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let other = Authority::make(GROUP, NOW).unwrap();
        let key = PrivateKey::make().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let issued = peer_certificate(&authority, &key, &address, Validity::ordinary(NOW));
        let verify = |root: &Authority, at: UnixMillis| {
            let mut roots = RootCertStore::empty();
            roots.add(root.certificate().clone()).unwrap();
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(&issued.certificate).unwrap(),
                &roots,
                &[],
                UnixTime::since_unix_epoch(Duration::from_millis(at.0)),
                rustls::crypto::aws_lc_rs::default_provider()
                    .signature_verification_algorithms
                    .all,
            )
        };
        verify(&authority, NOW).unwrap();
        assert!(verify(&other, NOW).is_err());
        assert!(verify(&authority, NOW.after(91 * DAY)).is_err());
    }

    #[test]
    fn the_authority_is_put_together_again_only_from_what_belongs_together() {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let other = Authority::make(GROUP, NOW).unwrap();
        let again = Authority::from_parts(
            authority.certificate().clone(),
            authority.key_pkcs8().clone(),
        )
        .unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        assert!(matches!(
            Authority::from_parts(authority.certificate().clone(), other.key_pkcs8().clone()),
            Err(AuthorityError::Mismatch)
        ));
        let key = PrivateKey::make().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let leaf = peer_certificate(&authority, &key, &address, Validity::ordinary(NOW));
        assert!(matches!(
            Authority::from_parts(leaf.certificate, key.pkcs8().clone()),
            Err(AuthorityError::NoAuthority)
        ));
    }

    #[test]
    fn bridges_lead_from_authorities_of_before_to_what_the_one_in_force_issues() {
        let authorities: Vec<_> = (0..4)
            .map(|_| Authority::make(GROUP, NOW).unwrap())
            .collect();
        let bridges: Vec<_> = authorities
            .windows(2)
            .map(|pair| pair[0].bridge_to(&pair[1], NOW).unwrap())
            .collect();
        let key = PrivateKey::make().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let newest = authorities.last().unwrap();
        let issued = peer_certificate(newest, &key, &address, Validity::ordinary(NOW));
        let verify = |leaf: &CertificateDer<'_>, root: &Authority, bridges: &[_]| {
            let mut roots = RootCertStore::empty();
            roots.add(root.certificate().clone()).unwrap();
            rustls::client::verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(leaf).unwrap(),
                &roots,
                bridges,
                UnixTime::since_unix_epoch(Duration::from_millis(NOW.0)),
                rustls::crypto::aws_lc_rs::default_provider()
                    .signature_verification_algorithms
                    .all,
            )
        };
        for root in &authorities {
            verify(&issued.certificate, root, &bridges).unwrap();
        }
        assert!(verify(&issued.certificate, &authorities[0], &bridges[1..]).is_err());
        // They lead forwards only: what an authority of before issues is nothing to who trusts the next one.
        let old = peer_certificate(&authorities[0], &key, &address, Validity::ordinary(NOW));
        assert!(verify(&old.certificate, newest, &bridges).is_err());
        let facts = CertificateFacts::read(&issued.certificate).unwrap();
        assert!(facts.names_issuer(newest.certificate()));
        assert!(!facts.names_issuer(authorities[0].certificate()));
    }

    #[test]
    fn no_certificate_outlives_its_authority() {
        let authority = Authority::make(GROUP, NOW).unwrap();
        let key = PrivateKey::make().unwrap();
        let address = "127.0.0.1:1".parse().unwrap();
        let late = NOW.after(AUTHORITY_LIFETIME - DAY);
        let issued = authority
            .issue_peer(
                &request(&key),
                GROUP,
                SERVER,
                &address,
                Validity::ordinary(late),
            )
            .unwrap();
        assert_eq!(issued.expires, authority.expires());
        let after = authority.expires();
        assert!(matches!(
            authority.issue_peer(
                &request(&key),
                GROUP,
                SERVER,
                &address,
                Validity::ordinary(after)
            ),
            Err(AuthorityError::Expired)
        ));
        assert!(matches!(
            Authority::make(GROUP, UnixMillis(u64::MAX)),
            Err(AuthorityError::Times)
        ));
    }
}
