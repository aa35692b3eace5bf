//! Maps what the kernel provides to the sites that serve each role: a pure function, tested as a table.
//!
//! It decides by names, types and symbols, never by a version number. It does not predict what attaching will refuse: the
//! plan lists what to try and in which order, [`crate::host::attach`] reports the outcome, [`Plan::coverage`] describes both.

mod coverage;
mod resolve;
mod values;

use std::collections::BTreeMap;

use observer_ebpf::config::arg;
use observer_engine::setup::{self, Role};

pub use coverage::Graded;

use crate::{
    facts::{self, Facts},
    hint::Hint as _,
    host::{probe::Host, reason::Reason},
    meta::Level,
};

/// Program type used to attach to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    Fentry,
    Fexit,
    Kprobe,
    Kretprobe,
    Tracepoint,
}

impl Attach {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Attach::Fentry => "fentry",
            Attach::Fexit => "fexit",
            Attach::Kprobe => "kprobe",
            Attach::Kretprobe => "kretprobe",
            Attach::Tracepoint => "tp_btf",
        }
    }
}

/// One eBPF program and its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the program in the eBPF object.
    pub name: String,
    pub attach: Attach,
    /// Name of a kernel symbol or tracepoint.
    pub target: String,
}

impl Program {
    /// Names the attempt, for example `fexit on hugetlb_fault`.
    #[must_use]
    pub fn attempt(&self) -> String {
        format!("{} on {}", self.attach.name(), self.target)
    }
}

/// One way to serve a row. It works only if all of its programs attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Site number, see `observer_ebpf::config::site`.
    pub site: u16,
    pub programs: Vec<Program>,
    pub args: [u16; arg::COUNT],
}

/// A fact row with its site numbers in the object.
#[derive(Clone, Debug)]
pub struct PlannedSite {
    pub fact: facts::Site,
    /// Ways in order of preference; never empty.
    pub ways: Vec<Way>,
}

/// A row that cannot serve on this kernel, with the reason.
#[derive(Clone, Debug)]
pub struct Refused {
    pub fact: facts::Site,
    pub reason: Reason,
}

/// A variable that is read before the programs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    pub name: String,
    pub address: u64,
    pub bytes: u8,
}

/// Everything to try on this kernel.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub sites: Vec<PlannedSite>,
    pub refused: Vec<Refused>,
    pub fields: Vec<u64>,
    pub values: Vec<u64>,
    pub peeks: Vec<Peek>,
    pub exclusions: Vec<setup::Exclusion>,
    pub orders: Vec<setup::DocumentedOrder>,
    classes: Vec<facts::Class>,
    holes: Vec<facts::Hole>,
    /// Caller and lookup function, for callers that no row knows, or that run only inside unwatched operations.
    unwatched: Vec<(String, String)>,
    /// Fields and variables that this kernel lacks, by row name.
    unknown: BTreeMap<String, Reason>,
    /// Roles that stay blind even if everything attaches, with the reason.
    blind: Vec<(Role, Reason)>,
    pub level: Level,
}

/// Choices of the user. [`Options::check`] reports a name that no row has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    pub level: Level,
    /// Functions to treat as if the kernel did not have them.
    pub without: &'a [String],
}

impl Options<'_> {
    /// # Errors
    /// A function in `without` is not one that would be watched.
    pub fn check(&self, facts: &Facts) -> anyhow::Result<()> {
        match self.without.iter().find(|name| !facts.sites.iter().any(|s| s.is_called(name))) {
            None => Ok(()),
            Some(name) => Err(anyhow::anyhow!("--without {name}: no such function would be watched anyway"))
                .hint("`observer doctor --format json` lists the functions, under sites and unused"),
        }
    }
}

/// A program that could not be loaded or attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Name of the attempt, for example `fexit on hugetlb_fault`.
    pub attempt: String,
    /// The kernel's answer.
    pub error: String,
}

/// Outcome of attaching a planned site.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Index of the way that works; `None` if all failed.
    pub way: Option<usize>,
    /// Attempts that the kernel refused, including those of ways before the one that works.
    pub failures: Vec<Failure>,
    /// Set if the site was skipped because something that it needs is not watched.
    pub skipped: Option<Reason>,
}

