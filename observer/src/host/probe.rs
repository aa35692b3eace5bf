//! What the running kernel has and what it allows us. Looks, decides nothing.
//!
//! Three-valued where the kernel may not tell: "could not tell" is never taken for "no".

use std::{collections::HashSet, fs, io};

use anyhow::Context as _;

use crate::{
    facts::Facts,
    hint::Hint as _,
    host::{
        btf::Btf,
        callers::{self, Callers},
        symbols::Symbols,
        types::Types,
    },
    meta::Kernel,
};

/// Where the kernel keeps its own types and symbols.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
pub const SYMBOLS_PATH: &str = "/proc/kallsyms";

/// The kernel, its types and its symbols: all that the plan needs.
pub struct Host {
    pub kernel: Kernel,
    pub types: Types,
    pub symbols: Symbols,
    /// Functions that can be traced; `None`: the kernel does not tell this process.
    pub traceable: Option<HashSet<String>>,
    /// The kernel's configuration as text; `None`: not found.
    pub config: Option<String>,
    /// Who calls the lookup functions; `None`: the kernel does not show its text to this process.
    pub callers: Option<Callers>,
}

impl Host {
    /// A kernel known by its types and symbols only.
    #[must_use]
    pub fn of(kernel: Kernel, types: Types, symbols: Symbols) -> Host {
        Host { kernel, types, symbols, traceable: None, config: None, callers: None }
    }

    /// Whether a function can be traced; `None`: could not tell.
    #[must_use]
    pub fn can_trace(&self, symbol: &str) -> Option<bool> {
        self.traceable.as_ref().map(|all| all.contains(symbol))
    }

    /// Whether an option is built in or a module; `None`: could not tell.
    #[must_use]
    pub fn config_has(&self, option: &str) -> Option<bool> {
        let is_set =
            |line: &str| line.strip_prefix(option).is_some_and(|rest| matches!(rest.trim_end(), "=y" | "=m"));
        self.config.as_ref().map(|config| config.lines().any(is_set))
    }
}

/// Where the kernel lists what can be traced: tracefs, at either of its places.
const TRACEABLE_PATHS: [&str; 2] = [
    "/sys/kernel/tracing/available_filter_functions",
    "/sys/kernel/debug/tracing/available_filter_functions",
];

/// What the kernel lets this process do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Value in brackets of `/sys/kernel/security/lockdown`; `None`: cannot be told.
    pub lockdown: Option<String>,
    /// Effective capabilities that tracing needs and this process lacks; `None`: cannot be told.
    pub missing_capabilities: Option<Vec<&'static str>>,
    /// Errno of an attempt to load the smallest tracing program; `None`: it loads.
    pub tracing_refused: Option<i32>,
}

/// Capabilities that attaching needs, with their number (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYSLOG", 34)];
const CAP_SYS_ADMIN: u32 = 21;

/// The kernel that we run on, as far as these facts ask.
///
/// # Errors
/// Types or symbols cannot be read.
pub fn probe_host(facts: &Facts) -> anyhow::Result<Host> {
    let mut host = Host::of(probe_kernel(), Types::Btf(Btf::read(BTF_PATH)?), Symbols::read(SYMBOLS_PATH)?);
    host.traceable = TRACEABLE_PATHS.iter().find_map(|path| fs::read_to_string(path).ok()).map(|list| {
        // Functions of modules have the module's name behind theirs.
        list.lines().filter_map(|line| line.split_ascii_whitespace().next().map(str::to_owned)).collect()
    });
    host.config = fs::read_to_string(format!("/boot/config-{}", host.kernel.release)).ok();
    host.callers = callers::probe_callers(&host.symbols, &facts.callees()).ok();
    Ok(host)
}

