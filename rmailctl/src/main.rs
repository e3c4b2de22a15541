//! `rmailctl`: the admin's tool.

use std::process::ExitCode;

use clap::Parser;
use rmailctl::cli::Cli;

fn main() -> ExitCode {
    // rustls wants one provider for the process; a second installation cannot happen here.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = Cli::parse();
    match rmailctl::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rmailctl: {error}");
            error.exit_code()
        }
    }
}
