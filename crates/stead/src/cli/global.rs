//! Options that every command takes, before or after it: where the server is, and how to print.

use super::values;
use crate::config_file::{ConfigFile, DEFAULT_DATA};
use crate::errors::Failure;
use crate::output::Output;
use clap::ArgMatches;
use clap::parser::ValueSource;
use client::Fingerprint;
use std::path::PathBuf;

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Where and how")]
pub(crate) struct Global {
    /// Data folder of the server on this machine; the command goes through its local socket.
    #[arg(long, global = true, env = "STEAD_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Servers of a group elsewhere, in the order in which they are tried.
    #[arg(
        long,
        global = true,
        env = "STEAD_SERVER",
        value_name = "HOST:PORT[,...]",
        value_delimiter = ',',
        value_parser = values::client_address
    )]
    pub(crate) server: Vec<String>,
    /// Fingerprint of that group's authority, as `stead trust show` prints it.
    #[arg(long, global = true, env = "STEAD_CA", value_name = "sha256:HEX")]
    pub(crate) ca: Option<Fingerprint>,
    /// Print JSON for scripts.
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// Which group a command is for, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Through the local socket of a server on this machine.
    Local {
        /// Its data folder.
        data: PathBuf,
    },
    /// Over the network.
    Remote {
        /// Servers, in the order in which they are tried.
        servers: Vec<String>,
        /// The group's authority, if it was named.
        ca: Option<Fingerprint>,
    },
}

/// What the options before and after the command said.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    /// The options.
    pub(crate) global: Global,
    /// Which group, and how to reach it.
    pub(crate) place: Place,
    /// How to print.
    pub(crate) output: Output,
}

impl Context {
    /// Sorts out what was given where: an option goes before an environment variable, and a server on this machine is
    /// meant when nothing else is said.
    ///
    /// # Errors
    /// Both kinds of place were given in the same way.
    pub(crate) fn new(global: Global, matches: &ArgMatches) -> Result<Self, Failure> {
        let source = |id: &str| {
            matches
                .value_source(id)
                .unwrap_or(ValueSource::DefaultValue)
        };
        let (data, server) = (source("data"), source("server"));
        let both = global.data.is_some() && !global.server.is_empty();
        if both && data == server {
            return Err(Failure::usage(
                "it is not clear which group is meant",
                "both a data folder on this machine and servers elsewhere were given",
            )
            .remedy("give either --data (or STEAD_DATA) or --server (or STEAD_SERVER)"));
        }
        let remote = !global.server.is_empty() && (!both || server > data);
        let place = if remote {
            Place::Remote {
                servers: global.server.clone(),
                ca: global.ca,
            }
        } else {
            Place::Local {
                data: global.data.clone().map_or_else(data_of_config, Ok)?,
            }
        };
        Ok(Self {
            output: Output::new(global.json),
            place,
            global,
        })
    }

    /// The data folder on this machine that was given, whatever else was.
    pub(crate) fn data(&self, file: &ConfigFile) -> PathBuf {
        self.global
            .data
            .clone()
            .or_else(|| file.data.clone())
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA))
    }
}

fn data_of_config() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("STEAD_CONFIG").map(PathBuf::from);
    Ok(ConfigFile::read(named.as_deref())?
        .data
        .unwrap_or_else(|| PathBuf::from(DEFAULT_DATA)))
}
