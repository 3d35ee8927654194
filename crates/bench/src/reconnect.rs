//! `reconnect`: the hosts of thousands of clients of the tunnel vanish, and in the last run the primary with them, in the middle of
//! the storm; until when is each client served again, and what does it take?

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testkit::{Group, Machine, Network, PASSWORD};

use crate::cluster::{VIEWER, processor};
use crate::crowd::{Plan, Told, WORD, micros};
use crate::peers::stead::{APP, USER};
use crate::report::Table;
use crate::samples::Samples;
use crate::{Options, backend};

/// The servers that count, and behind them those that carry all clients at first.
const SERVERS: [&str; 5] = ["a", "b", "c", "one", "other"];
const VOTERS: usize = 3;
const BACKEND: u16 = 7200;
/// How many clients there are, in one run after the other.
const CROWDS: [usize; 4] = [1_250, 2_500, 5_000, 10_000];
/// Silence after which a path is dead, instead of a second: ten thousand paths that nothing else passes over say three times within it
/// that they are there, and all ends of them share this machine.
const DEAD_AFTER: &str = "5s";
/// Clients in one process: each has four descriptors, of which a process may not have more than 20,000 on some machines.
const TOGETHER: usize = 2_500;
/// A crowd that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(900);

/// Runs the storms and returns the section.
///
/// # Errors
/// When a group cannot be started, or a client is not served again.
pub(crate) fn run(machine: &Machine, options: &Options) -> Result<String> {
    let mut table = Table::new(&[
        "clients",
        "at first: all after, s",
        "served again: median, s",
        "p99, s",
        "all, s",
        "CPU of servers, ms a client",
        "largest server, MB",
        "keepers, KB a client",
    ]);
    let crowds = options.clients.map_or(CROWDS.to_vec(), |only| vec![only]);
    for (index, clients) in crowds.iter().copied().enumerate() {
        let is_last = index + 1 == crowds.len();
        for second in [false, true].into_iter().filter(|again| is_last || !again) {
            let storm = Storm::begin(machine, options, clients)?;
            table.row(&storm.run(options, second)?);
        }
    }
    Ok(format!("{}\n{}", table.finish(), words()))
}

fn words() -> String {
    format!(
        "Five servers and the clients in namespaces on one switch; three of the servers count, the other two carry the sessions. Their \
         cables are pulled and their processes killed. Measured from the pull until each client's viewer, whose connection was closed when \
         its session was given up, has an answer from its next one; all were served again, none gave up. In the last run the primary \
         vanishes, too, when a third of the clients are served again. Each client is what `stead connect` is, with a viewer; they are on \
         the same machine as the servers. `tunnel.dead-after` is {DEAD_AFTER}. At first: all of them at once, with passwords.\n"
    )
}

/// Five servers and a crowd on two of them.
struct Storm {
    crowd: Crowd,
    opened: Duration,
    group: Group,
    network: Network,
}

impl Storm {
    fn begin(machine: &Machine, options: &Options, clients: usize) -> Result<Self> {
        let names: Vec<&str> = SERVERS.into_iter().chain([VIEWER]).collect();
        let network = Network::new(machine, &names);
        for name in SERVERS {
            backend::serve(network.node(name), BACKEND)?;
        }
        let mut group = Group::of(&options.binary)
            .in_network(&network, &SERVERS)
            .start_first();
        (1..VOTERS).for_each(|index| group.join(index));
        group.wait_for_voters();
        (VOTERS..SERVERS.len()).for_each(|index| group.join_without_vote(index));
        group.add_user(0, USER);
        let address = format!("tcp:127.0.0.1:{BACKEND}");
        group.add_app(0, APP, &["--backend", &address]);
        group.json(0, &["config", "set", "tunnel.dead-after", DEAD_AFTER]);
        group.json(0, &["server", "offline", "a", "b", "c"]);
        let crowd = Crowd::start(&group, &network, clients)?;
        let opened = crowd.wait_for(clients, options, "have sessions")?;
        group.json(0, &["server", "online", "a", "b", "c"]);
        options.progress(&format!(
            "reconnect: {clients} clients have sessions after {} s",
            seconds(opened)
        ));
        Ok(Self {
            crowd,
            opened,
            group,
            network,
        })
    }

