//! Loads and attaches the programs of a plan. They are removed when [`Attached`] is dropped or the process dies.
//!
//! Nothing is decided here about roles. A program that the kernel refuses becomes a [`Failure`] with the kernel's answer, and
//! the other programs are still attached.

use std::{collections::BTreeMap, os::fd::AsFd as _, time::Duration};

use anyhow::{Context as _, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, ArrayOfMaps, Map, MapData, PerCpuArray, RingBuf, StackTraceMap},
    programs::{BtfTracePoint, FEntry, FExit, KProbe, ProgramError, RawTracePoint},
};
use aya_log::EbpfLogger;
use observer_ebpf::config::{PerCpu, arg, site, value};
use observer_engine::setup::Role;

use crate::{
    hint::Hint,
    host::{
        plan::{Attach, Failure, Outcome, Plan, Program, Way},
        probe::{self, Permission},
        ready, reason,
    },
    meta::Misses,
};

/// Size of one CPU's ring in bytes: about 20,000 records of 48 bytes, or 50 ms of an exerciser at full speed.
pub const RING_BYTES: u32 = 4 << 20;

/// The map type `BPF_MAP_TYPE_RINGBUF` (include/uapi/linux/bpf.h).
const MAP_TYPE_RINGBUF: u32 = 27;

/// Maximum number of variables that the peek program reads; its array has one more element.
const PEEKS: usize = 8;

#[cfg(bpf_object)]
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer.bpf.o"));

/// Returns the eBPF object, if this build contains one.
fn object() -> anyhow::Result<&'static [u8]> {
    #[cfg(bpf_object)]
    return Ok(OBJECT);
    #[cfg(not(bpf_object))]
    Err(anyhow::anyhow!("this observer was built without its eBPF programs"))
        .hint("build it by `cargo xtask build`; replay and report work without them")
}

/// [`PerCpu`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct PerCpuValue(PerCpu);
// SAFETY: only integers, without padding; any bit pattern is a value.
unsafe impl aya::Pod for PerCpuValue {}

/// Log levels of aya-log, as the programs compare them.
mod aya_log_level {
    pub const OFF: u8 = 0;
    pub const DEBUG: u8 = 4;
}

/// Prints the programs' diagnostics, one per line.
pub struct ToStderr;

impl log::Log for ToStderr {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        eprintln!("observer: program: {}", record.args());
    }

    fn flush(&self) {}
}

/// Programs attached to the kernel.
pub struct Attached {
    ebpf: Ebpf,
    /// Rings with their CPU numbers, one per present CPU.
    pub rings: Vec<(u16, RingBuf<MapData>)>,
    /// The outer map, kept open so that the programs can reach the rings.
    _outer: ArrayOfMaps<MapData, MapData>,
    counters: PerCpuArray<MapData, PerCpuValue>,
    stacks: StackTraceMap<MapData>,
    logger: Option<EbpfLogger<ToStderr>>,
    /// Outcome of each site of the plan, in the plan's order.
    pub outcomes: Vec<Outcome>,
    /// Attached programs, each with the site that it serves.
    attached: Vec<(u16, Program)>,
}

/// Instruction counts of a loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub program: Program,
    /// Instructions that the verifier processed; `None` if the kernel does not report it (before 5.16).
    pub verified: Option<u32>,
    /// Instructions of the program after the verifier rewrote it.
    pub translated: u32,
}

/// Returns why the kernel does not allow this process to trace, and what to do. `None` if tracing is allowed or the reason is
/// unknown.
///
/// Tries the smallest program first, then one attached to a function, as nearly all are: a kernel may allow the first and
/// refuse the second.
pub fn refusal(plan: &Plan) -> Option<(String, String)> {
    if let Err(off) = ready::check_tracing() {
        return Some((off.to_string(), ready::SWITCH_ON.to_owned()));
    }
    let permission = probe::probe_permission();
    let what = refused_outright(&permission).or_else(|| function_refused(plan))?;
    Some(advice(what, &permission))
}