impl Outcome {
    /// The outcome if the first way works, for a plan that the kernel has not been asked about.
    #[must_use]
    pub fn hoped() -> Outcome {
        Outcome { way: Some(0), ..Outcome::default() }
    }

    /// Returns why the site does not work, or why the ways before the working one failed. Empty if nothing was refused.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.skipped.clone().unwrap_or_else(|| Reason::Refused(self.failures.clone()))
    }
}

/// Returns the lowest level that probes a role.
fn level_of(role: Role) -> Level {
    match role {
        Role::Lock | Role::Wait | Role::FolioHeld | Role::FolioRelease => Level::Locks,
        Role::Ptl => Level::Full,
        _ => Level::Light,
    }
}

/// Decides what to try. Pure: the same host gives the same plan.
pub fn plan(facts: &Facts, host: &Host, options: Options<'_>) -> Plan {
    let mut plan = Plan {
        level: options.level,
        classes: facts.classes.clone(),
        holes: facts.holes.clone(),
        ..Plan::default()
    };
    let mut places = resolve::Places::default();
    let exists = |names: &Option<String>| any_exists(names, host);
    for fact in &facts.sites {
        let mut fact = fact.clone();
        fact.looks_up.retain(|l| !exists(&l.unless));
        fact.unlinks.retain(|u| !exists(&u.unless));
        match plan_site(&fact, host, options, &mut places) {
            Ok(Some(ways)) => plan.sites.push(PlannedSite { fact, ways }),
            Ok(None) => {}
            Err(reason) => plan.refused.push(Refused { fact, reason }),
        }
    }
    plan.drop_what_lacks_its_need();
    plan.unwatched = unwatched(facts, host, &plan);
    values::plan_values(facts, host, &mut plan);
    values::plan_rules(facts, host, &mut plan);
    plan
}

/// Returns true if a function with one of these names (separated by `|`) exists.
fn any_exists(names: &Option<String>, host: &Host) -> bool {
    names.iter().flat_map(|names| names.split('|')).any(|name| host.symbols.with_suffix(name).is_some())
}

/// Returns callers of lookup functions that no planned operation encloses. Empty if the kernel's text is not readable.
fn unwatched(facts: &Facts, host: &Host, plan: &Plan) -> Vec<(String, String)> {
    let is_planned =
        |name: &String| plan.sites.iter().any(|s| s.fact.role == Role::Operation && s.fact.function == *name);
    let is_seen = |caller: &str| match facts.caller(caller) {
        facts::Known::Row | facts::Known::Never => true,
        facts::Known::Inside(operations) => operations.iter().all(is_planned),
        facts::Known::Unknown => false,
    };
    let calls = host.callers.iter().flatten();
    let calls = calls.flat_map(|(callee, callers)| callers.iter().map(move |caller| (caller, callee)));
    calls.filter(|(caller, _)| !is_seen(caller)).map(|(by, to)| (by.clone(), to.clone())).collect()
}

/// Returns the ways to serve a row; `Ok(None)` if another row serves instead.
fn plan_site(
    fact: &facts::Site,
    host: &Host,
    options: Options<'_>,
    places: &mut resolve::Places,
) -> Result<Option<Vec<Way>>, Reason> {
    if options.without.iter().any(|name| fact.is_called(name)) {
        return Err(Reason::Hidden(fact.name().to_owned()));
    }
    // The end of an object is bookkeeping for its locks, and needed on every level.
    let needed = if fact.object.is_some() { Level::Light } else { level_of(fact.role) };
    if needed > options.level {
        return Err(Reason::Level { chosen: options.level, needed });
    }
    let has_type = fact.unless_type.as_ref().is_some_and(|ty| host.types.size_of(ty).is_some());
    if has_type || any_exists(&fact.unless, host) {
        return Ok(None);
    }
    resolve::ways(fact, host, places).map(Some)
}

impl Plan {
    /// Sites that [`super::own_call`] must reach: those of marked rows that work.
    #[must_use]
    pub fn own_call_sites(&self, outcomes: &[Outcome]) -> Vec<u16> {
        self.working(outcomes).filter(|(site, _)| site.fact.own_call).map(|(_, way)| way.site).collect()
    }

