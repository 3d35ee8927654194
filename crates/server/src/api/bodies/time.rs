//! Times as people and scripts read them: RFC 3339 in UTC, with milliseconds.

use model::UnixMillis;

/// A time as text, `2026-11-21T21:58:11.123Z`. A time after the year 9999 is given as the last one before it.
pub fn rfc3339(time: UnixMillis) -> String {
    time.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn always_utc_with_milliseconds() {
        assert_eq!(rfc3339(UnixMillis(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(UnixMillis(1_795_298_291_120)),
            "2026-11-21T21:58:11.120Z"
        );
        assert!(rfc3339(UnixMillis(u64::MAX)).starts_with("9999-12-"));
    }
}