    fn run(mut self, options: &Options, second: bool) -> Result<Vec<String>> {
        let clients = self.crowd.clients;
        let before = self.used();
        let hosts: Vec<&str> = SERVERS.into_iter().skip(VOTERS).collect();
        let lost = self.crowd.board().begin(&hosts);
        (VOTERS..SERVERS.len()).for_each(|index| self.lose(index));
        let mut named = lost.to_string();
        if second {
            self.crowd
                .wait_for(clients - lost + lost / 3, options, "be served again")?;
            let primary = self.group.wait_for_acting(Duration::from_secs(10));
            let there = SERVERS.get(primary).copied().unwrap_or_default();
            named = format!("{lost}, and {} again", self.crowd.board().clients_on(there));
            self.lose(primary);
        }
        self.crowd.wait_for(clients, options, "be served again")?;
        let used = self.used().into_iter().zip(before);
        // One that was killed shows nothing any more.
        let used: Duration = used
            .map(|(after, before)| after.saturating_sub(before))
            .sum();
        let times = self.crowd.board().times();
        let (server, keepers) = self.memory();
        let row = vec![
            named,
            seconds(self.opened),
            seconds(times.median()),
            seconds(times.quantile(0.99)),
            seconds(times.quantile(1.0)),
            format!("{:.2}", used.as_secs_f64() * 1e3 / lost as f64),
            (server / 1_000_000).to_string(),
            (keepers / 1_000 / clients as u64).to_string(),
        ];
        options.progress(&format!("reconnect: {}", row.join(" | ")));
        Ok(row)
    }

    /// Processor time that each of the servers that count has used.
    fn used(&self) -> Vec<Duration> {
        let nodes = SERVERS.iter().take(VOTERS);
        nodes
            .map(|name| processor(&self.network, &[name]))
            .collect()
    }

    /// A server vanishes with everything on it.
    fn lose(&mut self, index: usize) {
        let node = SERVERS.get(index).copied().unwrap_or_default();
        self.network.node(node).unplug();
        self.group.kill_host(index);
    }

    /// Bytes of memory of the largest server, and of all keepers; shared pages are divided among who shares them.
    fn memory(&self) -> (u64, u64) {
        let nodes = SERVERS.iter().take(VOTERS);
        let processes = nodes.flat_map(|name| self.network.node(name).processes());
        processes.fold((0, 0), |(server, keepers), process| {
            let bytes = proportional(process).unwrap_or(0);
            if is_keeper(process) {
                (server, keepers + bytes)
            } else {
                (server.max(bytes), keepers)
            }
        })
    }
}

fn is_keeper(process: u32) -> bool {
    let words = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).nth(1) == Some(b"keeper")
}

