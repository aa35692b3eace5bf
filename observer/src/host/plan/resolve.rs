//! Resolves a row into the programs that serve it on this kernel: symbol, signature, argument numbers, ways to attach.

use std::collections::BTreeMap;

use observer_ebpf::{
    config::{NO_ARG, arg, flag, site},
    mode,
};
use observer_engine::setup::Role;

use super::{Attach, Program, Way};
use crate::{
    facts::{self, How, Mode, Object, Step},
    host::{btf::Signature, probe::Host, reason::Reason},
};

/// Number of arguments that a trampoline always accepts. A kernel may refuse more, or a struct by value.
const TRAMPOLINE_ARGS: usize = 6;
/// Context slots of a tracing program that the programs can read.
const TRACED_ARGS: usize = 8;

/// Number of copies in use, by the first site number of their family.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<usize, usize>);

/// A program family: first site number, number of copies, and the programs that form one copy.
struct Family {
    first: usize,
    count: usize,
    programs: &'static [(&'static str, Attach)],
}

const fn family(first: usize, count: usize, programs: &'static [(&'static str, Attach)]) -> Family {
    Family { first, count, programs }
}

/// Name endings of the [`site::TASK`] programs, and of their tracepoints.
const TASK_PROGRAMS: [&str; site::TASKS] = ["_exit", "_fork", "_exec"];

/// Returns the families that can serve a row, in order of preference. Tracing comes first, since a kprobe costs three times
/// as much (docs/measurements.md, Cost of a probe).
fn families(fact: &facts::Site) -> Vec<Family> {
    use Attach::{Fentry, Fexit, Kprobe, Kretprobe, Tracepoint};
    match fact.role {
        Role::Operation | Role::Callback | Role::Unlink => vec![
            family(site::OP, site::OPS, &[("op_end", Fexit), ("op_begin", Fentry)]),
            family(site::OP_PROBED, site::OPS_PROBED, &[("op_leave", Kretprobe), ("op_enter", Kprobe)]),
        ],
        Role::Walk => {
            vec![family(site::WALK, site::WALKS, &[("walk_end", Fentry), ("walk_begin", Fexit)])]
        }
        Role::Unshare => vec![
            family(site::UNSHARE, site::UNSHARES, &[("unshare", Fexit)]),
            family(site::UNSHARE, site::UNSHARES, &[("unshare_leave", Kretprobe)]),
        ],
        _ => vec![match fact.role {
            Role::Lookup => family(site::LOOKUP, site::LOOKUPS, &[("lookup", Fexit)]),
            Role::Share => family(site::SHARE, site::SHARES, &[("share", Fexit)]),
            Role::TableAlloc => family(site::TABLE_ALLOC, site::TABLE_ALLOCS, &[("table_alloc", Fexit)]),
            Role::TableFree => family(site::TABLE_FREE, site::TABLE_FREES, &[("table_free", Fentry)]),
            Role::Lock if fact.object.is_some() => {
                family(site::OBJECT_END, site::OBJECT_ENDS, &[("object_end", Fentry)])
            }
            Role::Lock => match fact.step {
                Some(Step::Try) => family(site::TRY, site::TRIES, &[("try", Fexit)]),
                Some(Step::Release) => family(site::RELEASE, site::RELEASES, &[("release", Fentry)]),
                Some(Step::Downgrade) => family(site::DOWNGRADE, site::DOWNGRADES, &[("downgrade", Fentry)]),
                _ if fact.can_fail => family(site::ASK, site::ASKS, &[("ask_end", Fexit), ("ask", Fentry)]),
                _ => family(site::ASK, site::ASKS, &[("ask", Fentry)]),
            },
            // No fexit on spinlock functions: it hung a kernel (docs/measurements.md).
            Role::Ptl if fact.step == Some(Step::Release) => {
                family(site::SPIN_UNLOCK, site::SPIN_UNLOCKS, &[("spin_unlock", Fentry)])
            }
            Role::Ptl => family(site::SPIN_LOCK, site::SPIN_LOCKS, &[("spin_lock", Fentry)]),
            Role::Wait => family(site::WAIT, site::WAITS, &[("wait", Tracepoint)]),
            Role::FolioHeld => match fact.how {
                Some(How::Returned) => family(
                    site::FOLIO_LOOKUP,
                    site::FOLIO_LOOKUPS,
                    &[("folio_got", Fexit), ("folio_ask", Fentry)],
                ),
                Some(How::SlowPath) => family(
                    site::FOLIO_SLOW,
                    site::FOLIO_SLOWS,
                    &[("folio_woken", Fexit), ("folio_wait", Fentry)],
                ),
                _ => family(site::FOLIO_CONTRACT, site::FOLIO_CONTRACTS, &[("contract", Fentry)]),
            },
            Role::FolioRelease => {
                family(site::FOLIO_UNLOCK, site::FOLIO_UNLOCKS, &[("folio_unlock", Fentry)])
            }
            _ => family(site::TASK, site::TASKS, &[("task", Tracepoint)]),
        }],
    }
}