/// Returns the kernel's refusal of the smallest program, or of the smallest perf event.
fn refused_outright(permission: &Permission) -> Option<String> {
    let answer = std::io::Error::from_raw_os_error;
    if let Some(errno) = permission.tracing_refused {
        return Some(format!(
            "the kernel refuses to load a tracing program that reads its memory: {}",
            answer(errno)
        ));
    }
    let errno = permission.perf_refused?;
    let level = permission.perf_paranoid.map_or("unknown".to_owned(), |level| level.to_string());
    Some(format!(
        "the kernel refuses perf events, by which kprobes attach: {} (kernel.perf_event_paranoid is {level})",
        answer(errno)
    ))
}

/// Tries to load one fentry program of the plan, and returns the kernel's refusal.
fn function_refused(plan: &Plan) -> Option<String> {
    let programs = plan.sites.iter().flat_map(|s| &s.ways).flat_map(|w| &w.programs);
    let program = programs.into_iter().find(|p| p.attach == Attach::Fentry)?;
    let btf = aya::Btf::from_sys_fs().ok()?;
    let mut ebpf = EbpfLoader::new().load(object().ok()?).ok()?;
    let loaded: &mut FEntry = ebpf.program_mut(&program.name)?.try_into().ok()?;
    match loaded.load(&program.target, &btf) {
        Err(ProgramError::LoadError { io_error, .. })
            if io_error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            // The verifier also answers "permission denied" (EACCES) to a bad program; a refusal of tracing is EPERM.
            (io_error.raw_os_error() == Some(libc::EPERM)).then(|| {
                format!("the kernel refuses programs on functions: fentry on {}: {io_error}", program.target)
            })
        }
        _ => None,
    }
}

/// Returns what was refused with the most likely cause, and a next step.
fn advice(refused: String, permission: &Permission) -> (String, String) {
    let lockdown = permission.lockdown.as_deref().filter(|level| *level != "none");
    let missing = permission.missing_capabilities.as_deref().unwrap_or_default();
    if !missing.is_empty() {
        (
            format!("{refused}; this process lacks {}", missing.join(", ")),
            "run as root, or give the binary the capabilities named".to_owned(),
        )
    } else if let Some(level) = lockdown {
        (
            format!("{refused}; it is locked down ({level})"),
            "boot without lockdown (Secure Boot off, or lockdown= not on the command line), or use a guest: `cargo xtask vm`"
                .to_owned(),
        )
    } else if permission.perf_refused.is_some() && permission.tracing_refused.is_none() {
        (
            format!("{refused}; this process lacks CAP_SYS_ADMIN"),
            "run as root, add CAP_SYS_ADMIN, or sysctl kernel.perf_event_paranoid=2".to_owned(),
        )
    } else if permission.is_filtered {
        (
            format!("{refused}; a seccomp filter restricts this process"),
            "run outside the container, or with a profile that allows bpf(2) and perf_event_open(2)"
                .to_owned(),
        )
    } else {
        (
            format!("{refused}; this process has the capabilities"),
            "lockdown (mount securityfs, read /sys/kernel/security/lockdown), a security module, a container or the \
             kernel's configuration forbids it: try on another kernel, or in a guest by `cargo xtask vm`"
                .to_owned(),
        )
    }
}

