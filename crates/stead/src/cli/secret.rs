//! `stead secret`: stored credentials, which applications are given and nobody reads.

use super::Context;
use super::records::Record;
use crate::door::{Door, Method, escape};
use crate::errors::Failure;
use crate::output::Tone;
use crate::password;
use clap::Subcommand;
use data_encoding::BASE64;
use model::SecretName;
use server::api::bodies::{Password, SecretChange, StoredSecret};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Keeps, lists and removes stored credentials
#[derive(Debug, clap::Args)]
#[command(
    arg_required_else_help = true,
    after_help = "A value is kept sealed and shown to nobody, not to administrators either. An application gets it at the start of a session:
{secret:NAME} in its command or environment is the path of a file that only the command can read."
)]
pub(crate) struct Secret {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Get(Get),
    Set(Set),
    List(List),
    Remove(Remove),
}

/// Shows what is known of a secret; never its value
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead secret get mail-password
  stead secret get mail-password --json")]
struct Get {
    /// Which secret.
    name: SecretName,
}

/// Keeps a secret, or changes its value or description
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The value is the whole file as it is, the end of a last line included. Without --file it is asked for; with --description alone
it stays as it is. Sessions that run keep the value that they were started with.

Examples:
  stead secret set mail-password
  stead secret set tls-key --file server.key --description 'of the reporting tool'
  printf %s \"$PASSWORD\" | stead secret set db-password --file -
  stead app set report --launch 'report --password-file {secret:db-password}'"
)]
struct Set {
    /// Its name.
    name: SecretName,
    /// The file that holds the value, 32 KiB at most; `-` reads it from stdin.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it is, one line; empty takes it away.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

/// Lists the secrets, and which of them should be changed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead secret list
  stead secret list --json")]
struct List {}

/// Removes a secret that no application is given
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead secret remove mail-password")]
struct Remove {
    /// Which secret.
    name: SecretName,
}

impl Secret {
    /// Does what the verb says.
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let door = Door::open(context)?;
        match self.verb {
            Verb::Get(Get { name }) => record(&name).show(context, &door, facts).await,
            Verb::Set(verb) => verb.run(context, &door).await,
            Verb::List(List {}) => list(context, &door).await,
            Verb::Remove(Remove { name }) => {
                let words = format!("Secret {name} was removed.");
                record(&name).remove(context, &door, words).await
            }
        }
    }
}

impl Set {
    async fn run(self, context: &Context, door: &Door) -> Result<(), Failure> {
        let value = match (&self.file, &self.description) {
            (Some(file), _) => Some(self.read(file)?),
            (None, Some(_)) => None,
            (None, None) => Some(password::new_value(&format!("secret {}", self.name))?),
        };
        let change = SecretChange {
            value: value.map(|value| Password(BASE64.encode(&value))),
            description: self
                .description
                .map(|text| Some(text).filter(|text| !text.is_empty())),
        };
        let record = record(&self.name);
        let what = record.was_not("kept");
        let kept: StoredSecret = door.send(&what, Method::Put, &record.path, &change).await?;
        let words = match kept.apps.is_empty() {
            true => format!(
                "Secret {} is kept. No application is given it yet.",
                kept.name
            ),
            false => format!(
                "Secret {} is kept. Sessions of {} that start from now on are given it.",
                kept.name,
                kept.apps.join(", ")
            ),
        };
        context.output.done(&kept, words);
        Ok(())
    }

    fn read(&self, file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let what = format!("the value of secret {} was not read", self.name);
        let limit = model::StoredSecret::VALUE_LIMIT;
        password::read_bytes(file, limit).map_err(|why| Failure::failed(what, why))
    }
}

fn facts(secret: &StoredSecret) -> String {
    let mut lines = vec![
        format!("secret       {}", secret.name),
        format!(
            "description  {}",
            secret.description.as_deref().unwrap_or("-")
        ),
        format!("kept since   {}", secret.created),
        format!("value set    {} by {}", secret.set, secret.by),
        format!("given to     {}", given_to(secret)),
    ];
    if let Some(why) = &secret.change_because {
        lines.push(format!("to change    {why}"));
    }
    lines.join("\n")
}

fn given_to(secret: &StoredSecret) -> String {
    match secret.apps.is_empty() {
        true => "-".to_owned(),
        false => secret.apps.join(", "),
    }
}

async fn list(context: &Context, door: &Door) -> Result<(), Failure> {
    let what = "the secrets were not listed";
    let secrets: Vec<StoredSecret> = door.list(what, "/v1/secrets").await?;
    context.output.show(&secrets, |secrets| {
        let head = [
            "SECRET",
            "SET",
            "BY",
            "GIVEN TO",
            "TO CHANGE",
            "DESCRIPTION",
        ];
        let mut table = context.output.table(&head);
        for secret in secrets {
            let because = secret.change_because.clone().unwrap_or_default();
            table.row(vec![
                (secret.name.clone(), Tone::Plain),
                (secret.set.clone(), Tone::Plain),
                (secret.by.clone(), Tone::Plain),
                (given_to(secret), Tone::Plain),
                (because, Tone::Warning),
                (secret.description.clone().unwrap_or_default(), Tone::Plain),
            ]);
        }
        table.text("There is no secret.")
    });
    Ok(())
}

fn record(name: &SecretName) -> Record<'_, SecretName> {
    Record {
        kind: "secret",
        set: "stead secret set",
        name,
        path: format!("/v1/secrets/{}", escape(name.as_str())),
    }
}
