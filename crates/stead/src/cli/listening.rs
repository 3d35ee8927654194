//! Where a server listens, where that is not where it is reached: behind a translation of addresses, or while its address changes.

use super::values;
use crate::config_file::ConfigFile;
use crate::errors::Failure;
use server::Listen;

/// Where a server listens.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Listening {
    /// Where it listens for other servers, if not where they reach it; several with commas between them.
    #[arg(long, env = "STEAD_LISTEN_PEER", value_name = "HOST:PORT,...", value_parser = values::peer_addresses)]
    listen_peer: Option<String>,
    /// Where it listens for clients, if not where they reach it; several with commas between them.
    #[arg(long, env = "STEAD_LISTEN_CLIENT", value_name = "HOST:PORT,...", value_parser = values::client_addresses)]
    listen_client: Option<String>,
}

impl Listening {
    /// Fills in from the configuration file what the command line and the environment left out.
    ///
    /// # Errors
    /// What the file says is no address.
    pub(crate) fn settle(self, file: &ConfigFile, what: &str) -> Result<Listen, Failure> {
        let valid = |address: Result<String, String>, key: &str| {
            address.map_err(|why| {
                Failure::usage(what, format!("{key} in the configuration file: {why}"))
            })
        };
        let read = |given: Option<String>,
                    said: &Option<String>,
                    key: &str,
                    parse: fn(&str) -> Result<String, String>| {
            match (given, said) {
                (Some(given), _) => Ok(Some(given)),
                (None, Some(said)) => valid(parse(said), key).map(Some),
                (None, None) => Ok(None),
            }
        };
        let peer = (self.listen_peer, &file.listen_peer);
        let client = (self.listen_client, &file.listen_client);
        Ok(Listen {
            peer: read(peer.0, peer.1, "listen_peer", values::peer_addresses)?,
            client: read(
                client.0,
                client.1,
                "listen_client",
                values::client_addresses,
            )?,
        })
    }
}
