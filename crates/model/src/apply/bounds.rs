//! How large records, texts and lists may be, and how many a table holds.

use crate::change::{Kind, Refusal};
use crate::event::Reason;
use crate::fields::Fields;
use std::collections::BTreeMap;

/// The most members of a group.
pub(super) const SERVERS: usize = 128;
/// The most accounts.
pub(super) const USERS: usize = 1_000_000;
/// The most registered tokens.
pub(super) const TOKENS: usize = 2_000_000;
/// The most gateways.
pub(super) const GATEWAYS: usize = 1_000;
/// The most certificates for external names.
pub(super) const CERTIFICATES: usize = 256;
/// The most profiles.
pub(super) const PROFILES: usize = 100_000;
/// The most stored credentials.
pub(super) const SECRETS: usize = 1_000;
/// The most applications.
pub(super) const APPS: usize = 10_000;
/// The most sessions, the history included.
pub(super) const SESSIONS: usize = 2_000_000;
/// The most invitations that are neither used nor expired.
pub(super) const INVITATIONS: usize = 1_000;
/// The most servers that were admitted and have not started yet.
pub(super) const JOINING: usize = 8;
/// The most removed servers that are remembered.
pub(super) const REMOVED: usize = 10_000;
/// The most bytes of a document: a record that people write.
pub(super) const DOCUMENT: usize = 64 * 1024;
/// The most bytes of a text that people write to explain something.
pub(super) const REMARK: usize = 1024;
/// The most bytes of a network address.
pub(super) const ADDRESS: usize = 261;
/// The most reasons of a decision.
const REASONS: usize = 512;

/// Refuses a size above its limit.
pub(super) fn size(what: &str, size: usize, limit: usize) -> Result<(), Refusal> {
    if size <= limit {
        return Ok(());
    }
    Err(Refusal::TooLarge {
        what: what.to_owned(),
        size: size as u64,
        limit: limit as u64,
    })
}

/// Refuses a full table.
pub(super) fn room(kind: Kind, held: usize, limit: usize) -> Result<(), Refusal> {
    if held < limit {
        return Ok(());
    }
    Err(Refusal::Full {
        kind,
        limit: limit as u64,
    })
}

/// Refuses a record that makes no sense.
pub(super) fn invalid(what: &str, why: impl Into<String>) -> Refusal {
    Refusal::Invalid {
        what: what.to_owned(),
        why: why.into(),
    }
}

/// Refuses a text that is too long or not one line.
pub(super) fn line(what: &str, text: &str, limit: usize) -> Result<(), Refusal> {
    size(what, text.len(), limit)?;
    if text.chars().any(char::is_control) {
        return Err(invalid(what, "it contains a control character"));
    }
    Ok(())
}

/// Refuses a table of words that is too long, or has words that are.
pub(super) fn pairs(
    what: &str,
    table: &BTreeMap<String, String>,
    count: usize,
    each: usize,
) -> Result<(), Refusal> {
    size(what, table.len(), count)?;
    let mut pairs = table.iter();
    pairs.try_for_each(|(key, value)| pair(what, key, value, each))
}

/// The same for the details of an event.
pub(super) fn fields(what: &str, table: &Fields, count: usize, each: usize) -> Result<(), Refusal> {
    size(what, table.len(), count)?;
    let mut pairs = table.iter();
    pairs.try_for_each(|(key, value)| pair(what, key, value, each))
}

fn pair(what: &str, key: &str, value: &str, each: usize) -> Result<(), Refusal> {
    line(what, key, each)?;
    size(what, value.len(), each)?;
    if key.is_empty() {
        return Err(invalid(what, "a name is empty"));
    }
    Ok(())
}

/// Refuses what is no `host:port`. The port may be 0 as long as the server has not started.
pub(super) fn address(what: &str, text: &str) -> Result<(), Refusal> {
    line(what, text, ADDRESS)?;
    let parts = text
        .rsplit_once(':')
        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if parts.is_none() || text.contains(char::is_whitespace) {
        return Err(invalid(what, format!("{text:?} is not HOST:PORT")));
    }
    Ok(())
}

/// Refuses too many reasons, or too long ones.
pub(super) fn reasons(list: &[Reason]) -> Result<(), Refusal> {
    size("reasons", list.len(), REASONS)?;
    for reason in list {
        size(
            "a reason",
            reason.rule.len().max(reason.detail.len()),
            REMARK,
        )?;
    }
    Ok(())
}

/// The text, cut at a whole character so that it has at most `limit` bytes.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    text.split_at_checked(end).map_or("", |(head, _)| head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_at_whole_characters() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("", 3), "");
        assert_eq!(cut("é", 0), "");
    }

    #[test]
    fn addresses() {
        for text in ["10.0.0.1:5427", "[::1]:0", "boston.example:65535"] {
            assert_eq!(address("peer address", text), Ok(()));
        }
        for text in ["", "boston", ":1", "a:70000", "a b:1", "a\n:1", "a:"] {
            assert!(
                address("peer address", text).is_err(),
                "{text:?} was accepted"
            );
        }
    }
}