/// Attaches the programs of the plan. `only_tgid` 0 observes every process.
///
/// # Errors
/// The kernel refuses tracing altogether, or a map cannot be created. A single refused program is not an error.
pub fn attach(plan: &Plan, only_tgid: u32, log: bool) -> anyhow::Result<Attached> {
    let permission = probe::probe_permission();
    if let Some(what) = refused_outright(&permission) {
        let (what, hint) = advice(what, &permission);
        return Err(anyhow::Error::msg(what)).hint(hint);
    }
    let object = object()?;
    let mut values = plan.values.clone();
    let has_all_memory = raise_memlock();
    let peeked = peek(object, plan, &mut values).context("cannot read the kernel's variables");
    // If memory is too little, it is so for the first maps already.
    if has_all_memory { peeked } else { peeked.hint(LOCKED_MEMORY) }?;
    values[value::ONLY_TGID] = u64::from(only_tgid);

    let mut args = [[observer_ebpf::config::NO_ARG; arg::COUNT]; site::COUNT];
    // The ways of one site have separate numbers, or read the same arguments.
    for way in plan.sites.iter().flat_map(|s| &s.ways).rev() {
        args[usize::from(way.site)] = way.args;
    }
    let log_level = if log { aya_log_level::DEBUG } else { aya_log_level::OFF };
    let mut ebpf = EbpfLoader::new()
        .override_global("ARGS", args.as_slice(), true)
        .override_global("FIELDS", plan.fields.as_slice(), true)
        .override_global("VALUES", values.as_slice(), true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .load(object)
        .context("cannot load the eBPF object")?;
    let logger = match log {
        true => {
            Some(EbpfLogger::init_with_logger(&mut ebpf, ToStderr).context("cannot open the programs' log")?)
        }
        false => None,
    };
    let (outer, rings) = make_rings(&mut ebpf)?;
    let counters = PerCpuArray::try_from(ebpf.take_map("CPU").context("the eBPF object has no map CPU")?)?;
    let stacks =
        StackTraceMap::try_from(ebpf.take_map("STACKS").context("the eBPF object has no map STACKS")?)?;
    let mut attached = Attached {
        ebpf,
        rings,
        _outer: outer,
        counters,
        stacks,
        logger,
        outcomes: vec![Outcome::default(); plan.sites.len()],
        attached: Vec::new(),
    };
    attached.attach_all(plan)?;
    Ok(attached)
}

/// Next step where maps are refused for their memory.
const LOCKED_MEMORY: &str =
    "ulimit -l unlimited, or add CAP_SYS_RESOURCE: before 5.11, maps count as locked memory";

/// Raises the limit of locked memory, against which maps count before Linux 5.11. Returns false if the kernel refuses.
fn raise_memlock() -> bool {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: a valid pointer.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) == 0 }
}

/// Reads the plan's variables with a program that is attached briefly.
fn peek(object: &[u8], plan: &Plan, values: &mut [u64]) -> anyhow::Result<()> {
    let mut addresses = [0u64; PEEKS];
    if plan.peeks.len() > PEEKS {
        bail!("{} variables, and room for {PEEKS}", plan.peeks.len());
    }
    for (at, peek) in addresses.iter_mut().zip(&plan.peeks) {
        *at = peek.address;
    }
    let mut ebpf = EbpfLoader::new().override_global("PEEK_AT", addresses.as_slice(), true).load(object)?;
    let program: &mut RawTracePoint =
        ebpf.program_mut("peek").context("the object has no program peek")?.try_into()?;
    program.load().map_err(verifier)?;
    program.attach("sys_enter")?;
    let array: Array<_, u64> = Array::try_from(ebpf.map("PEEKED").context("the object has no map PEEKED")?)?;
    // Any system call triggers the program, and the sleep is one.
    let done = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(1));
        array.get(&(PEEKS as u32), 0).is_ok_and(|done| done == 1)
    });
    if !done {
        bail!("the program on raw tracepoint sys_enter did not run within a second");
    }
    let mut named = BTreeMap::new();
    for (i, peek) in plan.peeks.iter().enumerate() {
        let word = array.get(&(i as u32), 0)?;
        named.insert(peek.name.as_str(), if peek.bytes == 4 { word & 0xffff_ffff } else { word });
    }
    for (name, v) in &named {
        if let Some(i) = value::NAMES.iter().position(|n| n == name) {
            values[i] = *v;
        }
    }
    // The end of the fault mutexes follows from the table's base and count; the mutex size comes from BTF.
    let count = named.get("fault-mutex-count").copied().unwrap_or(0);
    values[value::FAULT_MUTEX_END] =
        values[value::FAULT_MUTEX_BASE] + count * values[value::FAULT_MUTEX_BYTES];
    Ok(())
}

