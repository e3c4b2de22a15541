//! The admin's tool: writes the first configuration, orders the running daemons about, and shows the whole system at work.
//!
//! Runs as: whoever calls it; only root and the user of the system may open the operators' sockets.
//! Owns: nothing that lasts but the configuration it writes once.
//! Trusts: its caller and the configuration.
//! Never: opens the store, the accounts, the queue or a key. It asks deliverd, relayd and keyd, which own them, and smtpd.

pub mod certificate;
pub mod cli;
pub mod cmd;
pub mod demo;
pub mod error;
pub mod init;
pub mod operator;
pub mod plan;
pub mod program;
pub mod secret;
pub mod supervisor;

use cli::{Cli, Command, ConfigCommand};
pub use error::Error;

/// Does what the command line says.
///
/// # Errors
/// [`Error`], in words for the admin.
pub fn run(cli: Cli) -> Result<(), Error> {
    match cli.command {
        Command::Config(ConfigCommand::Plan { file, separate }) => plan::print(&file, separate),
        Command::Config(ConfigCommand::Check { file }) => {
            plan::check(file.as_deref().unwrap_or(&cli.config))
        }
        Command::Init(options) => in_runtime(init::run(&cli.config, options)),
        Command::Demo(options) => in_runtime(demo::run(options)),
        Command::Domain(command) => in_runtime(cmd::domain::run(&cli.config, command)),
        Command::Tenant(command) => in_runtime(cmd::tenant::run(&cli.config, command)),
        Command::User(command) => in_runtime(cmd::user::run(&cli.config, command)),
        Command::Alias(command) => in_runtime(cmd::alias::run(&cli.config, command)),
        Command::Ban(command) => in_runtime(cmd::ban::run(&cli.config, command)),
        Command::Dkim(command) => in_runtime(cmd::dkim::run(&cli.config, command)),
        Command::Queue(command) => in_runtime(cmd::queue::run(&cli.config, command)),
        Command::Relay(command) => in_runtime(cmd::relay::run(&cli.config, command)),
        Command::Reports(command) => in_runtime(cmd::reports::run(&cli.config, command)),
        Command::Explain(options) => in_runtime(cmd::explain::run(&cli.config, options)),
        Command::Store(command) => in_runtime(cmd::store::run(&cli.config, command)),
        Command::Audit { json } => in_runtime(cmd::audit::run(&cli.config, json)),
        Command::Status { json } => in_runtime(cmd::status::run(&cli.config, json)),
    }
}

fn in_runtime(work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(work)
}
