//! Operators' certificates in their most obvious form.

use super::{Answer, Plain};
use model::*;

impl Plain {
    pub(super) fn put_certificate(&mut self, number: u64, wanted: &ExternalCertificate) -> Answer {
        let old = self.certificates.iter().find(|old| old.name == wanted.name);
        if old.is_some_and(|old| old.chain == wanted.chain) {
            return Ok(Outcome::Done);
        }
        if wanted.chain.is_empty() || wanted.name.as_str() != wanted.name.as_str().to_lowercase() {
            return Err("invalid");
        }
        self.fits(&wanted.key)?;
        if wanted.key == trust::Sealed::default() {
            return Err("invalid");
        }
        self.certificates.retain(|old| old.name != wanted.name);
        self.certificates.push(ExternalCertificate {
            version_number: number,
            ..wanted.clone()
        });
        Ok(Outcome::Done)
    }

    pub(super) fn remove_certificate(&mut self, name: &ExternalName) -> Answer {
        let before = self.certificates.len();
        self.certificates.retain(|one| one.name != *name);
        match self.certificates.len() < before {
            true => Ok(Outcome::Done),
            false => Err("not found"),
        }
    }
}
