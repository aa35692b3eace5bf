//! Finds out what the running kernel provides and allows. It only looks; decisions are made elsewhere.
//!
//! Answers are three-valued where the kernel may hide something: "unknown" is never treated as "no".

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

/// Files in which the kernel shows its own types and symbols.
pub const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";
pub const SYMBOLS_PATH: &str = "/proc/kallsyms";

/// The kernel, its types and its symbols: everything that the plan needs.
pub struct Host {
    pub kernel: Kernel,
    pub types: Types,
    pub symbols: Symbols,
    /// Functions that can be traced; `None` if this process may not read the list.
    pub traceable: Option<HashSet<String>>,
    /// The kernel's configuration as text; `None` if not found.
    pub config: Option<String>,
    /// Callers of the lookup functions; `None` if this process may not read the kernel's text.
    pub callers: Option<Callers>,
}

impl Host {
    /// Returns a host known by its types and symbols only.
    #[must_use]
    pub fn of(kernel: Kernel, types: Types, symbols: Symbols) -> Host {
        Host { kernel, types, symbols, traceable: None, config: None, callers: None }
    }

    /// Returns true if a function can be traced; `None` if unknown.
    #[must_use]
    pub fn can_trace(&self, symbol: &str) -> Option<bool> {
        self.traceable.as_ref().map(|all| all.contains(symbol))
    }

    /// Returns true if an option is built in or a module; `None` if unknown.
    #[must_use]
    pub fn config_has(&self, option: &str) -> Option<bool> {
        let is_set =
            |line: &str| line.strip_prefix(option).is_some_and(|rest| matches!(rest.trim_end(), "=y" | "=m"));
        self.config.as_ref().map(|config| config.lines().any(is_set))
    }
}

/// Files in which the kernel lists traceable functions: tracefs has two mount points.
const TRACEABLE_PATHS: [&str; 2] = [
    "/sys/kernel/tracing/available_filter_functions",
    "/sys/kernel/debug/tracing/available_filter_functions",
];

/// Permissions of this process to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Value in brackets of `/sys/kernel/security/lockdown`; `None` if unknown.
    pub lockdown: Option<String>,
    /// Effective capabilities that tracing needs and this process lacks; `None` if unknown.
    pub missing_capabilities: Option<Vec<&'static str>>,
    /// Errno of an attempt to load the smallest tracing program; `None` if it loads.
    pub tracing_refused: Option<i32>,
    /// Errno of an attempt to open the smallest perf event, by which kprobes attach; `None` if it opens.
    pub perf_refused: Option<i32>,
    /// Value of `kernel.perf_event_paranoid`; `None` if unknown.
    pub perf_paranoid: Option<i32>,
    /// A seccomp filter restricts this process.
    pub is_filtered: bool,
}

/// Capabilities that attaching needs, with their numbers (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 3] = [("CAP_BPF", 39), ("CAP_PERFMON", 38), ("CAP_SYSLOG", 34)];
const CAP_SYS_ADMIN: u32 = 21;

/// Probes the running kernel, as far as these facts need it.
///
/// # Errors
/// Types or symbols cannot be read.
pub fn probe_host(facts: &Facts) -> anyhow::Result<Host> {
    let types = Btf::read(BTF_PATH).with_context(|| format!("cannot use {BTF_PATH}, the kernel's types"));
    let types = types.hint("a kernel with CONFIG_DEBUG_INFO_BTF, and mount -t sysfs sysfs /sys")?;
    let symbols = Symbols::read(SYMBOLS_PATH).context("cannot use the kernel's symbols");
    let symbols = symbols.hint("a kernel with CONFIG_KALLSYMS_ALL, and mount -t proc proc /proc")?;
    let mut host = Host::of(probe_kernel(), Types::Btf(types), symbols);
    host.traceable = TRACEABLE_PATHS.iter().find_map(|path| fs::read_to_string(path).ok()).map(|list| {
        // A module's function is followed by the module's name.
        list.lines().filter_map(|line| line.split_ascii_whitespace().next().map(str::to_owned)).collect()
    });
    host.config = fs::read_to_string(format!("/boot/config-{}", host.kernel.release)).ok();
    host.callers = callers::probe_callers(&host.symbols, &facts.callees()).ok();
    Ok(host)
}

/// Returns a kernel known by stored files, which do not contain its release.
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

/// Reads the running kernel's names and build id.
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

/// CPUs that the machine has.
const PRESENT_PATH: &str = "/sys/devices/system/cpu/present";