/// The outer map, which is indexed by CPU number, and one ring per present CPU: one that is offline may come online during the run.
type Rings = (ArrayOfMaps<MapData, MapData>, Vec<(u16, RingBuf<MapData>)>);

fn make_rings(ebpf: &mut Ebpf) -> anyhow::Result<Rings> {
    let mut outer: ArrayOfMaps<MapData, MapData> =
        ArrayOfMaps::try_from(ebpf.take_map("RINGS").context("the eBPF object has no map RINGS")?)?;
    let cpus = probe::present_cpus()?;
    let mut rings = Vec::new();
    for cpu in cpus {
        let map = aya_obj::Map::new_from_params(MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, 0);
        let data = MapData::create(map, &format!("ring{cpu}"), None)
            .with_context(|| format!("cannot make the ring of CPU {cpu}, {RING_BYTES} bytes"))?;
        outer.set(cpu, &data, 0)?;
        rings.push((cpu as u16, RingBuf::try_from(Map::RingBuf(data))?));
    }
    Ok((outer, rings))
}

/// Starts of the statistics lines that the verifier puts at the end of every log.
const VERIFIER_CHATTER: [&str; 4] = ["processed ", "verification time ", "stack depth ", "max_states"];

/// Returns errno and the verifier's last lines, which name the cause; the whole log is long.
fn verifier(e: ProgramError) -> anyhow::Error {
    match e {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let is_chatter = |l: &&str| l.is_empty() || VERIFIER_CHATTER.iter().any(|c| l.starts_with(c));
            let lines: Vec<_> = log.lines().filter(|l| !is_chatter(l)).collect();
            let tail = &lines[lines.len().saturating_sub(if cfg!(debug_assertions) { 30 } else { 2 })..];
            match tail {
                [] => anyhow::anyhow!("load refused: {io_error}"),
                _ => anyhow::anyhow!("load refused: {io_error}; verifier: {}", tail.join(" | ")),
            }
        }
        other => anyhow::Error::new(other),
    }
}

/// Replaces the kernel-internal errno 524, which C libraries have no name for.
fn named(error: String) -> String {
    error.replace("Unknown error 524", "ENOTSUPP")
}

impl Attached {
    fn attach_all(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let btf = aya::Btf::from_sys_fs().context("cannot read the kernel's BTF")?;
        // Attach sites before the sites that need them, and operations last. So everything inside an operation whose begin is
        // seen is seen too, from its first lock on.
        let turn = |i: &usize| {
            let fact = &plan.sites[*i].fact;
            (matches!(fact.role, Role::Operation | Role::Callback | Role::Walk), !fact.needs.is_empty(), *i)
        };
        let mut order: Vec<usize> = (0..plan.sites.len()).collect();
        order.sort_by_key(turn);
        for i in order {
            self.outcomes[i] = match plan.missing_need(&self.outcomes, i) {
                Some(reason) => Outcome { skipped: Some(reason), ..Outcome::default() },
                None => self.attach_site(&plan.sites[i].ways, &btf),
            };
        }
        let works = |role: Role| plan.working(&self.outcomes).any(|(site, _)| site.fact.role == role);
        if !works(Role::Operation) || !works(Role::Lookup) {
            if let Some((what, hint)) = refusal(plan) {
                return Err(anyhow::Error::msg(what)).hint(hint);
            }
            let why = reason::summary(self.outcomes.iter().flat_map(|o| &o.failures)).join("; ");
            return Err(anyhow::anyhow!(
                "neither operations nor lookups can be watched on this kernel: {why}"
            ))
            .hint("`observer doctor --attach` lists what this kernel has and refuses, role by role");
        }
        Ok(())
    }

