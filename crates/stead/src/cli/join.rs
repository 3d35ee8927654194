//! `stead join`: this machine becomes a member of a group.

use super::Context;
use super::init::Own;
use crate::errors::{Failure, chain};
use peer::join::JoinError;
use wire::join::JoinCode;

/// Joins the group that the join code is of
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stead group invite                                        on a member: prints CODE
  stead join CODE --name chicago --peer 10.0.0.2:5427 --client 10.0.0.2:5443
  stead serve")]
pub(crate) struct Join {
    /// What `stead group invite` printed.
    #[arg(value_name = "CODE")]
    code: JoinCode,
    #[command(flatten)]
    own: Own,
}

impl Join {
    /// Joins.
    pub(crate) fn run(self, context: &Context) -> Result<(), Failure> {
        let what = "this server did not join";
        let settled = self.own.settle(context, what)?;
        let options = server::JoinOptions {
            data: settled.data.clone(),
            code: self.code,
            name: settled.name.clone(),
            peer: settled.peer,
            client: settled.client,
            listen: settled.listen,
        };
        let waiting = context
            .output
            .progress("joining: the members and this server try to reach each other");
        let done = super::wait_for(async {
            server::join(options)
                .await
                .map_err(|error| failure(what, &error))
        })?;
        drop(waiting);
        let standing =
            serde_json::to_value(done.standing).map_err(|error| Failure::failed(what, error))?;
        let json = serde_json::json!({
            "group": done.group_name, "server": settled.name, "server_id": done.server, "standing": standing,
            "members": done.members, "data": settled.data, "peer_address": done.peer_address, "client_address": done.client_address,
        });
        let data = settled.data.display();
        let standing = standing.as_str().unwrap_or_default();
        context.output.done(
            &json,
            format!(
                "{} is a member of group {} (as {standing}), with {}.\n\nNext: stead serve --data {data}",
                settled.name,
                done.group_name,
                done.members.join(", ")
            ),
        );
        Ok(())
    }
}

fn failure(what: &str, error: &server::JoiningError) -> Failure {
    let why = chain(error);
    match error {
        server::JoiningError::Join(JoinError::Refused(_)) => Failure::refused(what, why),
        server::JoiningError::Folder(server::InitError::Identity(_)) => Failure::refused(what, why),
        server::JoiningError::Join(JoinError::Unreachable(_)) => Failure::later(what, why)
            .remedy("check that a member runs and that its peer port is open from here"),
        _ => Failure::failed(what, why),
    }
}
