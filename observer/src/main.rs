//! The `observer` command.

use std::process::ExitCode;

use clap::Parser;
use observer::{
    cli::{self, Cli},
    hint,
};

fn main() -> ExitCode {
    match cli::run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", hint::explain(&error));
            ExitCode::FAILURE
        }
    }
}