    /// Tries the ways of a site in order. A way that fails leaves nothing attached.
    fn attach_site(&mut self, ways: &[Way], btf: &aya::Btf) -> Outcome {
        let mut outcome = Outcome::default();
        for (n, way) in ways.iter().enumerate() {
            let mut done = Vec::new();
            for program in &way.programs {
                match self.attach_program(program, btf) {
                    Ok(()) => done.push((way.site, program.clone())),
                    Err(e) => {
                        outcome
                            .failures
                            .push(Failure { attempt: program.attempt(), error: named(format!("{e:#}")) });
                        break;
                    }
                }
            }
            if done.len() == way.programs.len() {
                self.attached.append(&mut done);
                outcome.way = Some(n);
                break;
            }
            for (_, program) in done {
                self.unload(&program.name);
            }
        }
        outcome
    }

    fn unload(&mut self, name: &str) {
        if let Some(program) = self.ebpf.program_mut(name) {
            // This fails only if the program is not loaded.
            let _ = program.unload_any();
        }
    }

    /// Returns the instruction counts of the attached programs.
    #[must_use]
    pub fn loaded(&self) -> Vec<Loaded> {
        let info = |program: &Program| {
            let info = self.ebpf.program(&program.name)?.info().ok()?;
            Some(Loaded {
                program: program.clone(),
                verified: info.verified_instruction_count().filter(|n| *n > 0),
                translated: info.size_translated().unwrap_or(0) / 8,
            })
        };
        self.attached.iter().map(|(_, program)| program).filter_map(info).collect()
    }

    fn attach_program(&mut self, program: &Program, btf: &aya::Btf) -> anyhow::Result<()> {
        let loaded =
            self.ebpf.program_mut(&program.name).with_context(|| format!("no program {}", program.name))?;
        match program.attach {
            Attach::Fentry => {
                let p: &mut FEntry = loaded.try_into()?;
                p.load(&program.target, btf).map_err(verifier)?;
                p.attach()?;
            }
            Attach::Fexit => {
                let p: &mut FExit = loaded.try_into()?;
                p.load(&program.target, btf).map_err(verifier)?;
                p.attach()?;
            }
            Attach::Kprobe | Attach::Kretprobe => {
                let p: &mut KProbe = loaded.try_into()?;
                p.load().map_err(verifier)?;
                p.attach(&program.target, 0)?;
            }
            Attach::Tracepoint => {
                let p: &mut BtfTracePoint = loaded.try_into()?;
                p.load(&program.target, btf).map_err(verifier)?;
                p.attach()?;
            }
        }
        Ok(())
    }

    /// Returns the programs' counters, indexed by CPU number.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn counters(&self) -> anyhow::Result<Vec<PerCpu>> {
        Ok(self.counters.get(&0, 0)?.iter().map(|v| v.0).collect())
    }

    /// Prints the pending diagnostics of the programs.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Returns the frames of a stack, innermost first; empty if the kernel has dropped it.
    pub fn stack(&self, id: u32) -> Vec<u64> {
        self.stacks.get(&id, 0).map(|trace| trace.frames().iter().map(|f| f.ip).collect()).unwrap_or_default()
    }

    /// Enables or disables all programs at once.
    ///
    /// # Errors
    /// The switch in the map cannot be written.
    pub fn enable(&mut self, on: bool) -> anyhow::Result<()> {
        let data = self.ebpf.map_mut(".data").context("the eBPF object has no section .data")?;
        let mut switch: Array<_, u64> = Array::try_from(data)?;
        switch.set(0, u64::from(on), 0).context("cannot switch the programs")
    }

    /// Returns the hits that the kernel skipped since attaching, by program; programs without any are left out.
    pub fn misses(&self) -> Vec<Misses> {
        self.misses_by_site().map(|(_, misses)| misses).collect()
    }

    /// Returns the skipped hits, by site, that may concern a watched object; sites without any are left out.
    pub fn skipped(&self) -> BTreeMap<u16, u64> {
        let mut by_site = BTreeMap::new();
        for (site, misses) in self.misses_by_site().filter(|(_, m)| !m.is_of_spinlocks()) {
            *by_site.entry(site).or_default() += misses.recursion;
        }
        by_site
    }

    fn misses_by_site(&self) -> impl Iterator<Item = (u16, Misses)> {
        self.attached.iter().filter_map(|(site, program)| {
            let fd = self.ebpf.program(&program.name)?.fd().ok()?;
            let recursion = recursion_misses(fd.as_fd()).ok().filter(|n| *n > 0)?;
            Some((*site, Misses { program: program.name.clone(), recursion }))
        })
    }

    /// Detaches all programs and returns the hits that the kernel skipped, by program. Rings and counters stay readable.
    pub fn detach(&mut self) -> Vec<Misses> {
        let misses = self.misses();
        for (_, Program { name, .. }) in std::mem::take(&mut self.attached) {
            self.unload(&name);
        }
        misses
    }
}