/// A kernel known by files of it. Its release is not among them.
///
/// # Errors
/// Types or symbols cannot be read.
pub fn probe_files(btf: &str, symbols: &str) -> anyhow::Result<Host> {
    let kernel = Kernel { release: "(stored files)".to_owned(), ..Kernel::default() };
    let types = Btf::read(btf).with_context(|| format!("cannot use {btf} as a kernel's types"));
    let types = Types::Btf(types.hint("a copy of that kernel's /sys/kernel/btf/vmlinux")?);
    let symbols = Symbols::read(symbols).with_context(|| format!("cannot use {symbols} as a symbol table"));
    Ok(Host::of(kernel, types, symbols.hint("a copy of that kernel's /proc/kallsyms, made as root")?))
}

/// Names of the running kernel.
pub fn probe_kernel() -> Kernel {
    let line = |path: &str| fs::read_to_string(path).map(|s| s.trim().to_owned()).unwrap_or_default();
    Kernel {
        release: line("/proc/sys/kernel/osrelease"),
        version: line("/proc/sys/kernel/version"),
        machine: std::env::consts::ARCH.to_owned(),
        build_id: fs::read("/sys/kernel/notes").ok().and_then(|notes| build_id(&notes)),
        btf_hash: None,
    }
}

/// Id of this boot, empty if the kernel does not tell.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// The GNU build-id among ELF notes.
fn build_id(notes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let word = |at: usize| Some(u32::from_le_bytes(notes.get(at..at + 4)?.try_into().ok()?));
    let mut at = 0;
    loop {
        let (name, desc, kind) = (word(at)? as usize, word(at + 4)? as usize, word(at + 8)?);
        let name_at = at + 12;
        let desc_at = name_at + name.next_multiple_of(4);
        if kind == NT_GNU_BUILD_ID && notes.get(name_at..name_at + name)? == b"GNU\0" {
            let id = notes.get(desc_at..desc_at + desc)?;
            return Some(id.iter().map(|b| format!("{b:02x}")).collect());
        }
        at = desc_at + desc.next_multiple_of(4);
    }
}

/// What the kernel allows this process.
pub fn probe_permission() -> Permission {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown")
        .ok()
        .and_then(|s| Some(s.split_once('[')?.1.split_once(']')?.0.to_owned()));
    let missing_capabilities = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
        let effective = u64::from_str_radix(line.trim(), 16).ok()?;
        if effective >> CAP_SYS_ADMIN & 1 == 1 {
            return Some(Vec::new());
        }
        Some(CAPABILITIES.iter().filter(|(_, n)| effective >> n & 1 == 0).map(|(name, _)| *name).collect())
    });
    Permission {
        lockdown,
        missing_capabilities,
        tracing_refused: try_tracing().err().and_then(|e| e.raw_os_error()),
    }
}

/// Loads the smallest raw tracepoint program and drops it again: what every attach needs first.
fn try_tracing() -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
    // r0 = 0; exit
    let instructions: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];
    let licence = c"GPL";
    /// Head of `union bpf_attr` for `BPF_PROG_LOAD` (include/uapi/linux/bpf.h).
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log: [u64; 2],
        kern_version: u32,
        prog_flags: u32,
    }
    let attr = Attr {
        prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
        insn_cnt: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: licence.as_ptr() as u64,
        ..Attr::default()
    };
    // SAFETY: `attr` and what it points to live across the call; its size is passed.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<Attr>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that we were just given and nobody else has.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as i32) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::build_id;

    #[test]
    fn build_id_is_found_among_notes_and_cut_notes_are_none() {
        let mut notes = Vec::new();
        for (name, kind, desc) in [(&b"Xen\0"[..], 6u32, &[1u8, 2][..]), (b"GNU\0", 3, &[0xab, 0xcd, 0x01])] {
            notes.extend((name.len() as u32).to_le_bytes());
            notes.extend((desc.len() as u32).to_le_bytes());
            notes.extend(kind.to_le_bytes());
            notes.extend(name);
            notes.extend(desc);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id(&notes).as_deref(), Some("abcd01"));
        assert_eq!(build_id(&notes[..notes.len() - 4]), None);
        assert_eq!(build_id(&[]), None);
    }
}
