//! How fast clients of gateways may have sessions made for them: who has proved nothing must not fill the log.
//!
//! Always true: at most [`ADDRESSES`] addresses are remembered, and each at most as long as it has to wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Sessions that one address may have made at once.
const BURST: u32 = 64;
/// Then one in each such span.
const EACH: Duration = Duration::from_millis(100);
/// Addresses that are remembered; when there are more, whoever comes waits like somebody who came before.
const ADDRESSES: usize = 10_000;

/// The paces of all addresses.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<HashMap<IpAddr, Duration>>);

impl Pace {
    /// How long a client at this address has to wait before a session may be made for it; its turn is taken.
    pub(super) fn wait(&self, from: IpAddr, now: Duration) -> Duration {
        let mut paid = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paid.len() >= ADDRESSES && !paid.contains_key(&from) {
            paid.retain(|_, until| *until > now);
            if paid.len() >= ADDRESSES {
                return EACH;
            }
        }
        let until = paid.entry(from).or_insert(now);
        *until = (*until).max(now) + EACH;
        until.saturating_sub(now + EACH * BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from(number).into()
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let pace = Pace::default();
        for _ in 0..BURST {
            assert_eq!(pace.wait(address(1), Duration::ZERO), Duration::ZERO);
        }
        assert_eq!(pace.wait(address(1), Duration::ZERO), EACH);
        assert_eq!(pace.wait(address(1), Duration::ZERO), EACH * 2);
        assert_eq!(pace.wait(address(2), Duration::ZERO), Duration::ZERO);
        assert_eq!(pace.wait(address(1), EACH * 3), Duration::ZERO);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let pace = Pace::default();
        for number in 0..2 * u32::try_from(ADDRESSES).unwrap() {
            pace.wait(address(number), Duration::ZERO);
        }
        assert_eq!(pace.0.lock().unwrap().len(), ADDRESSES);
        assert_eq!(pace.wait(address(u32::MAX), Duration::ZERO), EACH);
        assert_eq!(pace.wait(address(u32::MAX), EACH), Duration::ZERO);
        assert_eq!(pace.0.lock().unwrap().len(), 1);
    }
}