/// Unloads a program of any type.
trait UnloadAny {
    fn unload_any(&mut self) -> Result<(), ProgramError>;
}

impl UnloadAny for aya::programs::Program {
    fn unload_any(&mut self) -> Result<(), ProgramError> {
        use aya::programs::Program;
        match self {
            Program::FEntry(p) => p.unload(),
            Program::FExit(p) => p.unload(),
            Program::KProbe(p) => p.unload(),
            Program::BtfTracePoint(p) => p.unload(),
            _ => Ok(()),
        }
    }
}

/// Reads `recursion_misses` of a program (Linux 5.12 and later; 0 before).
fn recursion_misses(fd: std::os::fd::BorrowedFd<'_>) -> anyhow::Result<u64> {
    const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
    /// Size in bytes of `struct bpf_prog_info` up to and including `recursion_misses` (include/uapi/linux/bpf.h).
    const INFO_BYTES: usize = 216;
    #[repr(C)]
    struct Attr {
        fd: u32,
        len: u32,
        info: u64,
    }
    let mut info = [0u64; INFO_BYTES / 8];
    let attr = Attr {
        fd: std::os::fd::AsRawFd::as_raw_fd(&fd) as u32,
        len: INFO_BYTES as u32,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: `attr` and the buffer live across the call, and their sizes are passed; the kernel writes at most `len`.
    let ret =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw const attr, size_of::<Attr>()) };
    if ret < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    Ok(info[INFO_BYTES / 8 - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_its_cause_and_a_next_step() {
        let allowed = Permission {
            lockdown: Some("none".to_owned()),
            missing_capabilities: Some(Vec::new()),
            tracing_refused: None,
            perf_refused: None,
            perf_paranoid: Some(3),
            is_filtered: false,
        };
        assert_eq!(refused_outright(&allowed), None);
        let no_tracing = Permission { tracing_refused: Some(libc::EPERM), ..allowed.clone() };
        let no_perf = Permission { perf_refused: Some(libc::EACCES), ..allowed.clone() };
        let lacks = |name| Permission { missing_capabilities: Some(vec![name]), ..no_tracing.clone() };
        let locked = Permission { lockdown: Some("confidentiality".to_owned()), ..no_tracing.clone() };
        let filtered = Permission { is_filtered: true, ..no_tracing.clone() };
        for (permission, cause, next) in [
            (lacks("CAP_BPF"), "this process lacks CAP_BPF", "capabilities"),
            (no_perf, "perf_event_paranoid is 3); this process lacks CAP_SYS_ADMIN", "perf_event_paranoid=2"),
            (locked, "locked down (confidentiality)", "without lockdown"),
            (filtered, "a seccomp filter", "bpf(2)"),
            (no_tracing.clone(), "has the capabilities", "mount securityfs"),
        ] {
            let (what, hint) = advice(refused_outright(&permission).unwrap(), &permission);
            assert!(what.contains(cause) && hint.contains(next), "{what}: {hint}");
        }
    }
}
