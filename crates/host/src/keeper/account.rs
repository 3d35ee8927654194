//! The operating-system account that a session's command runs as: found, checked, and put on between fork and exec.
//!
//! Everything that has to be looked up is looked up in the keeper ([`find`]); what the new process does ([`Account::put_on`]) is system
//! calls only. The keeper itself stays what it is.
//!
//! Always true: an account that follows from the session's user is never root's nor one of the system's own; whoever puts an account on
//! keeps no group, user id or way back of the keeper's; the session's folder stays the keeper's, because what lies there is believed.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use model::RunAs;
use nix::unistd::{Group, User, getgrouplist};
use rustix::fs::Mode;
use rustix::process::{Gid, Uid};
use wire::keeper::Spec;

/// Where a system says which accounts are people's.
const LOGIN_DEFS: &str = "/etc/login.defs";
/// The least user id of a person's account where the system does not say.
const UID_MIN: u32 = 1_000;
/// The group of terminals, whose programs may write to them.
const TERMINALS: &str = "tty";
/// What an account without a shell is given as one.
const SHELL: &str = "/bin/sh";

/// An account that a command can run as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
    home: PathBuf,
    shell: PathBuf,
    /// It is the keeper's own: nothing has to be put on.
    pub(crate) is_own: bool,
}

/// Why a command cannot run as an account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// There is none of that name.
    #[error("there is no account {account:?} on server {server}")]
    Unknown {
        /// Its name.
        account: String,
        /// Where it was looked for.
        server: String,
    },
    /// The system could not say.
    #[error(
        "whether there is an account {account:?} on server {server} could not be found out: {source}"
    )]
    Lookup {
        /// Its name.
        account: String,
        /// Where it was looked for.
        server: String,
        /// What the lookup met.
        source: io::Error,
    },
    /// The session's user is named like an account that is not a person's.
    #[error(
        "account {account:?} of server {server} has user id {uid}: the account of a session's user must have one of {least} or more (UID_MIN in {LOGIN_DEFS})"
    )]
    NotAPersons {
        /// Its name.
        account: String,
        /// Where.
        server: String,
        /// Its user id.
        uid: u32,
        /// The least that it may be.
        least: u32,
    },
    /// Only root can become somebody else.
    #[error(
        "sessions on server {server} run with user id {own}, which cannot become account {account:?}: only a server that runs as root can"
    )]
    NotRoot {
        /// The account that was to be put on.
        account: String,
        /// Where.
        server: String,
        /// The keeper's own user id.
        own: u32,
    },
}

/// Finds the account that an application's command is to run as; none: it says nothing of one.
pub(crate) fn find(spec: &Spec) -> Result<Option<Account>, AccountError> {
    let Some(run_as) = &spec.app.run_as else {
        return Ok(None);
    };
    let account = match run_as {
        RunAs::User => spec.user.to_string(),
        RunAs::Account(name) => name.clone(),
    };
    let server = spec.server.clone();
    let lookup = |source: nix::Error| AccountError::Lookup {
        account: account.clone(),
        server: server.clone(),
        source: source.into(),
    };
    let Some(user) = User::from_name(&account).map_err(lookup)? else {
        return Err(AccountError::Unknown { account, server });
    };
    let (uid, own) = (user.uid.as_raw(), rustix::process::geteuid().as_raw());
    let least = least_of_people(&fs::read_to_string(LOGIN_DEFS).unwrap_or_default());
    let is_own = match judge(run_as, uid, own, least) {
        Verdict::Own => true,
        Verdict::Another => false,
        Verdict::NotAPersons => {
            return Err(AccountError::NotAPersons {
                account,
                server,
                uid,
                least,
            });
        }
        Verdict::NotRoot => {
            return Err(AccountError::NotRoot {
                account,
                server,
                own,
            });
        }
    };
    let name = CString::new(account.as_str()).map_err(|_| lookup(nix::Error::EINVAL))?;
    let groups = getgrouplist(&name, user.gid).map_err(lookup)?;
    Ok(Some(Account {
        name: user.name,
        uid: Uid::from_raw(uid),
        gid: Gid::from_raw(user.gid.as_raw()),
        groups: groups
            .into_iter()
            .map(|group| Gid::from_raw(group.as_raw()))
            .collect(),
        home: user.dir,
        shell: match user.shell.as_os_str().is_empty() {
            true => SHELL.into(),
            false => user.shell,
        },
        is_own,
    }))
}

/// Why a session of this user has no account to run as on this server, where its application runs commands as who uses it: another
/// user's session may have one. None: it has, or nothing of the kind is the trouble. Asks the system's name services, and may wait for
/// them.
pub fn lacks_account(spec: &Spec) -> Option<String> {
    if spec.app.run_as != Some(RunAs::User) {
        return None;
    }
    match find(spec) {
        Err(lacks @ (AccountError::Unknown { .. } | AccountError::NotAPersons { .. })) => {
            Some(lacks.to_string())
        }
        _ => None,
    }
}

/// What is to be said of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It is the keeper's own.
    Own,
    /// It can be put on.
    Another,
    /// It is the system's, and follows from the session's user.
    NotAPersons,
    /// The keeper cannot become somebody else.
    NotRoot,
}