    /// Moves to `refused` every row whose records would be wrong without something that is not planned either.
    fn drop_what_lacks_its_need(&mut self) {
        let planned = std::mem::take(&mut self.sites);
        let served: Vec<String> = planned.iter().map(|s| s.fact.covers().to_owned()).collect();
        for site in planned {
            match site.fact.needs.iter().find(|need| !served.contains(need)) {
                None => self.sites.push(site),
                Some(need) => {
                    let why =
                        self.refused.iter().filter(|r| r.fact.covers() == need).map(|r| r.reason.clone());
                    let reason = Reason::Needs { what: need.clone(), why: Box::new(Reason::all(why)) };
                    self.refused.push(Refused { fact: site.fact, reason });
                }
            }
        }
    }

    /// Returns the outcomes of a plan that has not been tried yet.
    #[must_use]
    pub fn untried(&self) -> Vec<Outcome> {
        vec![Outcome::hoped(); self.sites.len()]
    }

    /// Returns the outcomes if the kernel refuses exactly these attempts.
    #[must_use]
    pub fn answered(&self, refused: &[Failure]) -> Vec<Outcome> {
        let outcome = |site: &PlannedSite| {
            let mut outcome = Outcome::default();
            for (n, way) in site.ways.iter().enumerate() {
                let refusal =
                    way.programs.iter().find_map(|p| refused.iter().find(|f| f.attempt == p.attempt()));
                match refusal {
                    Some(failure) => outcome.failures.push(failure.clone()),
                    None => {
                        outcome.way = Some(n);
                        break;
                    }
                }
            }
            outcome
        };
        let mut outcomes: Vec<Outcome> = self.sites.iter().map(outcome).collect();
        for site in 0..outcomes.len() {
            if let Some(reason) = self.missing_need(&outcomes, site) {
                outcomes[site] = Outcome { skipped: Some(reason), ..Outcome::default() };
            }
        }
        outcomes
    }

    /// Returns the need of a site that no other site serves.
    #[must_use]
    pub fn missing_need(&self, outcomes: &[Outcome], site: usize) -> Option<Reason> {
        self.sites[site].fact.needs.iter().find_map(|need| {
            let rows = self.sites.iter().zip(outcomes).filter(|(s, _)| s.fact.covers() == need);
            let failures: Vec<Vec<Failure>> = rows
                .map(|(_, outcome)| if outcome.way.is_some() { None } else { Some(outcome.failures.clone()) })
                .collect::<Option<_>>()?;
            let why = Box::new(Reason::Refused(failures.concat()));
            Some(Reason::Needs { what: need.clone(), why })
        })
    }

    /// Returns the sites that work, each with its working way.
    pub fn working<'a>(
        &'a self,
        outcomes: &'a [Outcome],
    ) -> impl Iterator<Item = (&'a PlannedSite, &'a Way)> {
        self.sites
            .iter()
            .zip(outcomes)
            .filter_map(|(site, outcome)| Some((site, site.ways.get(outcome.way?)?)))
    }

    /// Returns the engine's setup, given what attaching refused.
    pub fn setup(&self, outcomes: &[Outcome]) -> setup::Setup {
        let sites = self.working(outcomes).map(|(site, way)| setup::Site {
            id: observer_engine::event::SiteId(way.site),
            function: site.fact.name().to_owned(),
            role: site.fact.role,
            foreign_lookup_until: site.fact.foreign_lookup_until.as_deref().and_then(values::class),
            vma_locked: site.fact.vma_locked,
            last_user: site.fact.last_user,
            folio_taken: site.fact.folio.as_ref().map(folio_taken),
            late: site.fact.late,
            try_then_block: site.fact.try_then_block.iter().filter_map(|c| values::class(c)).collect(),
        });
        setup::Setup {
            sites: sites.collect(),
            exclusions: self.exclusions.clone(),
            orders: self.orders.clone(),
            coverage: self.coverage(outcomes).into_iter().map(|g| g.coverage).collect(),
        }
    }
}

#[cfg(test)]
mod tests;

fn folio_taken(fact: &facts::FolioTaken) -> setup::FolioTaken {
    setup::FolioTaken {
        after: fact.after.iter().filter_map(|name| values::class(name)).collect(),
        first: fact.first,
        blocks: fact.blocks,
    }
}
