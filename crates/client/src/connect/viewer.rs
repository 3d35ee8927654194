//! Where viewers come from: connections to a local port or socket, standard input and output, or a program that is run.
//!
//! Always true: a local port is bound on the address that the user named, by default this machine only; a local socket lies in a
//! folder that only its owner can enter, and is removed with it.

use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rand::RngExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::process::{Child, Command};

use super::stream::BoxedViewer;

/// How viewers reach the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// By connecting to this address; port 0 for any. Each connection is a stream of its own.
    Listen(SocketAddr),
    /// By connecting to where profiles and preferences say, or else to a free port of 127.0.0.1.
    Usual,
    /// There is one: standard input and output.
    Stdio,
    /// By running this program, with `{port}`, `{host}` or `{socket}` in its arguments replaced.
    Program(Vec<String>),
}

impl Local {
    /// Where it listens when its user did not say, and what is said of it.
    pub(crate) fn usual(said: Option<SocketAddr>) -> Self {
        // Servers say where on this machine, and nothing else is believed.
        let said = said.filter(|address| address.ip().is_loopback());
        Self::Listen(said.unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 0).into()))
    }
}

/// Why viewers cannot come.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The local socket cannot be made.
    #[error("cannot make the local socket {}", .path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No program was given.
    #[error("no viewer program was given")]
    NoProgram,
    /// The program cannot be run.
    #[error("cannot run the viewer {program:?}")]
    Program {
        /// Which.
        program: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What viewers come in through.
pub(crate) struct Doors {
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, Folder)>,
    /// What `ready` says.
    pub(crate) listen: String,
    program: Option<Vec<String>>,
}

impl Doors {
    /// Opens what is needed.
    pub(crate) async fn open(local: &Local) -> Result<Self, LocalError> {
        match local {
            Local::Stdio => Ok(Self {
                tcp: None,
                unix: None,
                listen: "stdio".to_owned(),
                program: None,
            }),
            Local::Usual => Box::pin(Self::open(&Local::usual(None))).await,
            Local::Listen(address) => {
                let (tcp, listen) = listen(*address).await?;
                Ok(Self {
                    tcp: Some(tcp),
                    unix: None,
                    listen,
                    program: None,
                })
            }
            Local::Program(program) => {
                if program.is_empty() {
                    return Err(LocalError::NoProgram);
                }
                let (tcp, listen) = listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
                let wants_socket = program.iter().any(|part| part.contains("{socket}"));
                let unix = if wants_socket { Some(socket()?) } else { None };
                Ok(Self {
                    tcp: Some(tcp),
                    unix,
                    listen,
                    program: Some(program.clone()),
                })
            }
        }
    }

    /// The next viewer's connection; never, when there are no doors.
    pub(crate) async fn next(&self) -> io::Result<BoxedViewer> {
        let tcp = async {
            match &self.tcp {
                Some(tcp) => tcp.accept().await,
                None => std::future::pending().await,
            }
        };
        let unix = async {
            match &self.unix {
                Some((unix, _)) => unix.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = tcp => {
                let (viewer, _) = accepted?;
                viewer.set_nodelay(true)?;
                Ok(Box::new(viewer))
            }
            accepted = unix => Ok(Box::new(accepted?.0)),
        }
    }

    /// Runs the program, if there is one.
    pub(crate) fn run(&self) -> Result<Option<Child>, LocalError> {
        let Some(program) = &self.program else {
            return Ok(None);
        };
        let (host, port) = self.listen.rsplit_once(':').unwrap_or((&self.listen, ""));
        let socket = self
            .unix
            .as_ref()
            .map(|(_, folder)| folder.socket().display().to_string());
        let words: Vec<String> = program
            .iter()
            .map(|word| {
                let word = word.replace("{port}", port).replace("{host}", host);
                socket
                    .as_ref()
                    .map_or(word.clone(), |socket| word.replace("{socket}", socket))
            })
            .collect();
        let (name, arguments) = words.split_first().ok_or(LocalError::NoProgram)?;
        let child = Command::new(name)
            .args(arguments)
            .kill_on_drop(true)
            .spawn();
        let error = |source| LocalError::Program {
            program: name.clone(),
            source,
        };
        Ok(Some(child.map_err(error)?))
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, String), LocalError> {
    let error = |source| LocalError::Listen { address, source };
    let tcp = TcpListener::bind(address).await.map_err(error)?;
    let listen = tcp.local_addr().map_err(error)?.to_string();
    Ok((tcp, listen))
}

/// A private folder, removed with what is in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn socket(&self) -> PathBuf {
        self.0.join("viewer.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Somebody else may have removed it already.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn socket() -> Result<(UnixListener, Folder), LocalError> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| Path::new(path).is_dir());
    let parent = runtime.map_or_else(std::env::temp_dir, PathBuf::from);
    let path = parent.join(format!("stead-{:016x}", rand::rng().random::<u64>()));
    let error = |source| LocalError::Socket {
        path: path.clone(),
        source,
    };
    // A folder that exists already, made by whomever, is an error.
    DirBuilder::new().mode(0o700).create(&path).map_err(error)?;
    let folder = Folder(path.clone());
    let listener = UnixListener::bind(folder.socket()).map_err(error)?;
    Ok((listener, folder))
}
