//! Groups of real servers: separate `stead serve` processes with folders of their own, made through the command line
//! exactly as a person or script would.
//!
//! Start at [`Group::of`], which plans one ([`GroupPlan`]). Servers lie on loopback addresses of their own (127.x.y.1, .2, ...) or on the nodes of a
//! [`Network`](crate::Network), always on the ports 5427 and 5443. What they start (session keepers, say) is killed with the group.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::command_line::server_entry;
use crate::leftovers::{control_groups, kill_started_in, remove_control_groups};
use crate::network::Node;
use crate::plan::{GroupPlan, Place};
use crate::process::{Process, kill};
use crate::wait::{eventually, seconds};

/// Servers among themselves.
pub const PEER_PORT: u16 = 5427;
/// Everybody else.
pub const CLIENT_PORT: u16 = 5443;
/// Password of `admin` and of every user that [`Group::add_user`] makes.
pub const PASSWORD: &str = "correct horse battery staple";

/// A server answers its own command line after this at the latest.
const STARTS_WITHIN: Duration = seconds(20);
/// A joined server counts as a voter after this at the latest: it replicates first, and is healthy for 10 s.
const COUNTS_WITHIN: Duration = seconds(90);
/// A running group; its servers, and everything they started, end when it is dropped.
#[derive(Debug)]
pub struct Group {
    pub(crate) plan: GroupPlan,
    servers: Vec<Server>,
    ca: String,
    folder: TempDir,
}

/// One server of a [`Group`].
#[derive(Debug)]
pub struct Server {
    place: Place,
    data: PathBuf,
    process: Option<Process>,
    votes: bool,
}

impl Group {
    /// Makes the group with its first server.
    #[track_caller]
    pub(crate) fn with_first(plan: GroupPlan) -> Self {
        assert!(
            !plan.places.is_empty(),
            "a group needs a place for its first server"
        );
        let folder = tempfile::Builder::new().prefix("stead-group-").tempdir();
        let folder = folder.unwrap_or_else(|error| panic!("a folder for the group: {error}"));
        std::fs::write(folder.path().join("password"), PASSWORD).expect("a file in a new folder");
        let server = |place: &Place| Server {
            place: place.clone(),
            data: folder.path().join(&place.name),
            process: None,
            votes: true,
        };
        let servers = plan.places.iter().map(server).collect();
        let mut group = Self {
            plan,
            servers,
            ca: String::new(),
            folder,
        };
        group.found();
        group
    }

    #[track_caller]
    fn found(&mut self) {
        let first = self.server(0);
        let (peer, client) = (
            first.peer_address().to_string(),
            first.client_address().to_string(),
        );
        let (name, password) = (first.name().to_owned(), self.password_file());
        let password = password.to_string_lossy();
        let made = self.run(
            0,
            &[
                "init",
                "--name",
                &name,
                "--group",
                "testers",
                "--peer",
                &peer,
                "--client",
                &client,
                "--admin-password-file",
                &password,
                "--json",
            ],
        );
        assert_eq!(made.code, Some(0), "stead init: {made:?}");
        self.serve(0);
        eventually(STARTS_WITHIN, "the first server to act as primary", || {
            self.acting() == Some(0)
        });
        let trust = self.json(0, &["trust", "show"]);
        self.ca = trust
            .get("ca_fingerprint")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
    }

    /// Joins the server to the group by an invitation of the first that runs, starts it, and waits until every member
    /// sees it.
    ///
    /// # Panics
    /// When anything refuses.
    #[track_caller]
    pub fn join(&mut self, index: usize) {
        self.join_as(index, "--voter");
    }

    /// As [`Group::join`], but the server replicates and hosts only: it never counts as a voter.
    ///
    /// # Panics
    /// When anything refuses.
    #[track_caller]
    pub fn join_without_vote(&mut self, index: usize) {
        if let Some(server) = self.servers.get_mut(index) {
            server.votes = false;
        }
        self.join_as(index, "--non-voter");
    }

    /// As [`Group::join`], but the server is a witness: it counts, and is never primary.
    ///
    /// # Panics
    /// When anything refuses.
    #[track_caller]
    pub fn join_as_witness(&mut self, index: usize) {
        self.join_as(index, "--witness");
    }

    #[track_caller]
    fn join_as(&mut self, index: usize, standing: &str) {
        let member = self.running().next().expect("a member that runs");
        let invitation = self.json(member, &["group", "invite", standing]);
        let code = invitation
            .get("code")
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no code: {invitation}"));
        let joining = self.server(index);
        let (peer, client) = (
            joining.peer_address().to_string(),
            joining.client_address().to_string(),
        );
        let name = joining.name().to_owned();
        let joined = self.run(
            index,
            &[
                "join", code, "--name", &name, "--peer", &peer, "--client", &client, "--json",
            ],
        );
        assert_eq!(joined.code, Some(0), "stead join: {joined:?}");
        self.serve(index);
        eventually(
            STARTS_WITHIN,
            &format!("all members to reach {name}"),
            || {
                let sees = |seen_by| {
                    server_entry(&self.status(seen_by)?, &name)?
                        .get("reachable")?
                        .as_bool()
                };
                self.running().all(|member| sees(member) == Some(true))
            },
        );
    }

