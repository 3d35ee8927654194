//! `stead init` and `stead serve`: a new group, and the server in the foreground.

use super::listening::Listening;
use super::{Context, values};
use crate::config_file::ConfigFile;
use crate::errors::{Failure, chain};
use crate::logging::{self, LogFormat};
use crate::password;
use model::{GroupName, ServerName};
use std::path::PathBuf;

/// What a server must know before it has a directory.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Own {
    /// The server's name, unique in its group.
    #[arg(long, env = "STEAD_NAME", value_name = "NAME")]
    pub(crate) name: Option<ServerName>,
    /// Where other servers reach this one; the port is 5427 when left out, 0 takes any free one.
    #[arg(long, env = "STEAD_PEER", value_name = "HOST:PORT", value_parser = values::peer_address)]
    pub(crate) peer: Option<String>,
    /// Where clients and administrators reach this one; the host of --peer and port 5443 when absent.
    #[arg(long, env = "STEAD_CLIENT", value_name = "HOST:PORT", value_parser = values::client_address)]
    pub(crate) client: Option<String>,
    #[command(flatten)]
    listening: Listening,
    /// Configuration file [default: /etc/stead/stead.toml, if it is there].
    #[arg(long, env = "STEAD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// The same, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The data folder.
    pub(crate) data: PathBuf,
    /// The server's name.
    pub(crate) name: ServerName,
    /// Where other servers reach it.
    pub(crate) peer: String,
    /// Where clients and administrators reach it.
    pub(crate) client: String,
    /// Where it listens, if not where it is reached.
    pub(crate) listen: server::Listen,
}

impl Own {
    /// Fills in from the configuration file what the command line and the environment left out.
    ///
    /// # Errors
    /// The file cannot be read, or something is given nowhere.
    pub(crate) fn settle(self, context: &Context, what: &str) -> Result<Settled, Failure> {
        let file = ConfigFile::read(self.config.as_deref())?;
        let data = context.data(&file);
        let listen = self.listening.settle(&file, what)?;
        let missing = |option: &str| {
            Failure::usage(what, format!("{option} was not given")).remedy(format!(
                "give {option}, or write it into the configuration file"
            ))
        };
        let valid = |address: Result<String, String>, key: &str| {
            address.map_err(|why| {
                Failure::usage(what, format!("{key} in the configuration file: {why}"))
            })
        };
        let peer = match (self.peer, file.peer) {
            (Some(peer), _) => peer,
            (None, Some(peer)) => valid(values::peer_address(&peer), "peer")?,
            (None, None) => return Err(missing("--peer HOST:PORT")),
        };
        let client = match (self.client, file.client) {
            (Some(client), _) => client,
            (None, Some(client)) => valid(values::client_address(&client), "client")?,
            (None, None) => {
                let host = peer
                    .rsplit_once(':')
                    .map_or(peer.as_str(), |(host, _)| host);
                format!("{host}:{}", values::CLIENT_PORT)
            }
        };
        let name = self
            .name
            .or(file.name)
            .ok_or_else(|| missing("--name NAME"))?;
        Ok(Settled {
            data,
            name,
            peer,
            client,
            listen,
        })
    }
}

/// Founds a group of one on this machine; other servers join it later
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead init --data /var/lib/stead --name boston --group acme --peer 10.0.0.1:5427 --client 10.0.0.1:5443
  stead init --name boston --group acme --peer boston.example.net --admin-password-file FILE --json

It makes the group's certificate authority and the administrator `admin`. Then: stead serve.")]
pub(crate) struct Init {
    #[command(flatten)]
    own: Own,
    /// The group's name.
    #[arg(long, env = "STEAD_GROUP", value_name = "GROUP")]
    group: GroupName,
    /// The file that holds the password of `admin` on its first line; `-` reads it from stdin. Without it the password is asked for.
    #[arg(long, value_name = "FILE")]
    admin_password_file: Option<PathBuf>,
}

impl Init {
    /// Founds the group.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let what = "the group was not founded";
        let settled = self.own.settle(context, what)?;
        let source = password::PasswordSource {
            password_file: self.admin_password_file,
        };
        let administrator_password = source.new_password("admin")?;
        let options = server::InitOptions {
            data: settled.data.clone(),
            name: settled.name.clone(),
            group: self.group.clone(),
            peer: settled.peer,
            client: settled.client,
            listen: settled.listen,
            administrator_password,
        };
        let waiting = context.output.progress("making keys and the directory");
        let done = super::wait_for(async {
            server::init(options)
                .await
                .map_err(|error| refused(what, &error))
        })?;
        drop(waiting);
        let json = serde_json::json!({
            "group": self.group, "group_id": done.group, "server": settled.name, "server_id": done.server,
            "data": settled.data, "ca_fingerprint": done.ca_fingerprint, "administrator": "admin",
            "peer_address": done.peer_address, "client_address": done.client_address,
        });
        let data = settled.data.display();
        context.output.done(
            &json,
            format!(
                "Group {} was founded; {} is its first server and primary.\n\nauthority  {}\ndata       {data}\n\nNext: stead serve --data {data}",
                self.group, settled.name, done.ca_fingerprint
            ),
        );
        Ok(())
    }
}

fn refused(what: &str, error: &server::InitError) -> Failure {
    match error {
        server::InitError::Identity(_) => Failure::refused(what, chain(error)),
        _ => Failure::failed(what, chain(error)),
    }
}

/// Runs the server in the foreground; logs go to stderr, SIGTERM stops it in an orderly way
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead serve --data /var/lib/stead
  stead serve --data /var/lib/stead --listen-peer 0.0.0.0:5427
  STEAD_LOG=debug stead serve --data /var/lib/stead --log-format json")]
pub(crate) struct Serve {
    /// How log lines look.
    #[arg(long, value_enum, env = "STEAD_LOG_FORMAT", value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    listening: Listening,
    /// Configuration file [default: /etc/stead/stead.toml, if it is there].
    #[arg(long, env = "STEAD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Serve {
    /// Serves until the server is told to stop.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let file = ConfigFile::read(self.config.as_deref())?;
        logging::start(self.log_format.or(file.log_format).unwrap_or_default());
        let data = context.data(&file);
        let what = format!("the server in {} does not serve", data.display());
        let listen = self.listening.settle(&file, &what)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| Failure::failed(&what, error))?;
        runtime
            .block_on(server::serve(server::ServeOptions { data, listen }))
            .map_err(|error| Failure::failed(&what, chain(&error)))
    }
}