/// Returns the ways in which this kernel may serve a row, best first.
pub(super) fn ways(fact: &facts::Site, host: &Host, places: &mut Places) -> Result<Vec<Way>, Reason> {
    let targets: Vec<Result<Target, Reason>> = if fact.function.is_empty() {
        vec![tracepoint(fact, host)]
    } else {
        let found = function(fact, host)?;
        families(fact).iter().map(|family| target(fact, &found, family, host)).collect()
    };
    let mut ways = Vec::new();
    let mut reasons = Vec::new();
    let mut given: BTreeMap<usize, usize> = BTreeMap::new();
    for (family, target) in families(fact).into_iter().zip(targets) {
        let placed = target.and_then(|target| Ok((places.take(fact, &family, &mut given)?, target)));
        match placed {
            Ok((index, target)) => ways.push(way(fact, &family, index, target)),
            Err(reason) => reasons.push(reason),
        }
    }
    if ways.is_empty() { Err(Reason::all(reasons)) } else { Ok(ways) }
}

impl Places {
    /// Reserves a copy of a family. The ways of one row that use the same family share a copy.
    fn take(
        &mut self,
        fact: &facts::Site,
        family: &Family,
        given: &mut BTreeMap<usize, usize>,
    ) -> Result<usize, Reason> {
        if let Some(index) = given.get(&family.first) {
            return Ok(*index);
        }
        // Each tracepoint of a family has its own program.
        let index = match (fact.role, fact.tracepoint.as_str()) {
            (Role::Task, name) => TASK_PROGRAMS.iter().position(|p| name.ends_with(p)).unwrap_or(0),
            (Role::Wait, name) => usize::from(name.ends_with("_end")),
            _ => self.0.get(&family.first).copied().unwrap_or(0),
        };
        if index >= family.count {
            return Err(Reason::NoRoom(family.count));
        }
        self.0.insert(family.first, index + 1);
        given.insert(family.first, index);
        Ok(index)
    }
}

fn way(fact: &facts::Site, family: &Family, index: usize, target: Target) -> Way {
    let programs = family.programs.iter().map(|(name, attach)| {
        let name = match fact.role {
            Role::Task => format!("{name}{}", TASK_PROGRAMS[index]),
            _ => format!("{name}_{index}"),
        };
        // A walk ends at the entry of another function.
        let other = target.until.as_ref().filter(|_| *attach == Attach::Fentry);
        Program { name, attach: *attach, target: other.unwrap_or(&target.symbol).clone() }
    });
    Way { site: (family.first + index) as u16, programs: programs.collect(), args: target.args }
}

/// Symbol that a way attaches to, with the argument numbers.
struct Target {
    symbol: String,
    /// Function that ends the walk, for a walk.
    until: Option<String>,
    args: [u16; arg::COUNT],
}

