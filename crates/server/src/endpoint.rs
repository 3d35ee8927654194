//! The addresses that a server listens on. Port 0 is chosen once, when the server is made, and then kept, so that
//! others find it again after a restart.

use crate::identity::Endpoint;
use peer::address::{Address, AddressError};
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

/// Where a server listens, where that is not where it is reached: addresses with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listen {
    /// For other servers.
    pub peer: Option<String>,
    /// For clients and administrators.
    pub client: Option<String>,
}

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

/// Chooses ports that are 0, and checks that they can be listened on now. `given` is where others reach the server; it listens
/// there too, unless `listen` says where it does, with commas between several addresses.
///
/// # Errors
/// When something is no address, is to be listened on and not one of this machine's, or the port is taken.
pub fn choose(given: &str, listen: Option<&str>) -> Result<Endpoint, EndpointError> {
    let given = read(given)?;
    let wanted = match listen {
        Some(listen) => several(listen).map(read).collect::<Result<_, _>>()?,
        None => vec![given.clone()],
    };
    let chosen: Vec<Address> = wanted
        .into_iter()
        .map(with_port)
        .collect::<Result<_, _>>()?;
    let listen: Vec<String> = chosen.iter().map(ToString::to_string).collect();
    let first = chosen.first().map(|first| first.port);
    let advertise = Address {
        port: match given.port {
            0 => first.unwrap_or_default(),
            port => port,
        },
        ..given
    };
    Ok(Endpoint {
        listen: listen.join(","),
        advertise: advertise.to_string(),
    })
}

/// The addresses in a text with commas between them.
fn several(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn read(text: &str) -> Result<Address, EndpointError> {
    text.parse().map_err(|source| EndpointError::Address {
        given: text.to_owned(),
        source,
    })
}

/// The address with a free port in place of port 0.
fn with_port(address: Address) -> Result<Address, EndpointError> {
    let text = address.to_string();
    let bound = bind(&text)?.local_addr();
    match bound {
        Ok(bound) => Ok(Address {
            port: bound.port(),
            ..address
        }),
        Err(source) => Err(EndpointError::Listen {
            address: text,
            source,
        }),
    }
}

/// Listens on each of the addresses in a text, which has commas between them.
///
/// # Errors
/// When one of them is not to be had.
pub fn bind_all(listen: &str) -> Result<Vec<TcpListener>, EndpointError> {
    several(listen).map(bind).collect()
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
        let chosen = choose("127.0.0.1:0", None).unwrap();
        assert!(!chosen.listen.ends_with(":0"), "{chosen:?}");
        assert_eq!(choose(&chosen.listen, None).unwrap(), chosen);
    }

    #[test]
    fn it_listens_elsewhere_than_where_it_is_reached_if_that_is_said() {
        let chosen = choose("boston.example:0", Some("127.0.0.1:0, [::1]:0")).unwrap();
        let ports: Vec<&str> = several(&chosen.listen)
            .map(|address| address.rsplit_once(':').unwrap().1)
            .collect();
        assert_eq!(chosen.advertise, format!("boston.example:{}", ports[0]));
        assert_eq!(ports.len(), 2);
        assert_eq!(bind_all(&chosen.listen).unwrap().len(), 2);
        let elsewhere = choose("boston.example:5427", Some("127.0.0.1:0")).unwrap();
        assert_eq!(elsewhere.advertise, "boston.example:5427");
        assert!(choose("boston.example:1", Some("")).is_err());
    }

    #[test]
    fn what_cannot_be_listened_on_is_told() {
        assert!(matches!(
            choose("nowhere", None),
            Err(EndpointError::Address { .. })
        ));
        assert!(matches!(
            choose("192.0.2.1:0", None),
            Err(EndpointError::Listen { .. })
        ));
        let taken = bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        assert!(matches!(
            choose(&address, None),
            Err(EndpointError::Listen { .. })
        ));
    }
}
