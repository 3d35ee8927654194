//! Arguments as valid values: addresses, spans of time, labels.

use std::str::FromStr;
use std::time::Duration;

/// The port for servers among themselves.
pub(crate) const PEER_PORT: u16 = 5427;
/// The port for everybody else.
pub(crate) const CLIENT_PORT: u16 = 5443;

/// `HOST:PORT` of the client port; the port may be left out.
pub(crate) fn client_address(text: &str) -> Result<String, String> {
    address(text, CLIENT_PORT)
}

/// `HOST:PORT` of the peer port; the port may be left out.
pub(crate) fn peer_address(text: &str) -> Result<String, String> {
    address(text, PEER_PORT)
}

/// Several such addresses of the client port, with commas between them.
pub(crate) fn client_addresses(text: &str) -> Result<String, String> {
    addresses(text, CLIENT_PORT)
}

/// Several such addresses of the peer port, with commas between them.
pub(crate) fn peer_addresses(text: &str) -> Result<String, String> {
    addresses(text, PEER_PORT)
}

fn addresses(text: &str, port: u16) -> Result<String, String> {
    let each = text.split(',').map(|one| address(one, port));
    let all: Vec<String> = each.collect::<Result<_, _>>()?;
    Ok(all.join(","))
}

fn address(text: &str, port: u16) -> Result<String, String> {
    let text = text.trim();
    let has_port = match text.strip_prefix('[') {
        Some(rest) => rest.contains("]:"),
        None => text.matches(':').count() == 1,
    };
    let whole = match text.parse::<std::net::Ipv6Addr>() {
        Ok(bare) => format!("[{bare}]:{port}"),
        Err(_) if has_port => text.to_owned(),
        Err(_) => format!("{text}:{port}"),
    };
    peer::address::Address::from_str(&whole)
        .map(|_| whole)
        .map_err(|error| error.to_string())
}

/// A span of time with its unit, `30s`, `2h`, `1m30s`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    model::settings::value::parse_duration(text)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is no span of time: give a number and its unit, as in 500ms, 30s, 5m, 4h or 2d"))
}

/// A span of time, or `never`.
pub(crate) fn span_or_never(text: &str) -> Result<Limit<u64>, String> {
    match text {
        "never" => Ok(Limit(None)),
        _ => span(text).map(|span| Limit(Some(millis(span)))),
    }
}

/// A number, or `any`.
pub(crate) fn number_or_any(text: &str) -> Result<Limit<u32>, String> {
    match text {
        "any" => Ok(Limit(None)),
        _ => text
            .parse()
            .map(|number| Limit(Some(number)))
            .map_err(|_| format!("{text:?} is neither a number nor `any`")),
    }
}

/// A limit that may be lifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit<T>(pub Option<T>);

/// A span in whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(client_address("boston"), Ok("boston:5443".to_owned()));
        assert_eq!(client_address("10.0.0.1:0"), Ok("10.0.0.1:0".to_owned()));
        assert_eq!(peer_address("::1"), Ok("[::1]:5427".to_owned()));
        assert_eq!(peer_address("[::1]"), Ok("[::1]:5427".to_owned()));
        assert_eq!(peer_address("[::1]:9"), Ok("[::1]:9".to_owned()));
        for text in ["", ":", "a b:1", "host:99999", "host:x"] {
            assert!(client_address(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn spans_and_limits() {
        assert_eq!(span("4h"), Ok(Duration::from_secs(4 * 3600)));
        assert!(span("4").is_err() || span("4") == Ok(Duration::from_millis(4)));
        assert!(span("soon").unwrap_err().contains("soon"));
        assert_eq!(span_or_never("never"), Ok(Limit(None)));
        assert_eq!(number_or_any("3"), Ok(Limit(Some(3))));
        assert!(number_or_any("-1").is_err());
    }

    #[test]
    fn pairs() {
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(pair("a="), Ok(("a".into(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
