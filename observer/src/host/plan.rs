//! From what the kernel has to which sites serve which roles: a pure function, tested as a table.
//!
//! Decides by names, types and symbols, never by a version number. What attaching then refuses is not decided here: the
//! plan says what to try, [`crate::host::attach`] reports what became of it, and [`Plan::coverage`] words both.

use std::collections::BTreeMap;

use observer_ebpf::{
    class,
    config::{NO_ARG, NO_FIELD, arg, field, flag, site, value},
    mode,
};
use observer_engine::setup::{self, Coverage, Grade, Role};

use crate::{
    facts::{self, Facts, How, Mode, Object, Step},
    host::{
        btf::{Btf, Signature},
        probe::Host,
    },
    meta::Level,
};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    Fentry,
    Fexit,
    Kretprobe,
    Tracepoint,
}

/// One program and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name in the eBPF object.
    pub name: String,
    pub attach: Attach,
    /// Kernel symbol or tracepoint.
    pub target: String,
}

/// A fact that found its place in the object.
#[derive(Clone, Debug)]
pub struct PlannedSite {
    /// Site number, see `observer_ebpf::config::site`.
    pub id: u16,
    pub fact: facts::Site,
    pub programs: Vec<Program>,
    pub args: [u8; arg::COUNT],
}

/// A row that cannot serve here, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub role: Role,
    pub function: String,
    pub reason: String,
}

/// A variable whose value is read before the programs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    pub name: String,
    pub address: u64,
    pub bytes: u8,
}

/// What to try on this kernel.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub sites: Vec<PlannedSite>,
    pub refused: Vec<Refused>,
    pub fields: Vec<u64>,
    pub values: Vec<u64>,
    pub peeks: Vec<Peek>,
    pub exclusions: Vec<setup::Exclusion>,
    pub orders: Vec<setup::DocumentedOrder>,
    pub holes: Vec<Coverage>,
    /// Roles that see nothing whatever attaches, and why.
    pub blind: Vec<(Role, String)>,
    pub level: Level,
}

/// Level from which on a role is probed.
fn level_of(role: Role) -> Level {
    match role {
        Role::Lock | Role::Wait | Role::FolioHeld | Role::FolioRelease => Level::Locks,
        Role::Ptl => Level::Full,
        _ => Level::Light,
    }
}

