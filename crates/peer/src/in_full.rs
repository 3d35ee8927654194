//! Errors in full, for logs and for what is told to another server.

use std::error::Error;
use std::fmt;

/// An error and all that caused it, on one line.
pub struct InFull<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for InFull<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}
