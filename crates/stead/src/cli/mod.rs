//! The command line: noun, then verb. Raw arguments become valid values here, once.
//!
//! Always true: each noun has a file of its own; a command that prints takes `--json`; the forms in the contract for
//! scripts stay as they are. Start at [`Command`].

mod app;
mod ask_pam;
mod audit;
mod backup;
mod completions;
mod config;
mod connect;
mod event;
mod explain;
mod gateway;
mod global;
mod group;
mod init;
mod join;
mod keeper;
mod listening;
mod login;
mod profile;
mod records;
mod secret;
mod select;
mod server;
mod session;
mod status;
mod token;
mod trust;
mod user;
mod values;

pub(crate) use global::{Context, Place};

use crate::errors::Failure;
use crate::output::printable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

const LONG_ABOUT: &str = "Stead keeps session services standing when servers fall.\n\n\
    It turns two or more servers into a group with one replicated directory: one of them is primary, the others can \
    take its place, and clients are carried to the server that holds their session, or to a new one when that server \
    is gone. This one program is the server, the command line of administrators, and the client.";

const EXAMPLES: &str = "Examples:
  stead demo                                          see it work, on this machine alone
  stead init --name boston --group acme               found a group
  stead group invite                                  print a join code for another server
  stead join CODE --name chicago                      there: join
  stead status                                        who is primary, what the group can lose

Exit codes: 0 done, 1 failed, 2 usage, 3 not reachable or no primary (may work later), 4 refused.";

/// Everything that can be asked for.
#[derive(Debug, Parser)]
#[command(
    name = "stead",
    version,
    about = "Keeps session services standing when servers fall",
    long_about = LONG_ABOUT,
    after_help = EXAMPLES,
    max_term_width = 110,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND",
    subcommand_help_heading = "Commands"
)]
struct Arguments {
    #[command(flatten)]
    global: global::Global,
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    Demo(crate::demo::Demo),
    Status(status::Status),
    Explain(explain::Explain),
    Init(init::Init),
    Serve(init::Serve),
    Join(join::Join),
    Group(group::Group),
    Server(server::Server),
    Config(config::Config),
    User(user::User),
    Token(token::Token),
    App(app::App),
    Gateway(gateway::Gateway),
    Profile(profile::Profile),
    Preference(profile::Preference),
    Secret(secret::Secret),
    Session(session::Session),
    Select(select::Select),
    Connect(connect::Connect),
    Event(event::Event),
    Audit(audit::Audit),
    Trust(trust::Trust),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Login(login::Login),
    Logout(login::Logout),
    Keeper(keeper::Keeper),
    AskPam(ask_pam::AskPam),
    Completions(completions::Completions),
}

/// Understands the arguments and does what they say.
///
/// # Errors
/// What was not done, why, and what would help.
pub(crate) fn run(arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    if arguments.get(1).is_some_and(|first| first == "keeper") {
        // A keeper lives as long as its session and there are many: it starts without the rest of the command line.
        return keeper::run_alone(&arguments).map(|()| ExitCode::SUCCESS);
    }
    let matches = Arguments::command().get_matches_from(arguments);
    let parsed = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let context = Context::new(parsed.global, &matches)?;
    execute(parsed.command, &context)
}

fn execute(command: Command, context: &Context) -> Result<ExitCode, Failure> {
    let done = match command {
        Command::Connect(command) => return wait_for(command.run(context)),
        Command::Demo(command) => return command.run(context),
        Command::Status(command) => wait_for(command.run(context)),
        Command::Explain(command) => wait_for(command.run(context)),
        Command::Init(command) => command.run(context),
        Command::Serve(command) => command.run(context),
        Command::Join(command) => command.run(context),
        Command::Group(command) => wait_for(command.run(context)),
        Command::Server(command) => wait_for(command.run(context)),
        Command::Config(command) => wait_for(command.run(context)),
        Command::User(command) => wait_for(command.run(context)),
        Command::Token(command) => wait_for(command.run(context)),
        Command::Gateway(command) => wait_for(command.run(context)),
        Command::Profile(command) => wait_for(command.run(context)),
        Command::Preference(command) => wait_for(command.run(context)),
        Command::Secret(command) => wait_for(command.run(context)),
        Command::App(command) => wait_for(command.run(context)),
        Command::Session(command) => wait_for(command.run(context)),
        Command::Select(command) => wait_for(command.run(context)),
        Command::Event(command) => wait_for(command.run(context)),
        Command::Audit(command) => wait_for(command.run(context)),
        Command::Backup(command) => wait_for(command.run(context)),
        Command::Restore(command) => command.run(context),
        Command::Trust(command) => wait_for(command.run(context)),
        Command::Login(command) => wait_for(command.run(context)),
        Command::Logout(command) => command.run(context),
        Command::Keeper(command) => command.run(),
        Command::AskPam(command) => command.run(),
        Command::Completions(command) => command.run::<Arguments>(),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Runs a command that waits for others, on this thread alone.
fn wait_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::failed("the command was not started", error))?;
    let done = runtime.block_on(work);
    // A read of stdin that waits for somebody to type cannot be called off: the program does not wait for it.
    runtime.shutdown_background();
    done
}

/// Names and values below each other, for people.
fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        format!("{name:width$}  {}", printable(value))
            .trim_end()
            .to_owned()
    };
    facts.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_and_option_has_help() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no help");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path}: {} has no help",
                    argument.get_id()
                );
            }
            if !command.has_subcommands() && !command.is_hide_set() {
                let examples = command
                    .get_after_help()
                    .map(ToString::to_string)
                    .unwrap_or_default();
                assert!(examples.contains("stead "), "{path} has no examples");
            }
            for verb in command.get_subcommands() {
                check(verb, &path);
            }
        }
        check(&Arguments::command(), "");
    }

    #[test]
    fn no_argument_has_the_name_of_one_that_every_command_takes() {
        fn check(command: &clap::Command, globals: &[clap::Id], path: &str) {
            for argument in command
                .get_arguments()
                .filter(|argument| !argument.is_global_set())
            {
                assert!(
                    !globals.contains(argument.get_id()),
                    "{path}: {} hides the option for all",
                    argument.get_id()
                );
            }
            for verb in command.get_subcommands() {
                check(verb, globals, &format!("{path} {}", verb.get_name()));
            }
        }
        let whole = Arguments::command();
        let globals: Vec<clap::Id> = whole
            .get_arguments()
            .filter(|argument| argument.is_global_set())
            .map(|argument| argument.get_id().clone())
            .collect();
        assert!(globals.len() >= 4);
        check(&whole, &globals, "stead");
    }
}
