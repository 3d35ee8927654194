//! Changes of one record: read, changed, and put back only if nobody else did meanwhile.
//!
//! Always true: a request that names a version is done at that version or not at all; one that names none is done over
//! again on the newer record, each time under an idempotency key of its own.

use super::caller::Caller;
use super::extract::IfMatch;
use super::problem::Problem;
use crate::node::{Consistency, Node};
use crate::submit::SubmitError;
use model::{Applied, Command, Directory, ProfileChange, Refusal, StoredSecretChange};

/// How often a request without a version is done over again.
const ATTEMPTS: u32 = 16;

/// Changes a record. `make` gives the record's version and the change for it.
///
/// # Errors
/// The record is at another version than was asked for, and whatever stands against the change.
pub(super) async fn edit(
    node: &Node,
    caller: &Caller,
    version: IfMatch,
    make: impl Fn(&Directory) -> Result<(u64, Command), Problem>,
) -> Result<Applied, Problem> {
    let mut refused = None;
    for step in 0..ATTEMPTS {
        let (mut found, mut command) = match make(&node.directory()) {
            Ok(made) => made,
            // What is not here may be acknowledged elsewhere.
            Err(_) => {
                node.catch_up(Consistency::Linearizable).await?;
                make(&node.directory())?
            }
        };
        if version.0.is_some_and(|asked| asked > found) {
            // The caller has seen a newer record than this server has.
            node.catch_up(Consistency::Linearizable).await?;
            (found, command) = make(&node.directory())?;
        }
        version
            .0
            .map_or(Ok(()), |asked| not_from_the_future(asked, found))?;
        let command = at_version(command, version.0.unwrap_or(found));
        match node
            .submit(caller.change_id(step), caller.author.clone(), command)
            .await
        {
            Err(SubmitError::Refused(refusal @ Refusal::Version { .. })) => refused = Some(refusal),
            outcome => return Ok(outcome?),
        }
        if version.0.is_some() {
            break;
        }
    }
    Err(refused.map_or_else(
        || Problem::changed_meanwhile("others change the record all the time"),
        Problem::from,
    ))
}

fn not_from_the_future(asked: u64, found: u64) -> Result<(), Problem> {
    if asked > found {
        return Err(Problem::changed_meanwhile(format!(
            "the record is at version {found}, and If-Match asks for {asked}"
        )));
    }
    Ok(())
}

fn at_version(command: Command, version: u64) -> Command {
    match command {
        Command::PutUser { user, .. } => Command::PutUser {
            user,
            expect: Some(version),
        },
        Command::PutApp { app, .. } => Command::PutApp {
            app,
            expect: Some(version),
        },
        Command::PutGateway { gateway, .. } => Command::PutGateway {
            gateway,
            expect: Some(version),
        },
        Command::ChangeStoredSecret {
            change: StoredSecretChange::Put { secret, .. },
        } => Command::ChangeStoredSecret {
            change: StoredSecretChange::Put {
                secret,
                expect: Some(version),
            },
        },
        Command::ChangeProfile { change } => Command::ChangeProfile {
            change: match change {
                ProfileChange::Put { profile, .. } => ProfileChange::Put {
                    profile,
                    expect: Some(version),
                },
                ProfileChange::Prefer { preferences, .. } => ProfileChange::Prefer {
                    preferences,
                    expect: Some(version),
                },
                other => other,
            },
        },
        Command::PutToken { token, .. } => Command::PutToken {
            token,
            expect: Some(version),
        },
        other => other,
    }
}
