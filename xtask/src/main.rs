//! `cargo xtask`: development tasks around observer. Each command has its module; this file only lists them.

mod bench;
mod build;
mod demo;
mod fixtures;
mod guest;
mod guest_tests;
mod hang;
mod host;
mod kernels;
mod matrix;
mod pictures;
mod pool;
mod say;
mod setup;
mod tally;
mod test;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    command: Xtask,
}

#[derive(Subcommand)]
enum Xtask {
    /// Sets everything up, boots a stock kernel and shows observer at work
    Demo,
    /// Runs the tests: quick ones, then those in guests
    Test(test::Test),
    /// Runs every scenario on every kernel and holds observer's counts against a witness's
    Matrix(matrix::Matrix),
    /// Measures how fast observer is
    Bench(bench::Bench),
    /// Gets the BPF toolchain, QEMU and the kernels into the cache; a second call does nothing
    Setup,
    /// Builds the eBPF programs and a static observer that holds them
    Build,
    /// Boots a stock kernel and runs a command or a shell in it
    Vm(vm::Vm),
    /// Makes the recordings in fixtures/ and their expected findings anew
    Fixtures(fixtures::Fixtures),
    /// Makes the pictures in docs/pictures/ anew
    Pictures,
}

fn main() -> ExitCode {
    let done = |()| 0;
    let status: Result<i32> = match Cli::parse().command {
        Xtask::Demo => demo::run(),
        Xtask::Test(test) => test.run().map(done),
        Xtask::Matrix(matrix) => matrix.run().map(done),
        Xtask::Bench(bench) => bench.run().map(done),
        Xtask::Setup => setup::all().map(done),
        Xtask::Build => build::all().map(done),
        Xtask::Vm(vm) => vm.run(),
        Xtask::Fixtures(fixtures) => fixtures.run().map(done),
        Xtask::Pictures => pictures::run().map(done),
    };
    match status {
        Ok(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
