//! `stead serve`: puts a server together from what is on disk, and runs it until it is told to stop, or until it was reset
//! and begins anew.
//!
//! Consensus and its connections have runtimes of their own, so that a flood of clients' bytes never delays a
//! heartbeat. Each life of the server has its own too: nothing that runs in them outlives a reset.

use crate::backends::{self, Backends};
use crate::client_port;
use crate::clock;
use crate::endpoint::{self, EndpointError, Listen};
use crate::found::VERSION;
use crate::gateways::{self, Gateways};
use crate::hosting::{self, Hosting};
use crate::identity::{Identity, IdentityError};
use crate::links::ConsensusLinks;
use crate::login::{LoginError, Logins};
use crate::node::{Inner, Node, empty_directory};
use crate::peer_port::Doorman;
use crate::peers::{Peers, Sight};
use crate::placing::Placing;
use crate::reports::Reports;
use crate::runtimes::Runtimes;
use crate::spool::{self, Spool};
use crate::tickets::Tickets;
use crate::trusting::Shown;
use crate::{api, draining, duties, office, renewing, reporting, reset};
use arc_swap::ArcSwap;
use host::Halls;
use model::{FormationId, IncarnationId};
use peer::hello::Endpoint;
use peer::listener::{Listener, ListenerLimits};
use peer::pool::PoolSettings;
use peer::tls::TlsError;
use peer::trust_store::{Trust, TrustStore};
use relay::{Stop, Stopper};
use replica::disk::{RealDisk, SharedDisk};
use replica::{LogOptions, LogOwner, Options, Replica, Timing, formation};
use rustix::fs::FlockOperation;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long a stop may take before it is cut short.
const STOP_LIMIT: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_millis(500);

