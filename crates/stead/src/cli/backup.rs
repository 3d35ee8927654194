//! `stead backup` and `stead restore`: everything that people made, in a file, and a new group of one made of it.
//!
//! Always true: a backup has its name only once it is whole and on disk; a restore writes into no server's data folder.

use super::Context;
use super::init::Own;
use crate::door::Door;
use crate::errors::{Failure, chain};
use crate::password;
use model::GroupName;
use server::backup::restoring::{RestoreError, RestoreOptions, restore};
use server::backup::{Header, inspect};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use wire::client::Hidden;

/// Writes everything that people made into a file, sealed with a passphrase
#[derive(Debug, clap::Args)]
#[command(
    after_help = "In it are settings, accounts, applications, tokens, gateways, profiles, stored secrets, operators' certificates with \
their keys, journal and audit log, as they are at one moment.
Sessions, servers and the group's own keys are not. Without the passphrase nobody reads the file, and nobody restores it.

Examples:
  stead backup acme-2026-11-23.stead
  stead backup /backup/acme.stead --passphrase-file FILE --json"
)]
pub(crate) struct Backup {
    /// Where to write it; what is there is replaced once the backup is whole.
    file: PathBuf,
    /// The file that holds the passphrase on its first line; `-` reads it from stdin. Without it the passphrase is asked for.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Backup {
    /// Writes it.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let what = "the backup was not made";
        let door = Door::open(context)?;
        let passphrase = new_passphrase(self.passphrase_file.as_deref())?;
        let waiting = context.output.progress("writing the backup");
        let temporary = beside(&self.file);
        let made = fetch(&door, what, passphrase, &temporary).await;
        let (header, bytes) = match made {
            Ok(made) => made,
            Err(failure) => {
                // It may never have been there.
                let _ = std::fs::remove_file(&temporary);
                return Err(failure);
            }
        };
        put_in_place(&temporary, &self.file)
            .map_err(|error| Failure::failed(what, format!("{}: {error}", self.file.display())))?;
        drop(waiting);
        let json = serde_json::json!({
            "file": self.file, "bytes": bytes, "group": header.group, "group_id": header.group_id, "made": header.made,
        });
        let words = format!(
            "Group {} is kept in {} ({bytes} bytes), as it was at {}.",
            header.group,
            self.file.display(),
            header.made
        );
        context.output.done(&json, words);
        Ok(())
    }
}

/// Takes the backup into a file, and sees that it is there to its end.
async fn fetch(
    door: &Door,
    what: &str,
    passphrase: Hidden,
    path: &Path,
) -> Result<(Header, u64), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(what, format!("{}: {error}", path.display()))
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(&error))?;
    let body = serde_json::json!({ "passphrase": passphrase.0 });
    let mut download = door.download(what, "/v1/backup", body).await?;
    let mut bytes = 0u64;
    while let Some(piece) = download.next().await.map_err(|error| {
        Failure::later(what, chain(&error)).remedy("nothing was kept: try again")
    })? {
        file.write_all(&piece).map_err(|error| failed(&error))?;
        bytes += piece.len() as u64;
    }
    file.sync_all().map_err(|error| failed(&error))?;
    let written = File::open(path).map_err(|error| failed(&error))?;
    let header = inspect(BufReader::new(written)).map_err(|error| {
        Failure::later(what, chain(&error))
            .remedy("the server did not finish it, its log says why: try again")
    })?;
    Ok((header, bytes))
}

/// Beside the file, so that renaming it is one step.
fn beside(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    file.with_file_name(name)
}

fn put_in_place(temporary: &Path, file: &Path) -> std::io::Result<()> {
    std::fs::rename(temporary, file)?;
    let folder = file
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a new group of one out of a backup
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The group is another one than the backup is of: it has an id, an authority and keys of its own, and this server is its only one. Clients
and servers of the old group do not take it for theirs; give clients the new fingerprint. Accounts log in with the passwords that
they had. The data folder must be no server's.

Examples:
  stead restore acme.stead --data /var/lib/stead --name boston --peer 10.0.0.1:5427 --client 10.0.0.1:5443
  stead restore acme.stead --name boston --peer boston.example.net --passphrase-file FILE --json

Then: stead serve."
)]
pub(crate) struct Restore {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    own: Own,
    /// The new group's name; that of the group in the backup when absent.
    #[arg(long, env = "STEAD_GROUP", value_name = "GROUP")]
    group: Option<GroupName>,
    /// The file that holds the passphrase on its first line; `-` reads it from stdin. Without it the passphrase is asked for.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Restore {
    /// Makes the group.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let what = "nothing was restored";
        let settled = self.own.settle(context, what)?;
        let passphrase = match &self.passphrase_file {
            Some(file) => password::read_file(file, "the backup")?,
            None => password::typed("the backup", "Passphrase of the backup: ")?,
        };
        let options = RestoreOptions {
            file: self.file,
            passphrase,
            data: settled.data.clone(),
            name: settled.name.clone(),
            group: self.group,
            peer: settled.peer,
            client: settled.client,
            listen: settled.listen,
        };
        let waiting = context.output.progress("making the group");
        let done = restore(options).map_err(|error| refused(what, &error))?;
        drop(waiting);
        let json = serde_json::json!({
            "group": done.group_name, "group_id": done.group, "server": settled.name, "server_id": done.server,
            "data": settled.data, "ca_fingerprint": done.ca_fingerprint, "peer_address": done.peer_address,
            "client_address": done.client_address, "backup_of": done.from.group, "backup_of_id": done.from.group_id,
            "backup_made": done.from.made, "users": done.users, "apps": done.apps, "lost_secrets": done.lost_secrets,
        });
        let data = settled.data.display();
        let mut words = format!(
            "Group {} was made of a backup of {} from {}: {} accounts, {} applications. {} is its only server.\n\nauthority  {}\ndata       {data}\n\nNext: stead serve --data {data}",
            done.group_name,
            done.from.group,
            done.from.made,
            done.users,
            done.apps,
            settled.name,
            done.ca_fingerprint
        );
        if !done.lost_secrets.is_empty() {
            words.push_str("\n\nTo be set again: ");
            words.push_str(&done.lost_secrets.join(", "));
        }
        context.output.done(&json, words);
        Ok(())
    }
}

fn refused(what: &str, error: &RestoreError) -> Failure {
    match error {
        RestoreError::Init(server::InitError::Identity(_)) => Failure::refused(what, chain(error)),
        _ => Failure::failed(what, chain(error)),
    }
}

fn new_passphrase(file: Option<&Path>) -> Result<Hidden, Failure> {
    let Some(file) = file else {
        let first = password::typed("the backup", "Passphrase for the backup: ")?;
        let second = password::typed("the backup", "The same again: ")?;
        return match first == second {
            true => Ok(first),
            false => Err(Failure::failed(
                "the passphrase was not read",
                "the two are not the same",
            )),
        };
    };
    password::read_file(file, "the backup")
}