/// The family of programs that serves a row: first site number, how many, and the programs of a copy.
fn family(fact: &facts::Site) -> (usize, usize, Vec<(&'static str, Attach)>) {
    use Attach::{Fentry, Fexit, Kretprobe, Tracepoint};
    match fact.role {
        // Facts have no rows of role unlink: operations say that they unlink.
        Role::Operation | Role::Callback | Role::Unlink => {
            (site::OP, site::OPS, vec![("op_end", Fexit), ("op_begin", Fentry)])
        }
        Role::Lookup => (site::LOOKUP, site::LOOKUPS, vec![("lookup", Fexit)]),
        Role::Share => (site::SHARE, site::SHARES, vec![("share", Fexit)]),
        Role::TableAlloc => (site::TABLE_ALLOC, site::TABLE_ALLOCS, vec![("table_alloc", Fexit)]),
        Role::Unshare => (site::UNSHARE, site::UNSHARES, vec![("unshare", Kretprobe)]),
        Role::TableFree => (site::TABLE_FREE, site::TABLE_FREES, vec![("table_free", Fentry)]),
        Role::Lock if fact.object.is_some() => {
            (site::OBJECT_END, site::OBJECT_ENDS, vec![("object_end", Fentry)])
        }
        Role::Lock => match fact.step {
            Some(Step::Try) => (site::TRY, site::TRIES, vec![("try", Fexit)]),
            Some(Step::Release) => (site::RELEASE, site::RELEASES, vec![("release", Fentry)]),
            Some(Step::Downgrade) => (site::DOWNGRADE, site::DOWNGRADES, vec![("downgrade", Fentry)]),
            _ if fact.can_fail => (site::ASK, site::ASKS, vec![("ask", Fentry), ("ask_end", Fexit)]),
            _ => (site::ASK, site::ASKS, vec![("ask", Fentry)]),
        },
        // No fexit on spinlock functions: it hung a kernel (locks.md: 6.1, measured).
        Role::Ptl if fact.step == Some(Step::Release) => {
            (site::SPIN_UNLOCK, site::SPIN_UNLOCKS, vec![("spin_unlock", Fentry)])
        }
        Role::Ptl => (site::SPIN_LOCK, site::SPIN_LOCKS, vec![("spin_lock", Fentry)]),
        Role::Wait => (site::WAIT, site::WAITS, vec![("wait", Tracepoint)]),
        Role::FolioHeld => match fact.how {
            Some(How::Returned) => {
                (site::FOLIO_LOOKUP, site::FOLIO_LOOKUPS, vec![("folio_ask", Fentry), ("folio_got", Fexit)])
            }
            Some(How::SlowPath) => {
                (site::FOLIO_SLOW, site::FOLIO_SLOWS, vec![("folio_wait", Fentry), ("folio_woken", Fexit)])
            }
            _ => (site::FOLIO_CONTRACT, site::FOLIO_CONTRACTS, vec![("contract", Fentry)]),
        },
        Role::FolioRelease => (site::FOLIO_UNLOCK, site::FOLIO_UNLOCKS, vec![("folio_unlock", Fentry)]),
        Role::Task => (site::TASK, site::TASKS, vec![("task", Tracepoint)]),
    }
}

/// Decides what to try. Pure: the same host gives the same plan.
pub fn plan(facts: &Facts, host: &Host, level: Level) -> Plan {
    let mut plan = Plan { level, ..Plan::default() };
    let mut used = BTreeMap::new();
    for fact in facts.sites.iter().filter(|f| f.object.is_some() || level_of(f.role) <= level) {
        match plan_site(fact, host, &mut used) {
            Ok(Some(site)) => plan.sites.push(site),
            Ok(None) => {}
            Err(reason) => {
                plan.refused.push(Refused { role: fact.role, function: fact.name().to_owned(), reason });
            }
        }
    }
    plan_values(facts, host, &mut plan);
    plan_rules(facts, host, &mut plan);
    plan
}

/// `Ok(None)`: another row serves instead.
fn plan_site(
    fact: &facts::Site,
    host: &Host,
    used: &mut BTreeMap<usize, usize>,
) -> Result<Option<PlannedSite>, String> {
    if let Some(other) = &fact.unless
        && host.symbols.with_suffix(other).is_some()
    {
        return Ok(None);
    }
    let (first, count, copies) = family(fact);
    let index = match (fact.role, fact.tracepoint.as_str()) {
        // The two tracepoints of a family differ in their program.
        (Role::Wait | Role::Task, name) => usize::from(name.ends_with("_end") || name.ends_with("_fork")),
        _ => used.get(&first).copied().unwrap_or(0),
    };
    if index >= count {
        return Err(format!("the object has no more than {count} programs of this kind"));
    }
    let (target, args) = if fact.function.is_empty() {
        if host.btf.size_of(&format!("trace_event_raw_{}", fact.tracepoint)).is_none()
            && host.btf.function(&format!("__bpf_trace_{}", fact.tracepoint)).is_none()
            && host.symbols.address(&format!("__tracepoint_{}", fact.tracepoint)).is_none()
        {
            return Err(format!("no tracepoint {} on this kernel", fact.tracepoint));
        }
        (fact.tracepoint.clone(), [NO_ARG; arg::COUNT])
    } else {
        resolve_function(fact, host, &copies)?
    };
    used.insert(first, index + 1);
    let programs = copies
        .iter()
        .map(|(name, attach)| {
            let name = match (fact.role, index) {
                (Role::Task, 0) => "task_exit".to_owned(),
                (Role::Task, _) => "task_fork".to_owned(),
                _ => format!("{name}_{index}"),
            };
            Program { name, attach: *attach, target: target.clone() }
        })
        .collect();
    Ok(Some(PlannedSite { id: (first + index) as u16, fact: fact.clone(), programs, args }))
}

/// Symbol and argument row of a function.
fn resolve_function(
    fact: &facts::Site,
    host: &Host,
    copies: &[(&'static str, Attach)],
) -> Result<(String, [u8; arg::COUNT]), String> {
    let name = &fact.function;
    let symbol = if fact.compiler_suffix {
        host.symbols.with_suffix(name)
    } else {
        host.symbols.address(name).map(|_| name.as_str())
    };
    let Some(symbol) = symbol else { return Err(format!("no symbol {name} on this kernel")) };
    if copies.iter().all(|(_, attach)| *attach == Attach::Kretprobe) {
        return Ok((symbol.to_owned(), [NO_ARG; arg::COUNT]));
    }
    let Some(signature) = host.btf.function(name) else {
        return Err(format!("symbol {symbol} exists, but BTF has no function {name}"));
    };
    Ok((symbol.to_owned(), arguments(fact, &signature)?))
}

/// Argument numbers by column.
fn arguments(fact: &facts::Site, signature: &Signature) -> Result<[u8; arg::COUNT], String> {
    let mut row = [NO_ARG; arg::COUNT];
    let mut flags = 0;
    let args = &fact.args;
    let columns: [(&[String], usize, &str, u8); 13] = [
        (&args.mm, arg::MM, "mm_struct *", 0),
        (&args.mapping, arg::MM, "address_space *", 0),
        (&args.vma, arg::VMA, "vm_area_struct *", 0),
        (&args.walk, arg::VMA, "mm_walk *", flag::VMA_IN_WALK),
        (&args.start, arg::START, "", 0),
        (&args.folio, arg::START, "folio *|page *", 0),
        (&args.end, arg::END, "", 0),
        (&args.length, arg::END, "", flag::END_IS_LENGTH),
        (&args.pte, arg::EXTRA, "", 0),
        (&args.size, arg::EXTRA, "", 0),
        (&args.entry, arg::EXTRA, "", 0),
        (&args.tlb, arg::EXTRA, "mmu_gather *", 0),
        (&args.flags, arg::EXTRA, "", 0),
    ];
    for (names, column, ty, flag) in columns {
        if names.is_empty() {
            continue;
        }
        let found = signature
            .params
            .iter()
            .position(|p| names.contains(&p.name) && (ty.is_empty() || ty.split('|').any(|t| t == p.ty)));
        match found {
            Some(i) if i < 8 => row[column] = i as u8,
            Some(i) => return Err(format!("{}: argument {i} is beyond what a program reads", fact.function)),
            // An operation can do without an mm where its VMA gives one.
            None if column == arg::MM && !args.vma.is_empty() => continue,
            None => {
                let has: Vec<_> = signature.params.iter().map(|p| format!("{} {}", p.ty, p.name)).collect();
                return Err(format!(
                    "{} has no argument {} {ty}: it takes ({})",
                    fact.function,
                    names.join(" or "),
                    has.join(", ")
                ));
            }
        }
        flags |= flag;
    }
    if signature.ret_bytes > 0 && signature.params.len() < 8 {
        row[arg::RET] = signature.params.len() as u8;
        if signature.ret_bytes <= 4 {
            flags |= flag::RET_32;
        }
    }
    if fact.unlinks {
        flags |= flag::DIFF;
    }
    if fact.role == Role::Callback {
        flags |= flag::CALLBACK;
    }
    match fact.object {
        Some(Object::Inode) => flags |= flag::INODE,
        Some(Object::Vma) => flags |= flag::VMA,
        Some(Object::Mm) | None => {}
    }
    row[arg::FLAGS] = flags;
    row[arg::MODE] = fact.mode.map_or(NO_ARG, |m| mode_number(m) as u8);
    Ok(row)
}

fn mode_number(m: Mode) -> u32 {
    match m {
        Mode::Read => mode::READ,
        Mode::Write => mode::WRITE,
        Mode::Exclusive => mode::EXCLUSIVE,
    }
}

/// First of a field's paths that this kernel has.
fn field_path<'a>(field: &'a facts::Field, btf: &Btf) -> Option<(&'a str, crate::host::btf::FieldAt)> {
    field.paths.iter().find_map(|path| Some((path.as_str(), btf.field(path)?)))
}

fn plan_values(facts: &Facts, host: &Host, plan: &mut Plan) {
    plan.fields = vec![NO_FIELD; field::COUNT];
    plan.values = vec![0; value::COUNT];
    let mut blinded = Vec::new();
    let mut blind = |roles: &[String], reason: &str| {
        let roles = roles.iter().filter_map(|r| Role::from_name(r));
        blinded.extend(roles.map(|role| (role, reason.to_owned())));
    };
    let mut set = |name: &str, v: u64| {
        if let Some(i) = value::NAMES.iter().position(|n| *n == name) {
            plan.values[i] = v;
        }
    };
    for fact in &facts.constants {
        set(&fact.name, fact.value);
    }
    for fact in &facts.sizes {
        set(&fact.name, host.btf.size_of(&fact.r#type).unwrap_or(0));
    }
    for fact in &facts.fields {
        let (Some(i), Some((path, at))) =
            (field::NAMES.iter().position(|n| *n == fact.name), field_path(fact, &host.btf))
        else {
            blind(&fact.blinds, &format!("BTF has no field {}", fact.paths.join(" or ")));
            continue;
        };
        plan.fields[i] = at.offset;
        if i == field::TABLE_PTL {
            set("ptl-is-pointer", u64::from(at.is_pointer));
        }
        if i == field::TABLE_SHARES {
            // A count of its own is 0 for a single user; the page's reference count, used before, is 1.
            set("share-count-alone", u64::from(path.ends_with("._refcount")));
        }
    }
    for fact in &facts.variables {
        match (host.symbols.address(&fact.symbol), fact.absent) {
            (Some(address), _) if address != 0 => {
                plan.peeks.push(Peek { name: fact.name.clone(), address, bytes: fact.bytes });
            }
            (_, Some(absent)) => {
                if let Some(i) = value::NAMES.iter().position(|n| *n == fact.name) {
                    plan.values[i] = absent;
                }
            }
            _ => {
                let reason = format!("no address of the variable {} in the symbol table", fact.symbol);
                blind(&fact.blinds, &reason);
            }
        }
    }
    plan.blind = blinded;
}

fn plan_rules(facts: &Facts, host: &Host, plan: &mut Plan) {
    use observer_engine::event::{Class, Mode as EngineMode};
    let class =
        |name: &str| class::NAMES.iter().position(|n| *n == name).and_then(|n| Class::from_wire(n as u32));
    let has_field =
        |name: &str| facts.fields.iter().any(|f| f.name == name && field_path(f, &host.btf).is_some());
    let has_function = |name: &str| host.symbols.address(name).is_some();
    for fact in &facts.exclusions {
        if let Some(class) = class(&fact.class) {
            let modes = fact.modes.iter().filter_map(|m| EngineMode::from_wire(mode_number(*m))).collect();
            plan.exclusions.push(setup::Exclusion { class, modes, except_unlink_sites: fact.except.clone() });
        }
    }
    for fact in &facts.orders {
        let applies =
            fact.when.as_deref().is_none_or(has_field) && !fact.when_not.as_deref().is_some_and(has_field);
        if applies {
            plan.orders.push(setup::DocumentedOrder {
                source: fact.source.clone(),
                outer_to_inner: fact.outer_to_inner.iter().filter_map(|c| class(c)).collect(),
            });
        }
    }
    for fact in &facts.holes {
        let applies = fact.when.as_deref().is_none_or(has_function)
            && !fact.when_not.as_deref().is_some_and(has_function);
        if applies && level_of(fact.role) <= plan.level {
            plan.holes.push(Coverage {
                role: fact.role,
                part: fact.part.clone(),
                grade: match fact.grade {
                    facts::Grade::Bounded => Grade::Bounded,
                    facts::Grade::Inferred => Grade::Inferred,
                    facts::Grade::Blind => Grade::Blind,
                },
                reason: fact.reason.clone(),
            });
        }
    }
}

/// A program that could not be loaded or attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub site: u16,
    pub program: String,
    pub target: String,
    /// What was tried, as in `fexit on hugetlb_fault`.
    pub attempt: String,
    /// The kernel's answer.
    pub error: String,
}

impl Failure {
    /// Attempt and answer.
    #[must_use]
    pub fn reason(&self) -> String {
        format!("{}: {}", self.attempt, self.error)
    }
}

/// Attempts of one answer that are named; the others are counted.
const NAMED_ATTEMPTS: usize = 3;

/// One sentence for each answer, with the attempts that got it: a kernel that refuses all says it once.
pub fn summary<'a>(failures: impl IntoIterator<Item = &'a Failure>) -> Vec<String> {
    let mut by_error: Vec<(&str, Vec<&str>)> = Vec::new();
    for failure in failures {
        match by_error.iter_mut().find(|(error, _)| *error == failure.error) {
            Some((_, attempts)) => attempts.push(&failure.attempt),
            None => by_error.push((&failure.error, vec![&failure.attempt])),
        }
    }
    let sentence = |(error, attempts): (&str, Vec<&str>)| {
        let named = attempts.iter().take(NAMED_ATTEMPTS).copied().collect::<Vec<_>>().join(", ");
        match attempts.len().saturating_sub(NAMED_ATTEMPTS) {
            0 => format!("{named}: {error}"),
            more => format!("{named} and {more} more: {error}"),
        }
    };
    by_error.into_iter().map(sentence).collect()
}

impl Plan {
    /// How well each role is covered, given what attaching refused. Roles above the level are blind by choice.
    pub fn coverage(&self, failures: &[Failure]) -> Vec<Coverage> {
        let mut rows = Vec::new();
        for wanted in Role::ALL {
            let sites: Vec<_> = self.sites.iter().filter(|s| serves(s, wanted)).collect();
            let failed = |s: &PlannedSite| failures.iter().find(|f| f.site == s.id);
            let working = sites.iter().filter(|s| failed(s).is_none()).count();
            let hole = self.holes.iter().find(|h| h.role == wanted && h.part.is_empty());
            let without = self.blind.iter().find(|(role, _)| *role == wanted);
            let (grade, reason) = if working == 0 {
                (Grade::Blind, self.why_blind(wanted, &sites, failures))
            } else if let Some((_, reason)) = without {
                (Grade::Blind, reason.clone())
            } else if let Some(hole) = hole {
                (hole.grade, hole.reason.clone())
            } else if wanted == Role::Unlink {
                (Grade::Bounded, "known between entry and return of the enclosing function".to_owned())
            } else {
                (Grade::Exact, String::new())
            };
            rows.push(Coverage { role: wanted, part: String::new(), grade, reason });
            for site in sites {
                if let Some(failure) = failed(site)
                    && working > 0
                {
                    let part = site.fact.name().to_owned();
                    rows.push(Coverage { role: wanted, part, grade: Grade::Blind, reason: failure.reason() });
                }
            }
            rows.extend(self.holes.iter().filter(|h| h.role == wanted && !h.part.is_empty()).cloned());
        }
        rows
    }

    fn why_blind(&self, wanted: Role, sites: &[&PlannedSite], failures: &[Failure]) -> String {
        let failed = failures.iter().filter(|f| sites.iter().any(|s| s.id == f.site));
        let mut reasons = summary(failed);
        reasons.extend(self.refused.iter().filter(|r| r.role == wanted).map(|r| r.reason.clone()));
        if reasons.is_empty() {
            format!("not probed at level {}", self.level.name())
        } else {
            reasons.join("; ")
        }
    }

    /// What the engine is told, given what attaching refused.
    pub fn setup(&self, failures: &[Failure]) -> setup::Setup {
        let sites = self
            .sites
            .iter()
            .filter(|s| !failures.iter().any(|f| f.site == s.id))
            .map(|s| setup::Site {
                id: observer_engine::event::SiteId(s.id),
                function: s.fact.name().to_owned(),
                role: s.fact.role,
                foreign_lookup_until: s.fact.foreign_lookup_until.as_deref().and_then(|name| {
                    let n = class::NAMES.iter().position(|c| *c == name)?;
                    observer_engine::event::Class::from_wire(n as u32)
                }),
                try_then_block: false,
            })
            .collect();
        setup::Setup {
            sites,
            exclusions: self.exclusions.clone(),
            orders: self.orders.clone(),
            coverage: self.coverage(failures),
        }
    }
}

fn serves(site: &PlannedSite, wanted: Role) -> bool {
    match wanted {
        Role::Unlink => site.fact.unlinks,
        // The end of an object is bookkeeping of its locks, on every level: it shows no lock.
        _ => site.fact.role == wanted && site.fact.object.is_none(),
    }
}

#[cfg(test)]
mod tests;