/// What `stead serve` was asked for.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The data folder.
    pub data: PathBuf,
    /// Where it listens, if not where it did when it was made.
    pub listen: Listen,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data folder is no server's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Another process serves it.
    #[error("{} is served by another process already", data.display())]
    Running {
        /// The data folder.
        data: PathBuf,
    },
    /// Something in the data folder cannot be made.
    #[error("{} cannot be used", path.display())]
    Folder {
        /// What.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Keys or certificates.
    #[error(transparent)]
    Trust(#[from] peer::trust_store::LoadError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The directory.
    #[error("the directory cannot be opened")]
    Replica(#[from] replica::OpenError),
    /// A thread or a signal.
    #[error("the system refuses a thread or a signal")]
    System(#[source] io::Error),
    /// Logins.
    #[error(transparent)]
    Logins(#[from] LoginError),
    /// Randomness.
    #[error(transparent)]
    Randomness(#[from] crate::random::NoRandomness),
    /// A reset that is to be completed first.
    #[error("this server was reset, and its new group cannot be put in place")]
    Reset(#[from] reset::FolderError),
}

/// Why a life of the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It was told to stop.
    Told,
    /// It was reset, or has joined another group: the next life is there.
    Reset,
}

/// Runs a server until SIGTERM or SIGINT.
///
/// # Errors
/// Why it does not start.
pub async fn serve(options: ServeOptions) -> Result<(), ServeError> {
    // A folder that is no server's is left as it is.
    Identity::load(&options.data)?;
    // Keepers run elsewhere: what they are told must not hang on this process's folder.
    let data = std::fs::canonicalize(&options.data).map_err(|source| ServeError::Folder {
        path: options.data.clone(),
        source,
    })?;
    let _lock = lock(&data)?;
    host::descriptors::take_all();
    host::core_dumps::leave_none();
    while live(&data, &options.listen).await? == Ending::Reset {
        tracing::info!("this server begins anew, in another group");
    }
    Ok(())
}

/// One life of the server, from what is on disk. When it is over nothing of it runs, and its ports are free.
async fn live(data: &Path, listen: &Listen) -> Result<Ending, ServeError> {
    reset::complete(data)?;
    let identity = Identity::load(data)?;
    let ports = Ports::bind(&identity, listen)?;
    let trust = TrustStore::of(data).load()?;
    let runtimes = Runtimes::make().await.map_err(ServeError::System)?;
    let (data, on) = (data.to_owned(), runtimes.lines.handle().clone());
    let gateways = runtimes.gateways.handle().clone();
    let life = runtimes.rest.spawn(async move {
        let (stopper, stop) = Stopper::new();
        let server = start(&data, (identity, trust), ports, on, stop).await?;
        server.run(stopper, &gateways).await
    });
    let ended = life.await;
    runtimes.end(STOP_LIMIT).await;
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// One server for one data folder.
fn lock(data: &Path) -> Result<File, ServeError> {
    let run = data.join("run");
    let failed = |source| ServeError::Folder {
        path: run.clone(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&run)
        .map_err(failed)?;
    let path = run.join("lock");
    let open = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path);
    let file = open.map_err(|source| ServeError::Folder { path, source })?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        ServeError::Running {
            data: data.to_owned(),
        }
    })?;
    // For people and scripts only: a full disk is no reason not to serve.
    if let Err(error) = std::fs::write(run.join("pid"), std::process::id().to_string()) {
        tracing::warn!(%error, "the process id cannot be written");
    }
    Ok(file)
}

/// A server whose parts are put together, before they run.
struct Server {
    node: Node,
    endpoint: Endpoint,
    peer_ports: Vec<Listener>,
    client_ports: Vec<TcpListener>,
    admin: UnixListener,
}

/// What it listens on.
struct Ports {
    peer: Vec<std::net::TcpListener>,
    client: Vec<std::net::TcpListener>,
}

impl Ports {
    fn bind(identity: &Identity, listen: &Listen) -> Result<Self, ServeError> {
        let peer = listen.peer.as_deref();
        let client = listen.client.as_deref();
        Ok(Self {
            peer: endpoint::bind_all(peer.unwrap_or(&identity.peer.listen))?,
            client: endpoint::bind_all(client.unwrap_or(&identity.client.listen))?,
        })
    }
}

async fn start(
    data: &Path,
    (identity, trust): (Identity, Trust),
    ports: Ports,
    lines: Handle,
    stop: Stop,
) -> Result<Server, ServeError> {
    let sight = Sight::new(identity.clone());
    let shown = Shown::new(&identity, &trust, &sight)?;
    let endpoint = shown.endpoint.clone();
    let peer_port = |port| Listener::over(port, ListenerLimits::default());
    let peer_ports: io::Result<_> = ports.peer.into_iter().map(peer_port).collect();
    let client_ports: io::Result<_> = ports
        .client
        .into_iter()
        .map(TcpListener::from_std)
        .collect();
    let settings = PoolSettings::on(lines.clone(), Handle::current());
    let peers = Peers::new(endpoint.clone(), settings);
    let replica = open_replica(data, &identity, links_over(&peers)).await?;
    sight.open(replica.clone());
    let executable = std::env::current_exe().map_err(ServeError::System)?;
    let node = Node(Arc::new(Inner {
        before: Arc::new(empty_directory(&identity, &trust)),
        data: data.to_owned(),
        halls: halls(&executable, data),
        executable,
        replica,
        peers,
        sight,
        tickets: ArcSwap::from_pointee(Tickets::new(identity.group, None)),
        trust: ArcSwap::from_pointee(trust),
        shown,
        troubles_of_certificates: Default::default(),
        renewed: Notify::new(),
        pins: crate::pins::Pins::default(),
        logins: Logins::new()?,
        elsewhere: Default::default(),
        reports: Reports::default(),
        spool: Spool::default(),
        placing: Placing::default(),
        hosting: Hosting::default(),
        gateways: Gateways::default(),
        backends: Backends::default(),
        tunnels: crate::tunnels::Tunnels::default(),
        decision: Mutex::default(),
        leaving: Mutex::default(),
        reset: watch::Sender::default(),
        conversations: watch::Sender::default(),
        caretaker: AtomicBool::new(false),
        ordered: Mutex::default(),
        outlook: Mutex::new(policy::failback::Outlook::Nothing),
        formations: crate::formations::Known::default(),
        journal: watch::Sender::new(0),
        started: clock::calendar(),
        stop,
        lines,
        identity,
    }));
    // Before anybody is let in.
    node.follow_suites();
    Ok(Server {
        node,
        endpoint,
        peer_ports: peer_ports.map_err(ServeError::System)?,
        client_ports: client_ports.map_err(ServeError::System)?,
        admin: admin_socket(data)?,
    })
}

fn links_over(peers: &Peers) -> Arc<ConsensusLinks> {
    let links = Arc::new(ConsensusLinks::default());
    links.connect(peers.pool().clone());
    links
}

fn halls(executable: &Path, data: &Path) -> Halls {
    Halls::new(
        executable.to_owned(),
        data.join("halls"),
        data.join("sessions"),
    )
}

/// A server whose log is gone begins with an empty one under a new incarnation, in no formation: whatever it promised by the
/// old one it has forgotten. `formations` brings it into the one in force.
fn begin_anew_where_emptied(data: &Path) -> Result<(), ServeError> {
    let disk: SharedDisk = Arc::new(RealDisk);
    let there = formation::current(&disk, data).map_err(replica::OpenError::from)?;
    let others = formation::others(&disk, data).map_err(replica::OpenError::from)?;
    if there.is_some() || !others.is_empty() {
        return Ok(());
    }
    tracing::warn!(
        "this server has no log: it begins anew, and counts again when it has caught up"
    );
    let owner = LogOwner {
        formation: FormationId::default(),
        incarnation: crate::keys::fresh(IncarnationId::from_bytes)?,
    };
    let size = LogOptions::default().segment_size;
    let begun = formation::join(&disk, data, owner, size, None)
        .and_then(|()| formation::select(&disk, data, owner.formation));
    Ok(begun.map_err(replica::OpenError::from)?)
}

async fn open_replica(
    data: &Path,
    identity: &Identity,
    links: Arc<ConsensusLinks>,
) -> Result<Replica, ServeError> {
    begin_anew_where_emptied(data)?;
    let disk: SharedDisk = Arc::new(RealDisk);
    // The settings in the last snapshot are the best that is known before the log is read; `duties` corrects them.
    Ok(Replica::open(
        disk,
        data,
        identity.server,
        links,
        Timing::default(),
        Options {
            silent: true,
            ..Options::default()
        },
    )
    .await?)
}

fn admin_socket(data: &Path) -> Result<UnixListener, ServeError> {
    let run = data.join("run");
    let path = run.join("admin.sock");
    let failed = |source| ServeError::Folder {
        path: path.clone(),
        source,
    };
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = crate::socket::bind(&run, "admin.sock").map_err(failed)?;
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

impl Server {
    async fn run(self, stopper: Stopper, gateways: &Handle) -> Result<Ending, ServeError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::System)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::System)?;
        let node = self.node.clone();
        tokio::spawn(crate::following::follow_directory(node.clone()));
        tokio::spawn(duties::run(node.clone()));
        tokio::spawn(crate::formations::run(node.clone()));
        tokio::spawn(reporting::run(node.clone()));
        tokio::spawn(renewing::run(node.clone()));
        tokio::spawn(crate::secrets::run(node.clone()));
        tokio::spawn(crate::sealing::run(node.clone()));
        tokio::spawn(crate::authorities::run(node.clone()));
        tokio::spawn(crate::suites::run(node.clone()));
        tokio::spawn(crate::elsewhere::run(node.clone()));
        tokio::spawn(crate::external_certificates::run(node.clone()));
        tokio::spawn(draining::run(node.clone()));
        tokio::spawn(spool::run(node.clone()));
        tokio::spawn(crate::following::say_hello(node.clone()));
        if node.0.identity.standing.hosts() {
            tokio::spawn(hosting::run(node.clone()));
            tokio::spawn(backends::run(node.clone()));
        }
        gateways.spawn(gateways::run(node.clone()));
        let doorman = Arc::new(Doorman { node: node.clone() });
        let ports = self.peer_ports.into_iter();
        let peer_ports: Vec<_> = ports
            .map(|port| tokio::spawn(port.run(self.endpoint.clone(), Arc::clone(&doorman))))
            .collect();
        tokio::spawn(api::serve_local(self.admin, node.clone(), node.stop()));
        tokio::spawn(client_port::serve(
            node.clone(),
            self.client_ports,
            node.stop(),
        ));
        let bound = node.bound();
        tracing::info!(
            server = %node.name(), version = VERSION,
            peer = bound.peer_address, client = bound.client_address, "serving"
        );
        let ending = tokio::select! {
            _ = terminate.recv() => Ending::Told,
            _ = interrupt.recv() => Ending::Told,
            () = reset::decided(&node) => Ending::Reset,
        };
        tracing::info!("stopping in an orderly way");
        if timeout(STOP_LIMIT, stop(&node, &stopper)).await.is_err() {
            tracing::warn!("the stop took too long and is cut short");
        }
        if ending == Ending::Reset {
            // Whoever asked for it must get the answer.
            api::all_answered(&node).await;
        }
        peer_ports.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(ending)
    }
}

/// Hands the primary role over first, then says goodbye.
async fn stop(node: &Node, stopper: &Stopper) {
    office::leave(node).await;
    stopper.stop();
    node.0.peers.goodbye(GOODBYE).await;
    node.replica().shutdown().await;
}
