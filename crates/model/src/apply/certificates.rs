//! Changes of the operator's certificates for external names.

use super::{Applying, bounds};
use crate::certificate::ExternalCertificate;
use crate::change::{Kind, Outcome, Refusal};
use crate::event::{EventKind, Severity};
use crate::name::{ExternalName, NAME_LIMIT};
use std::sync::Arc;

/// The most bytes of a sealed private key.
const KEY: usize = 16 * 1024;

impl Applying<'_> {
    /// Puts one in, in place of the one that its name had.
    pub(super) fn put_certificate(
        &mut self,
        wanted: &ExternalCertificate,
    ) -> Result<Outcome, Refusal> {
        let before = self.directory.certificates.get(&wanted.name);
        if before.is_some_and(|before| before.is_same(wanted)) {
            return Ok(Outcome::Done);
        }
        let what = if before.is_none() { "added" } else { "changed" };
        if before.is_none() {
            let held = self.directory.certificates.len();
            bounds::room(Kind::Certificate, held, bounds::CERTIFICATES)?;
        }
        let name = wanted.name.as_str();
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(bounds::invalid("name", "it is kept in lower case"));
        }
        if wanted.chain.is_empty() {
            return Err(bounds::invalid("certificate", "there is none"));
        }
        let length = wanted.chain.iter().map(Vec::len).sum();
        bounds::size("certificate", length, bounds::DOCUMENT)?;
        bounds::size("key", wanted.key.0.len(), KEY)?;
        self.sealed_under_one_in_force("key", &wanted.key)?;
        if wanted.key.0.is_empty() {
            return Err(bounds::invalid("key", "there is none"));
        }
        bounds::line("fingerprint", &wanted.fingerprint, NAME_LIMIT)?;
        bounds::line("issuer", &wanted.issuer, bounds::REMARK)?;
        let record = ExternalCertificate {
            version_number: self.number,
            ..wanted.clone()
        };
        let certificates = &mut self.directory.certificates;
        certificates.insert(record.name.clone(), Arc::new(record));
        self.certificate_changed(wanted, what);
        Ok(Outcome::Done)
    }

    pub(super) fn remove_certificate(&mut self, name: &ExternalName) -> Result<Outcome, Refusal> {
        let Some(old) = self.directory.certificates.remove(name) else {
            return Err(Refusal::NotFound {
                kind: Kind::Certificate,
                name: name.to_string(),
            });
        };
        self.certificate_changed(&old, "removed");
        Ok(Outcome::Done)
    }

    fn certificate_changed(&mut self, certificate: &ExternalCertificate, what: &str) {
        let fields = [
            ("change", what.to_owned()),
            ("fingerprint", certificate.fingerprint.clone()),
            ("expires", certificate.expires.to_string()),
        ];
        let kind = EventKind::CertificateChanged;
        self.event(kind, Severity::Info, &certificate.name, fields);
    }
}