/// Whether a keeper of user id `own` may run a command as `uid`, where people's accounts begin at `least`.
fn judge(run_as: &RunAs, uid: u32, own: u32, least: u32) -> Verdict {
    // Root is not a session's user, whatever the system says of people.
    let is_a_persons = uid != 0 && uid >= least;
    match run_as {
        RunAs::User if !is_a_persons => Verdict::NotAPersons,
        _ if uid == own => Verdict::Own,
        _ if own != 0 => Verdict::NotRoot,
        _ => Verdict::Another,
    }
}

/// The least user id of people's accounts, as `login.defs` has it: decimal, or as in C.
fn least_of_people(defs: &str) -> u32 {
    let number = |text: &str| match (text.strip_prefix("0x"), text.strip_prefix('0')) {
        (Some(digits), _) => u32::from_str_radix(digits, 16).ok(),
        (None, Some(digits)) if !digits.is_empty() => u32::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    };
    let mut lines = defs.lines().map(str::split_whitespace);
    let said = lines.find_map(|mut words| (words.next() == Some("UID_MIN")).then(|| words.next()));
    said.flatten().and_then(number).unwrap_or(UID_MIN)
}

impl Account {
    /// Its user id.
    pub(crate) fn uid(&self) -> u32 {
        self.uid.as_raw()
    }

    /// What its programs expect to find in their environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("HOME", text(&self.home)),
            ("LOGNAME", self.name.clone()),
            ("SHELL", text(&self.shell)),
            ("USER", self.name.clone()),
        ]
    }

    /// Gives it a folder that nobody else is to enter.
    pub(crate) fn own_folder(&self, folder: &Path) -> io::Result<()> {
        Ok(rustix::fs::chown(folder, Some(self.uid), Some(self.gid))?)
    }

    /// Lets it, and nobody else, open what is in memory.
    pub(crate) fn own_file(&self, file: impl AsFd) -> io::Result<()> {
        Ok(rustix::fs::fchown(file, Some(self.uid), Some(self.gid))?)
    }

    /// Gives it a terminal, as a login does: its own, and writable for the group of terminals.
    pub(crate) fn own_terminal(&self, terminal: impl AsFd) -> io::Result<()> {
        let group = Group::from_name(TERMINALS).ok().flatten();
        let group = group.map(|group| Gid::from_raw(group.gid.as_raw()));
        rustix::fs::fchown(&terminal, Some(self.uid), group)?;
        Ok(rustix::fs::fchmod(&terminal, Mode::from_raw_mode(0o620))?)
    }

    /// Makes the calling process one of this account, for good. Called between fork and exec: system calls only.
    pub(crate) fn put_on(&self) -> rustix::io::Result<()> {
        if self.is_own {
            return Ok(());
        }
        // Groups first: afterwards nobody is left who may change them. All three ids each, so that there is no way back.
        rustix::thread::set_thread_groups(&self.groups)?;
        rustix::thread::set_thread_res_gid(self.gid, self.gid, self.gid)?;
        rustix::thread::set_thread_res_uid(self.uid, self.uid, self.uid)
    }

    /// Lets it open again the pipes that it prints to, by name. Called between fork and exec, before [`Account::put_on`].
    pub(crate) fn own_output(&self) {
        for pipe in [rustix::stdio::stdout(), rustix::stdio::stderr()] {
            // It can write to them in any case.
            let _ = rustix::fs::fchown(pipe, Some(self.uid), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_people_is_as_the_system_says() {
        for (defs, least) in [
            ("", 1000),
            ("UID_MIN\t\t\t 500\nUID_MAX 60000\n", 500),
            (
                "# UID_MIN 7\nSYS_UID_MIN 100\nUID_MIN 2000 # people\n",
                2000,
            ),
            ("UID_MIN 0x10", 16),
            ("UID_MIN 010", 8),
            ("UID_MIN 0", 0),
            ("UID_MIN many", 1000),
            ("UID_MIN", 1000),
        ] {
            assert_eq!(least_of_people(defs), least, "{defs:?}");
        }
    }

    #[test]
    fn who_may_become_whom() {
        let by_name = RunAs::Account("x".to_owned());
        for (run_as, uid, own, least, verdict) in [
            (&RunAs::User, 1000, 0, 1000, Verdict::Another),
            (&RunAs::User, 1, 0, 0, Verdict::Another),
            (&RunAs::User, 999, 0, 1000, Verdict::NotAPersons),
            (&RunAs::User, 0, 0, 1000, Verdict::NotAPersons),
            (&RunAs::User, 0, 0, 0, Verdict::NotAPersons),
            (&RunAs::User, 999, 999, 1000, Verdict::NotAPersons),
            (&RunAs::User, 1000, 1000, 1000, Verdict::Own),
            (&RunAs::User, 1001, 1000, 1000, Verdict::NotRoot),
            (&by_name, 5, 0, 1000, Verdict::Another),
            (&by_name, 0, 0, 1000, Verdict::Own),
            (&by_name, 5, 5, 1000, Verdict::Own),
            (&by_name, 5, 6, 1000, Verdict::NotRoot),
            (&by_name, 0, 6, 1000, Verdict::NotRoot),
        ] {
            let found = judge(run_as, uid, own, least);
            assert_eq!(found, verdict, "{run_as} is {uid}, the keeper {own}");
        }
    }
}