    /// Waits until every server counts as a voter, but those that joined without a vote.
    #[track_caller]
    pub fn wait_for_voters(&self) {
        let votes = |index: &usize| self.server(*index).votes;
        let all = self.running().filter(votes).count();
        eventually(COUNTS_WITHIN, &format!("{all} voters"), || {
            self.running()
                .all(|index| self.voters_seen_by(index) == Some(all))
        });
    }

    fn voters_seen_by(&self, index: usize) -> Option<usize> {
        let voters = self.status(index)?.get("quorum")?.get("voters")?.as_u64()?;
        usize::try_from(voters).ok()
    }

    /// All servers of the plan, whether they run or not.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server at this place of the plan, from 0.
    ///
    /// # Panics
    /// When there are fewer.
    #[track_caller]
    pub fn server(&self, index: usize) -> &Server {
        self.servers
            .get(index)
            .unwrap_or_else(|| panic!("no server {index}"))
    }

    /// The process of a server that runs.
    ///
    /// # Panics
    /// When it was never started, or was killed or stopped since.
    #[track_caller]
    pub fn process(&mut self, index: usize) -> &mut Process {
        let server = self
            .servers
            .get_mut(index)
            .and_then(|server| server.process.as_mut());
        server.unwrap_or_else(|| panic!("server {index} does not run"))
    }

    /// Servers that were started and neither killed nor stopped.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        self.servers
            .iter()
            .enumerate()
            .filter(|(_, server)| server.process.is_some())
            .map(|(index, _)| index)
    }

    /// Starts the process of a server; does not wait until it answers.
    #[track_caller]
    pub fn serve(&mut self, index: usize) {
        let mut command = self.command(index);
        command
            .arg("serve")
            .arg("--data")
            .arg(&self.server(index).data);
        let process = Process::start(
            &format!("server {}", self.server(index).name()),
            &mut command,
        );
        if let Some(server) = self.servers.get_mut(index) {
            server.process = Some(process);
        }
    }

    /// Waits until a server answers its own command line.
    ///
    /// # Panics
    /// When it does not within 20 s.
    #[track_caller]
    pub fn wait_until_answering(&self, index: usize) {
        let what = format!("{} to answer", self.server(index).name());
        eventually(STARTS_WITHIN, &what, || self.status(index).is_some());
    }

    /// Kills the server's process (SIGKILL). Its keepers live on.
    #[track_caller]
    pub fn kill(&mut self, index: usize) {
        self.process(index).kill();
        self.forget(index);
    }

    /// Stops the server in an orderly way and waits until it is gone.
    ///
    /// # Panics
    /// When it does not end within 20 s, or with a failure.
    #[track_caller]
    pub fn stop(&mut self, index: usize) {
        self.process(index).terminate();
        let status = self.process(index).wait(STARTS_WITHIN);
        assert!(
            status.success(),
            "{status}\n{}",
            self.process(index).story()
        );
        self.forget(index);
    }

    fn forget(&mut self, index: usize) {
        if let Some(server) = self.servers.get_mut(index) {
            server.process = None;
        }
    }

    /// Kills all that runs at a server's place: the server, its keepers and their programs, as if the machine had died.
    /// For servers on nodes; pull the cable before, and nobody hears a last word.
    ///
    /// # Panics
    /// When the server lies on loopback, where its processes cannot be told from others.
    #[track_caller]
    pub fn kill_host(&mut self, index: usize) {
        let node = self
            .server(index)
            .place
            .node
            .clone()
            .expect("a server on a node");
        for pid in node.processes() {
            kill(pid, Signal::KILL);
        }
        self.forget(index);
    }

    /// The fingerprint of the group's authority: `sha256:HEX`.
    pub fn ca(&self) -> &str {
        &self.ca
    }

    /// The file with [`PASSWORD`].
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    /// A folder that goes with the group.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for server in &mut self.servers {
            if let Some(process) = &mut server.process {
                process.kill();
            }
        }
        let groups = control_groups(self.folder.path());
        // A keeper may start its program while it is looked for.
        while kill_started_in(self.folder.path()) {}
        remove_control_groups(&groups);
    }
}

impl Server {
    /// Its name in the group.
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// Its node, if it lies in a network.
    pub fn node(&self) -> Option<&Node> {
        self.place.node.as_ref()
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where other servers reach it.
    pub fn peer_address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address, PEER_PORT)
    }

    /// Where everybody else reaches it.
    pub fn client_address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address, CLIENT_PORT)
    }
}
