//! The processes of a session, and how they are ended: asked first, killed 2 s later.
//!
//! They are known by the control group that they were started in and by their process session; who leaves the second is still in the
//! first.
//!
//! Always true: a signal goes only to processes of this session, and never to the keeper.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

use crate::scope::Group;

/// How long processes have to end after they were asked.
const GRACE: Duration = Duration::from_secs(2);
/// How long killed processes are waited for.
const REAPING: Duration = Duration::from_secs(3);

/// What is known of a session's processes.
#[derive(Debug)]
pub(crate) struct Processes {
    /// The command, leader of its process session.
    pub(crate) leader: Pid,
    /// The control group that it was started in.
    pub(crate) group: Option<Group>,
}

impl Processes {
    /// Asks all of them to end, then kills those that are left. Returns when none is left, or after 5 s at the most.
    pub(crate) async fn end(&self) {
        for signal in [Signal::HUP, Signal::TERM, Signal::CONT] {
            self.signal(signal);
        }
        if self.gone(GRACE).await {
            return;
        }
        if !self.group.as_ref().is_some_and(Group::kill) {
            self.signal(Signal::KILL);
        }
        let until = Instant::now() + REAPING;
        // Processes may have been made while the list was read.
        while !self.gone(Duration::from_millis(50)).await && Instant::now() < until {
            self.signal(Signal::KILL);
        }
    }

    fn signal(&self, signal: Signal) {
        for pid in self.members() {
            // It may have ended meanwhile.
            let _ = kill_process(pid, signal);
        }
    }

    async fn gone(&self, within: Duration) -> bool {
        let until = Instant::now() + within;
        loop {
            if self.members().is_empty() {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// The processes that live, without the keeper.
    fn members(&self) -> Vec<Pid> {
        let own = rustix::process::getpid();
        let grouped = self.group.as_ref().map(Group::members).unwrap_or_default();
        let mut members: Vec<Pid> = grouped.into_iter().filter_map(Pid::from_raw).collect();
        members.extend(of_session(self.leader));
        members.retain(|pid| *pid != own);
        members.sort_unstable_by_key(|pid| pid.as_raw_nonzero());
        members.dedup();
        members
    }
}

/// Living processes whose process session `leader` leads.
fn of_session(leader: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        session_in(&stat) == Some(leader.as_raw_nonzero().get())
    })
    .filter_map(Pid::from_raw)
    .collect()
}

/// The process session in a line of `/proc/PID/stat` (proc(5)), unless the process has ended. Its name, in brackets, may contain anything.
fn session_in(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Parent, process group, session.
    fields.nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;
    use std::time::Instant;

    use super::{Duration, Pid, of_session, session_in};

    #[test]
    fn the_session_is_read_whatever_the_name() {
        assert_eq!(session_in("42 (a) b) c) S 1 41 40 0 -1 4194560"), Some(40));
        assert_eq!(session_in("42 (sh) Z 1 41 40 0"), None);
        assert_eq!(session_in("42 (sh) S 1"), None);
        assert_eq!(session_in(""), None);
    }

    #[test]
    fn the_processes_of_a_session_are_found_while_they_live() {
        // Not this process: its session's leader may be outside of its namespace of process ids.
        let mut child = Command::new("setsid")
            .args(["sleep", "600"])
            .spawn()
            .unwrap();
        let leader = Pid::from_child(&child);
        let patience = Instant::now() + Duration::from_secs(20);
        while !of_session(leader).contains(&leader) {
            assert!(
                Instant::now() < patience && child.try_wait().unwrap().is_none(),
                "its session was not found"
            );
            thread::sleep(Duration::from_millis(5)); // tidy: polls: another process makes the session
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!of_session(leader).contains(&leader));
    }
}
