//! `cargo xtask vm`: a guest for interactive use. On a terminal, the guest gets it; otherwise only the command's output
//! appears on standard output.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{
    build,
    guest::{Guest, terminal},
    kernels, setup,
};

#[derive(Args)]
pub struct Vm {
    /// The kernel: a row of xtask/kernels.toml, or a version of Debian's kernel packages or the beginning of one
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// The flavour, unless the kernel's name has one: cloud-amd64, amd64 or rt-amd64
    #[arg(long)]
    flavour: Option<String>,
    /// Puts a file into the guest; may be given more than once
    #[arg(long = "file", value_name = "HOST:GUEST")]
    files: Vec<String>,
    /// Where files that the guest writes below /out arrive on this machine
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Ends the guest after this time; without a terminal 600 s unless said otherwise
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Leaves the terminal alone, and shows the command's output only
    #[arg(long)]
    no_terminal: bool,
    /// Boots without building observer and putting it into the guest
    #[arg(long)]
    bare: bool,
    /// Memory in MiB, in two equal NUMA nodes
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Virtual CPUs, shared out between the two nodes
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=64))]
    cpus: Option<u32>,
    /// Arguments for the kernel, such as `hugepagesz=1G hugepages=2`
    #[arg(long, value_name = "ARGUMENTS", allow_hyphen_values = true)]
    append: Option<String>,
    /// The command; a shell if there is a terminal and no command
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

impl Vm {
    /// Runs the guest and returns the exit status.
    pub fn run(self) -> Result<i32> {
        let interactive = terminal::is_there() && !self.no_terminal;
        if self.command.is_empty() && !interactive {
            bail!("no command for the guest, and no terminal for a shell\ntry: cargo xtask vm -- uname -a");
        }
        let kernel = setup::kernel(&kernels::select(&self.kernel, self.flavour.as_deref())?)?;
        let mut guest = Guest::new(&kernel, &setup::guest_tools()?);
        if !self.bare {
            guest = guest.file("/bin/observer", &build::observer()?);
        }
        for pair in &self.files {
            let (host, path) =
                pair.rsplit_once(':').with_context(|| format!("--file {pair:?} is not HOST:GUEST"))?;
            guest = guest.file(path, host.as_ref());
        }
        if let Some(out) = &self.out {
            guest = guest.out(out);
        }
        if let Some(memory) = self.memory {
            guest = guest.memory_mib(memory);
        }
        if let Some(cpus) = self.cpus {
            guest = guest.cpus(cpus);
        }
        if let Some(arguments) = &self.append {
            guest = guest.append(arguments);
        }
        let command = if self.command.is_empty() { vec!["sh".into()] } else { self.command };
        guest = guest.command(command);
        let outcome = if interactive {
            guest.timeout(self.timeout.map(Duration::from_secs)).run_interactive()?
        } else {
            guest.timeout(Some(Duration::from_secs(self.timeout.unwrap_or(600)))).echo().run()?
        };
        eprintln!("{}", outcome.report());
        Ok(outcome.status())
    }
}