/// Returns the numbers of the CPUs that are present, online or not.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn present_cpus() -> anyhow::Result<Vec<u32>> {
    let text = fs::read_to_string(PRESENT_PATH).with_context(|| format!("cannot read {PRESENT_PATH}"));
    let text = text.hint("mount -t sysfs sysfs /sys")?;
    cpu_list(text.trim()).with_context(|| format!("{PRESENT_PATH} is not a list of CPUs: {text:?}"))
}

/// Reads a list of CPUs as the kernel prints it: `0-3,8`.
fn cpu_list(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        cpus.extend((first..=last).map(u32::from));
    }
    Some(cpus)
}

/// Returns the id of this boot, empty if unknown.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|s| s.trim().to_owned()).unwrap_or_default()
}

/// Finds the GNU build-id in ELF notes.
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

/// Probes what the kernel allows this process to do.
pub fn probe_permission() -> Permission {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown")
        .ok()
        .and_then(|s| Some(s.split_once('[')?.1.split_once(']')?.0.to_owned()));
    let status = fs::read_to_string("/proc/self/status").ok();
    let field = |name: &str| Some(status.as_ref()?.lines().find_map(|l| l.strip_prefix(name))?.trim());
    let missing_capabilities = field("CapEff:").and_then(|hex| {
        let effective = u64::from_str_radix(hex, 16).ok()?;
        if effective >> CAP_SYS_ADMIN & 1 == 1 {
            return Some(Vec::new());
        }
        Some(CAPABILITIES.iter().filter(|(_, n)| effective >> n & 1 == 0).map(|(name, _)| *name).collect())
    });
    Permission {
        lockdown,
        missing_capabilities,
        tracing_refused: try_tracing().err().and_then(|e| e.raw_os_error()),
        perf_refused: try_perf_event().err().and_then(|e| e.raw_os_error()),
        perf_paranoid: fs::read_to_string("/proc/sys/kernel/perf_event_paranoid")
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        is_filtered: field("Seccomp:").is_some_and(|mode| mode != "0"),
    }
}

/// Opens a counter that counts nothing, for all of CPU 0 as the counters of kprobes are, and closes it. Debian's kernels have a level 3 of
/// `kernel.perf_event_paranoid`, at which this needs CAP_SYS_ADMIN.
fn try_perf_event() -> io::Result<()> {
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const PERF_COUNT_SW_DUMMY: u64 = 9;
    /// `struct perf_event_attr` up to and including `bp_len` (include/uapi/linux/perf_event.h, `PERF_ATTR_SIZE_VER1`).
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        kind: u32,
        size: u32,
        config: u64,
        rest: [u64; 7],
    }
    let attr = Attr {
        kind: PERF_TYPE_SOFTWARE,
        size: size_of::<Attr>() as u32,
        config: PERF_COUNT_SW_DUMMY,
        ..Attr::default()
    };
    // SAFETY: `attr` lives across the call and has its own size in it; the rest are numbers.
    let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, -1, 0, -1, 0) };
    close(fd)
}

/// Turns the answer of a system call that opens a descriptor into a result, and closes it.
fn close(fd: libc::c_long) -> io::Result<()> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that has no other owner.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as i32) });
    Ok(())
}

/// Loads the smallest raw tracepoint program that reads kernel memory, which is the least that attaching needs, and drops it. A kernel
/// that is locked down for confidentiality loads programs and refuses that helper.
fn try_tracing() -> io::Result<()> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;
    // r1 = r10; r1 += -8; r2 = 8; r3 = 0; call bpf_probe_read_kernel (113); r0 = 0; exit
    let instructions: [u64; 7] = [
        0x0000_0000_0000_a1bf,
        0xffff_fff8_0000_0107,
        0x0000_0008_0000_02b7,
        0x0000_0000_0000_03b7,
        0x0000_0071_0000_0085,
        0x0000_0000_0000_00b7,
        0x0000_0000_0000_0095,
    ];
    let licence = c"GPL";
    /// Start of `union bpf_attr` for `BPF_PROG_LOAD` (include/uapi/linux/bpf.h).
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
    // SAFETY: `attr` and its pointees live across the call; its size is passed.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const attr, size_of::<Attr>()) };
    close(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_others_refused() {
        assert_eq!(cpu_list("0"), Some(vec![0]));
        assert_eq!(cpu_list("0-2,7"), Some(vec![0, 1, 2, 7]));
        for bad in ["", "a", "0-", "0-99999999999", "1 2"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_build_id_is_found_among_notes_and_cut_notes_have_none() {
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