/// The memory of a process in bytes, shared pages divided (`proc_pid_smaps(5)`: Pss).
fn proportional(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn seconds(span: Duration) -> String {
    format!("{:.2}", span.as_secs_f64())
}

/// Clients in processes of their own.
struct Crowd {
    clients: usize,
    board: Arc<Mutex<Board>>,
    processes: Vec<Child>,
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            // Gone already, or going.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// How it goes for the clients.
struct Board {
    /// By [`micros`].
    since: u64,
    /// When and by which host each client was served; none: it is not.
    served: Vec<Option<(u64, String)>>,
    count: usize,
    failures: Vec<String>,
}

impl Board {
    /// From now on times are measured, of the clients that these hosts have served; how many that are. Where a machine has too much to
    /// do, a host may have been silent for so long that some were given to another one, and these lose nothing.
    fn begin(&mut self, hosts: &[&str]) -> usize {
        self.since = micros();
        let is_lost = |served: &Option<(u64, String)>| {
            let host = served.as_ref().map(|served| served.1.as_str());
            host.is_none_or(|host| hosts.contains(&host))
        };
        let lost = self.served.iter_mut().filter(|served| is_lost(served));
        let lost = lost.map(Option::take).count();
        self.count = self.served.len() - lost;
        lost
    }

    fn take(&mut self, told: Told) {
        match told {
            Told::Served { client, at, host } => {
                // What was on its way when everything began anew says nothing of now.
                let place = self.served.get_mut(client).filter(|_| at > self.since);
                if let Some(place) = place
                    && place.replace((at, host)).is_none()
                {
                    self.count += 1;
                }
            }
            Told::Lost { client } => {
                let place = self.served.get_mut(client);
                if place.and_then(Option::take).is_some() {
                    self.count -= 1;
                }
            }
            Told::GaveUp { client, why } => self.failures.push(format!("client {client}: {why}")),
        }
    }

    fn clients_on(&self, host: &str) -> usize {
        let there = |served: &&(u64, String)| served.1 == host;
        self.served.iter().flatten().filter(there).count()
    }

    fn times(&self) -> Samples {
        let times = self.served.iter().flatten().map(|(at, _)| *at);
        let times = times.filter(|at| *at > self.since);
        Samples::of(times.map(|at| Duration::from_micros(at - self.since)))
    }
}

impl Crowd {
    fn start(group: &Group, network: &Network, clients: usize) -> Result<Self> {
        let board = Arc::new(Mutex::new(Board {
            since: micros(),
            served: vec![None; clients],
            count: 0,
            failures: Vec::new(),
        }));
        let own = std::env::current_exe()?;
        let own = own.to_str().context("a path in UTF-8")?;
        let servers = group.servers().iter();
        let mut plan = Plan {
            servers: servers
                .map(|server| server.client_address().to_string())
                .collect(),
            ca: group.ca().to_owned(),
            app: APP.to_owned(),
            user: USER.to_owned(),
            password: PASSWORD.to_owned(),
            first: 0,
            clients: 0,
        };
        let mut processes = Vec::new();
        while plan.first < clients {
            plan.clients = TOGETHER.min(clients - plan.first);
            let mut child = network
                .node(VIEWER)
                .command(own)
                .arg(WORD)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            let stdin = child.stdin.as_mut().context("its standard input")?;
            writeln!(stdin, "{}", serde_json::to_string(&plan)?)?;
            let lines = BufReader::new(child.stdout.take().context("its standard output")?);
            let board = board.clone();
            std::thread::spawn(move || {
                for line in lines.lines().map_while(Result::ok) {
                    if let Ok(told) = serde_json::from_str(&line) {
                        locked(&board).take(told);
                    }
                }
            });
            processes.push(child);
            plan.first += plan.clients;
        }
        Ok(Self {
            clients,
            board,
            processes,
        })
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        locked(&self.board)
    }

    /// Waits until that many are served; how long it took since the beginning.
    fn wait_for(&self, count: usize, options: &Options, what: &str) -> Result<Duration> {
        let mut told = Instant::now();
        loop {
            let (now, took) = {
                let board = self.board();
                if let Some(first) = board.failures.first() {
                    bail!(
                        "{} clients gave up; the first: {first}",
                        board.failures.len()
                    );
                }
                (board.count, Duration::from_micros(micros() - board.since))
            };
            if now >= count {
                return Ok(took);
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                options.progress(&format!("reconnect: {now} of {count} {what}"));
            }
            if took > LIMIT {
                bail!("{now} of {count} clients {what} within {LIMIT:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn locked(board: &Mutex<Board>) -> MutexGuard<'_, Board> {
    board.lock().unwrap_or_else(PoisonError::into_inner)
}