fn tracepoint(fact: &facts::Site, host: &Host) -> Result<Target, Reason> {
    let name = &fact.tracepoint;
    let known = host.types.size_of(&format!("trace_event_raw_{name}")).is_some()
        || host.types.function(&format!("__bpf_trace_{name}")).is_some()
        || host.symbols.address(&format!("__tracepoint_{name}")).is_some();
    if !known {
        return Err(Reason::NoTracepoint { name: name.clone(), absent: fact.absent.clone() });
    }
    Ok(Target { symbol: name.clone(), until: None, args: [NO_ARG; arg::COUNT] })
}

/// A function as it exists on this kernel.
struct Function {
    symbol: String,
    /// The signature in BTF, which a trampoline needs; only for a symbol with the function's own name.
    signature: Option<Signature>,
}

fn function(fact: &facts::Site, host: &Host) -> Result<Function, Reason> {
    let name = &fact.function;
    let symbol = match host.symbols.address(name) {
        Some(_) => Some(name.as_str()),
        None if fact.compiler_suffix => host.symbols.with_suffix(name),
        None => None,
    };
    let Some(symbol) = symbol else {
        let not_built = fact.config.clone().filter(|option| host.config_has(option) == Some(false));
        return Err(Reason::NoSymbol { name: name.clone(), absent: fact.absent.clone(), not_built });
    };
    if let (Some(least), Some(bytes)) = (fact.at_least_bytes, host.symbols.bytes(symbol))
        && bytes < least
    {
        return Err(Reason::Wrapper { symbol: symbol.to_owned(), bytes });
    }
    if host.can_trace(symbol) == Some(false) {
        return Err(Reason::NotTraceable(symbol.to_owned()));
    }
    // A compiler-made copy takes the arguments that the compiler chose.
    let signature = host.types.function(name).filter(|_| symbol == name);
    Ok(Function { symbol: symbol.to_owned(), signature })
}

/// Returns the target for this family, if the function can be served by it.
fn target(fact: &facts::Site, found: &Function, family: &Family, host: &Host) -> Result<Target, Reason> {
    let probed =
        family.programs.iter().all(|(_, attach)| matches!(attach, Attach::Kprobe | Attach::Kretprobe));
    let symbol = found.symbol.clone();
    let no_types = || Reason::NoTypes { symbol: symbol.clone() };
    let mut args = match &found.signature {
        Some(signature) => arguments(fact, signature)?,
        None if probed && fact.args.is_empty() => blank(fact),
        None => return Err(no_types()),
    };
    if probed {
        let fallback = fact.role == Role::Unshare;
        let doubtful = found
            .signature
            .as_ref()
            .is_none_or(|s| s.params.len() > TRAMPOLINE_ARGS || s.params.iter().any(|p| p.by_value_struct));
        if !doubtful && !fallback {
            return Err(Reason::Fact(format!("{symbol} can be traced: no kprobe is wanted")));
        }
        if let Some(n) =
            args[..arg::RET].iter().find(|n| **n != NO_ARG && usize::from(**n) >= TRAMPOLINE_ARGS)
        {
            return Err(Reason::Arguments(format!("argument {n} of {symbol} is on the stack")));
        }
        args[arg::RET] = 0;
    }
    Ok(Target { symbol, until: until(fact, host, &args)?, args })
}

/// Returns the function that ends a walk. It must take the same arguments in the same places.
fn until(fact: &facts::Site, host: &Host, args: &[u16; arg::COUNT]) -> Result<Option<String>, Reason> {
    let Some(name) = &fact.until else { return Ok(None) };
    let mut end = fact.clone();
    end.function.clone_from(name);
    let Some(signature) = function(&end, host)?.signature else {
        return Err(Reason::NoTypes { symbol: name.clone() });
    };
    if arguments(&end, &signature)?[..arg::RET] != args[..arg::RET] {
        return Err(Reason::Arguments(format!("{name} and {} take them in different places", fact.function)));
    }
    Ok(Some(name.clone()))
}

/// Returns a row without argument numbers.
fn blank(fact: &facts::Site) -> [u16; arg::COUNT] {
    let mut row = [NO_ARG; arg::COUNT];
    row[arg::FLAGS] = flags(fact);
    row[arg::MODE] = fact.mode.map_or(NO_ARG, |m| mode_number(m) as u16);
    row
}

