//! What the first packet of an RDP client says of who it is: the cookie or routing token of its X.224 connection request.
//!
//! [MS-RDPBCGR] 2.2.1.1: a TPKT header of 4 bytes, an X.224 connection request of 7, and then, up to a line end, either
//! `Cookie: mstshash=IDENTIFIER` or a routing token, which brokers hand out as `Cookie: msts=...` or as any line of their own.
//! Nothing of it is proved.

/// The longest connection request that is looked at; clients send a few hundred bytes at most.
pub const LIMIT: usize = 4 * 1024;

/// Bytes of the TPKT header and of the fixed part of the connection request.
const TPKT: usize = 4;
const FIXED: usize = 7;

/// What the client says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// A user's name, which clients cut: Microsoft's to 9 characters.
    User(&'a str),
    /// What a broker told it to say.
    Routing(&'a str),
    /// Neither.
    Nothing,
}

/// Why bytes are no connection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RdpError {
    /// They begin otherwise.
    #[error("this is no connection request of RDP")]
    Other,
    /// It is longer than [`LIMIT`], or its lengths contradict each other.
    #[error("the connection request has a length that makes no sense")]
    Length,
    /// The cookie is no text, or has no end.
    #[error("the cookie of the connection request is no line of text")]
    Cookie,
}

/// Reads a connection request from what has arrived so far; none while more has to come.
///
/// # Errors
/// It is none, whatever may still come.
pub fn connection_request(bytes: &[u8]) -> Result<Option<Said<'_>>, RdpError> {
    let begins = [Some(3), None, None, None, None, Some(0xE0)];
    let differs = |(byte, wanted): (&u8, Option<u8>)| wanted.is_some_and(|wanted| *byte != wanted);
    if bytes.iter().zip(begins).any(differs) {
        return Err(RdpError::Other);
    }
    let [_, _, high, low, indicator, ..] = *bytes else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    // The indicator counts the bytes after itself.
    if !(TPKT + FIXED..=LIMIT).contains(&length) || usize::from(indicator) + TPKT + 1 != length {
        return Err(RdpError::Length);
    }
    let Some(request) = bytes.get(..length) else {
        return Ok(None);
    };
    said(request.get(TPKT + FIXED..).unwrap_or_default()).map(Some)
}

fn said(rest: &[u8]) -> Result<Said<'_>, RdpError> {
    /// The type of a negotiation request, which may follow at once; no text begins with it.
    const NEGOTIATION: u8 = 1;
    if rest.first().is_none_or(|first| *first == NEGOTIATION) {
        return Ok(Said::Nothing);
    }
    let end = rest.windows(2).position(|two| two == b"\r\n");
    let line = end.and_then(|end| rest.get(..end));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let line = line.ok_or(RdpError::Cookie)?;
    if let Some(user) = line.strip_prefix("Cookie: mstshash=") {
        return Ok(Said::User(user));
    }
    Ok(Said::Routing(
        line.strip_prefix("Cookie: msts=").unwrap_or(line),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(rest: &[u8]) -> Vec<u8> {
        let length = u8::try_from(TPKT + FIXED + rest.len()).unwrap();
        let mut bytes = vec![3, 0, 0, length, length - 5, 0xE0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn cookies_and_routing_tokens_are_read() {
        let negotiation = [1, 0, 8, 0, 3, 0, 0, 0];
        let with = |line: &[u8]| request(&[line, &negotiation].concat());
        for (bytes, said) in [
            (with(b"Cookie: mstshash=ann\r\n"), Said::User("ann")),
            (
                with(b"Cookie: msts=3640205228.15629.0000\r\n"),
                Said::Routing("3640205228.15629.0000"),
            ),
            (with(b"card.1234\r\n"), Said::Routing("card.1234")),
            (with(b""), Said::Nothing),
            (request(b""), Said::Nothing),
            (
                request(b"Cookie: mstshash=DESK\\ann\r\n"),
                Said::User("DESK\\ann"),
            ),
        ] {
            assert_eq!(connection_request(&bytes), Ok(Some(said)));
            for end in 0..bytes.len() {
                assert_eq!(connection_request(&bytes[..end]), Ok(None), "{end}");
            }
        }
    }

    #[test]
    fn what_is_none_is_refused_at_its_first_byte() {
        assert_eq!(
            connection_request(b"GET / HTTP/1.1\r\n"),
            Err(RdpError::Other)
        );
        assert_eq!(connection_request(&[0x16]), Err(RdpError::Other));
        assert_eq!(
            connection_request(&[3, 0, 0, 19, 14, 0xD0]),
            Err(RdpError::Other)
        );
        assert_eq!(
            connection_request(&[3, 0, 255, 255, 14]),
            Err(RdpError::Length)
        );
        assert_eq!(
            connection_request(&[3, 0, 0, 19, 15]),
            Err(RdpError::Length)
        );
        assert_eq!(
            connection_request(&request(b"no end")),
            Err(RdpError::Cookie)
        );
        assert_eq!(
            connection_request(&request(b"\xff\xfe\r\n")),
            Err(RdpError::Cookie)
        );
    }
}
