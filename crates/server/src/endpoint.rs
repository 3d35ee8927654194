//! The addresses that a server listens on. Port 0 is chosen once, when the server is made, and then kept, so that
//! others find it again after a restart.

use crate::identity::Endpoint;
use peer::address::{Address, AddressError};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

/// Why an address cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// It is no address.
    #[error("{given:?} cannot be used")]
    Address {
        /// What was given.
        given: String,
        /// What is wrong with it.
        #[source]
        source: AddressError,
    },
    /// It cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Chooses the port of `given` if it is 0, and checks that it can be listened on now.
///
/// # Errors
/// When it is no address, is not one of this machine's, or the port is taken.
pub fn choose(given: &str) -> Result<Endpoint, EndpointError> {
    let address: Address = given.parse().map_err(|source| EndpointError::Address {
        given: given.to_owned(),
        source,
    })?;
    let listener = bind(given)?;
    let port = match listener.local_addr() {
        Ok(bound) => bound.port(),
        Err(source) => {
            return Err(EndpointError::Listen {
                address: given.to_owned(),
                source,
            });
        }
    };
    let chosen = Address { port, ..address }.to_string();
    Ok(Endpoint {
        listen: chosen.clone(),
        advertise: chosen,
    })
}

/// Listens on an address, on the first of those that its name stands for.
///
/// # Errors
/// What the system said of the last one that was tried.
pub fn bind(address: &str) -> Result<TcpListener, EndpointError> {
    let failed = |source| EndpointError::Listen {
        address: address.to_owned(),
        source,
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name stands for no address");
    for candidate in address.to_socket_addrs().map_err(failed)? {
        match listen(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(failed(last))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    // std sets SO_REUSEADDR, so that a restarted server gets its port back at once.
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_is_chosen_once() {
        let chosen = choose("127.0.0.1:0").unwrap();
        assert!(!chosen.listen.ends_with(":0"), "{chosen:?}");
        assert_eq!(choose(&chosen.listen).unwrap(), chosen);
    }

    #[test]
    fn what_cannot_be_listened_on_is_told() {
        assert!(matches!(
            choose("nowhere"),
            Err(EndpointError::Address { .. })
        ));
        assert!(matches!(
            choose("192.0.2.1:0"),
            Err(EndpointError::Listen { .. })
        ));
        let taken = bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert!(matches!(
            choose(&address),
            Err(EndpointError::Listen { .. })
        ));
    }
}