fn flags(fact: &facts::Site) -> u16 {
    let mut flags = 0;
    if !fact.unlinks.is_empty() {
        flags |= flag::DIFF;
    }
    if fact.role == Role::Callback {
        flags |= flag::CALLBACK;
    }
    if fact.own {
        flags |= flag::OWN;
    }
    if fact.known_mm {
        flags |= flag::KNOWN_MM;
    }
    if !fact.args.desc.is_empty() {
        flags |= flag::DESC;
    }
    match fact.object {
        Some(Object::Inode) => flags |= flag::ENDS_INODE,
        Some(Object::Vma) => flags |= flag::ENDS_VMA,
        Some(Object::Mm) | None => {}
    }
    flags
}

/// Returns the argument numbers by column.
fn arguments(fact: &facts::Site, signature: &Signature) -> Result<[u16; arg::COUNT], Reason> {
    let mut row = blank(fact);
    let args = &fact.args;
    let columns: [(&[String], usize, &str, u16); 18] = [
        (&args.mm, arg::MM, "mm_struct *", 0),
        (&args.mapping, arg::MM, "address_space *", 0),
        (&args.vma, arg::VMA, "vm_area_struct *", 0),
        (&args.walk, arg::VMA, "mm_walk *", flag::VMA_IN_WALK),
        (&args.start, arg::START, "", 0),
        (&args.folio, arg::START, "folio *|page *", 0),
        (&args.end, arg::END, "", 0),
        (&args.length, arg::END, "", flag::END_IS_LENGTH),
        (&args.mask, arg::END, "", 0),
        (&args.pte, arg::EXTRA, "", 0),
        (&args.size, arg::EXTRA, "", 0),
        (&args.entry, arg::EXTRA, "", 0),
        (&args.tlb, arg::EXTRA, "mmu_gather *", 0),
        (&args.flags, arg::EXTRA, "", 0),
        (&args.file, arg::EXTRA, "file *", flag::FILE),
        (&args.inode, arg::EXTRA, "inode *", flag::INODE),
        (&args.dentry, arg::EXTRA, "dentry *", flag::DENTRY),
        (&args.desc, arg::EXTRA, "vm_area_desc *", flag::DESC),
    ];
    for (names, column, ty, flag) in columns {
        if names.is_empty() {
            continue;
        }
        let fits = |p: &crate::host::btf::Param| {
            names.contains(&p.name) && (ty.is_empty() || ty.split('|').any(|t| t == p.ty))
        };
        match signature.params.iter().position(fits) {
            Some(i) if i < TRACED_ARGS => row[column] = i as u16,
            Some(i) => {
                let words = format!("{}: argument {i} is beyond what a program reads", fact.function);
                return Err(Reason::Arguments(words));
            }
            // An operation needs only one of mm and VMA.
            None if column == arg::MM && !args.vma.is_empty() => continue,
            None if column == arg::VMA && row[arg::MM] != NO_ARG => continue,
            None => return Err(Reason::Arguments(no_argument(fact, signature, names, ty))),
        }
        row[arg::FLAGS] |= flag;
    }
    if signature.ret_bytes > 0 && signature.params.len() < TRACED_ARGS {
        row[arg::RET] = signature.params.len() as u16;
        if signature.ret_bytes <= 4 {
            row[arg::FLAGS] |= flag::RET_32;
        }
    }
    Ok(row)
}

fn no_argument(fact: &facts::Site, signature: &Signature, names: &[String], ty: &str) -> String {
    let has: Vec<_> = signature.params.iter().map(|p| format!("{} {}", p.ty, p.name)).collect();
    let wanted = format!("{} {ty}", names.join(" or "));
    format!("{} has no argument {}: it takes ({})", fact.function, wanted.trim_end(), has.join(", "))
}

pub(super) fn mode_number(m: Mode) -> u32 {
    match m {
        Mode::Read => mode::READ,
        Mode::Write => mode::WRITE,
        Mode::Exclusive => mode::EXCLUSIVE,
    }
}
