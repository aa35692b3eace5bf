//! Kernel facts as rows: `observer/facts/*.toml`, embedded and parsed strictly.
//!
//! Kernel symbols are spelled only there. Decides what a well-formed row is; the plan ([`crate::host::plan`]) decides which
//! rows serve on a given kernel.

mod callers;
mod rules;

use observer_engine::setup::Role;
use serde::{Deserialize, Deserializer, de::Error as _};

use callers::CallersFile;
pub use callers::{Caller, Known};
use rules::RulesFile;
pub use rules::{Class, Exclusion, Grade, Hole, LockKind, Order, OrderException};

/// The facts of all files in `observer/facts`.
#[derive(Debug)]
pub struct Facts {
    pub sites: Vec<Site>,
    pub fields: Vec<Field>,
    pub variables: Vec<Variable>,
    pub sizes: Vec<Size>,
    pub marks: Vec<Mark>,
    pub constants: Vec<Constant>,
    pub exclusions: Vec<Exclusion>,
    pub orders: Vec<Order>,
    pub classes: Vec<Class>,
    pub holes: Vec<Hole>,
    pub callers: Vec<Caller>,
}

/// A function or tracepoint that can serve a role.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Site {
    #[serde(deserialize_with = "role")]
    pub role: Role,
    #[serde(default)]
    pub function: String,
    #[serde(default)]
    pub tracepoint: String,
    /// The symbol has a compiler-made suffix (`.constprop.0`, `.isra.0`); any is accepted.
    #[serde(default)]
    pub compiler_suffix: bool,
    /// Excludes this row if a symbol of one of these names exists, with or without a compiler-made suffix; `a|b`.
    pub unless: Option<String>,
    /// Excludes this row if the kernel has this type.
    pub unless_type: Option<String>,
    #[serde(default)]
    pub args: Args,
    /// Operations and callbacks: the lookup sites that people know them as.
    #[serde(default)]
    pub looks_up: Vec<LooksUp>,
    /// Operations: the unlink sites that people know them as. Links may be removed inside; the entries behind its lookups are
    /// compared.
    #[serde(default)]
    pub unlinks: Vec<Unlinks>,
    pub foreign_lookup_until: Option<String>,
    /// Walks: the function whose entry ends it.
    pub until: Option<String>,
    /// Every lookup inside happens under the mmap_lock of the mm that is looked up in, or under the VMA's own lock.
    #[serde(default)]
    pub vma_locked: bool,
    /// Runs when the mm has no users left.
    #[serde(default)]
    pub last_user: bool,
    /// Operations: the point at which they lock a folio, if that is visible only late or by its release.
    pub folio: Option<FolioTaken>,
    /// Contracts of a locked folio: it may have been locked long before.
    #[serde(default)]
    pub late: bool,
    /// Applies only if the mm's lock is watched already.
    #[serde(default)]
    pub known_mm: bool,
    /// The function is called for hugetlbfs only, perhaps before its VMA is marked.
    #[serde(default)]
    pub own: bool,
    pub step: Option<Step>,
    pub mode: Option<Mode>,
    pub how: Option<How>,
    /// Trylocks: classes for which a success counts as a blocking request, since every caller that fails then blocks.
    #[serde(default)]
    pub try_then_block: Vec<String>,
    /// Returns 0 with the lock, anything else without it.
    #[serde(default)]
    pub can_fail: bool,
    pub object: Option<Object>,
    /// The thing to see, if this row is one of several ways to see it.
    covers: Option<String>,
    /// If nothing serves what it covers, the role is blind.
    #[serde(default)]
    pub essential: bool,
    /// [`crate::host::own_call`] reaches the function.
    #[serde(default)]
    pub own_call: bool,
    /// Things that must be watched too, named by what they cover: otherwise this row's records would be wrong.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Least code size in bytes: a smaller symbol is only a wrapper.
    pub at_least_bytes: Option<u64>,
    /// Reason why a kernel may lack it.
    pub absent: Option<String>,
    /// Configuration option that builds it.
    pub config: Option<String>,
    /// Stock kernels on which it serves. The plan does not use it; the kernel matrix asserts it.
    pub on: On,
    /// Source of the row, read or measured.
    pub source: String,
}

/// Row form of [`observer_engine::setup::FolioTaken`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FolioTaken {
    pub after: Vec<String>,
    #[serde(default)]
    pub first: bool,
    #[serde(default)]
    pub blocks: bool,
}

/// A lookup site, and the lookup function that it goes through; a walk has no such function.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct LooksUp {
    pub site: String,
    pub through: Option<String>,
    /// Excludes the site if a function of one of these names exists, `a|b`: that function is the site then.
    pub unless: Option<String>,
}

/// An unlink site of an operation.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Unlinks {
    pub site: String,
    /// Exclusion by function names, as in [`LooksUp`].
    pub unless: Option<String>,
}

/// Kernels that a fact is measured on, the newest Debian builds of five series.
pub const MEASURED: [&str; 5] = ["5.10", "6.1", "6.12", "6.18", "7.3"];

/// Kernels of [`MEASURED`] on which a fact holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct On(Vec<String>);

impl On {
    #[must_use]
    pub fn has(&self, kernel: &str) -> bool {
        self.0.iter().any(|k| k == kernel)
    }
}

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<On, D::Error> {
        let text = String::deserialize(deserializer)?;
        let names: Vec<_> = text.split_ascii_whitespace().map(str::to_owned).collect();
        match names.iter().find(|n| !MEASURED.contains(&n.as_str())) {
            Some(name) => Err(D::Error::custom(format!("'{name}' is not one of the measured kernels"))),
            None => Ok(On(names)),
        }
    }
}

impl Site {
    /// Name of its function, or else of its tracepoint.
    pub fn name(&self) -> &str {
        if self.function.is_empty() { &self.tracepoint } else { &self.function }
    }

    /// Returns true if the name means this row, perhaps with a compiler-made suffix of its symbol.
    pub fn is_called(&self, name: &str) -> bool {
        name.split('.').next() == Some(self.name())
    }

    /// The thing to see, if the row is one of several ways; else its own name.
    pub fn covers(&self) -> &str {
        self.covers.as_deref().unwrap_or(self.name())
    }
}

/// Effect of a lock function.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Ask,
    Try,
    Release,
    Downgrade,
}

/// Lock modes of the facts.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Read,
    Write,
    Exclusive,
}

/// Proof of a folio lock by a function.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    Returned,
    Contract,
    SlowPath,
}

/// Object that ends at a site; its address is not a watched lock after that.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    Inode,
    Vma,
    Mm,
}

/// Argument names by meaning; each a list of alternatives.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Args {
    pub mm: Vec<String>,
    pub vma: Vec<String>,
    pub walk: Vec<String>,
    pub start: Vec<String>,
    pub end: Vec<String>,
    pub length: Vec<String>,
    pub pte: Vec<String>,
    pub size: Vec<String>,
    pub entry: Vec<String>,
    pub tlb: Vec<String>,
    pub folio: Vec<String>,
    pub mapping: Vec<String>,
    pub flags: Vec<String>,
    pub file: Vec<String>,
    pub inode: Vec<String>,
    pub dentry: Vec<String>,
    pub desc: Vec<String>,
    pub mask: Vec<String>,
}

impl Args {
    /// Returns true if the row needs no arguments.
    pub fn is_empty(&self) -> bool {
        let Args { mm, vma, walk, start, end, length, pte, size, entry, tlb, folio, mapping, .. } = self;
        let Args { flags, file, inode, dentry, desc, mask, .. } = self;
        let first = [mm, vma, walk, start, end, length, pte, size, entry, tlb, folio, mapping];
        let others = [flags, file, inode, dentry, desc, mask];
        first.into_iter().chain(others).all(Vec::is_empty)
    }
}

/// A field, with several paths: the first that exists is used.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    /// Paths in order of preference.
    pub paths: Vec<Path>,
    /// Roles that see nothing without it.
    #[serde(default)]
    pub blinds: Vec<String>,
    pub source: String,
}

/// One path of a field, and the measured kernels that have it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Path {
    pub path: String,
    pub on: On,
}

/// A kernel variable.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    pub symbol: String,
    pub bytes: u8,
    /// Value if the kernel has no such symbol.
    pub absent: Option<u64>,
    pub on: On,
    /// Roles that see nothing without it.
    #[serde(default)]
    pub blinds: Vec<String>,
    pub source: String,
}

/// The size of a type.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub name: String,
    pub r#type: String,
    pub source: String,
}

/// A byte of a folio that shows its type.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mark {
    pub name: String,
    /// Field of a page.
    pub path: String,
    /// True if the byte is in the folio's second page.
    #[serde(default)]
    pub second_page: bool,
    /// Bytes from the field's start.
    #[serde(default)]
    pub plus: u64,
    /// Enum that has its values; `enumerator` names the value.
    pub r#type: String,
    pub enumerator: String,
    pub on: On,
    pub source: String,
}

/// A constant that BTF does not carry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    pub name: String,
    pub value: u64,
    pub source: String,
}

/// Deserializes a role by its usual name.
fn role<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    let name = String::deserialize(deserializer)?;
    Role::from_name(&name).ok_or_else(|| D::Error::custom(format!("no role '{name}'")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SitesFile {
    site: Vec<Site>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldsFile {
    field: Vec<Field>,
    variable: Vec<Variable>,
    size: Vec<Size>,
    mark: Vec<Mark>,
    constant: Vec<Constant>,
}

/// A row that does not parse, or does not make sense.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("facts/{file} is malformed")]
    Parse { file: &'static str, source: Box<toml::de::Error> },
    #[error("facts/{file}: {what}")]
    Row { file: &'static str, what: String },
}

/// Parses the embedded facts.
///
/// # Errors
/// [`Error`] names the file and the row; a release never has one, a test parses them.
pub fn load() -> Result<Facts, Error> {
    fn parse<T: for<'de> Deserialize<'de>>(file: &'static str, text: &str) -> Result<T, Error> {
        toml::from_str(text).map_err(|e| Error::Parse { file, source: Box::new(e) })
    }
    let sites: SitesFile = parse("sites.toml", include_str!("../facts/sites.toml"))?;
    let locks: SitesFile = parse("locks.toml", include_str!("../facts/locks.toml"))?;
    let fields: FieldsFile = parse("fields.toml", include_str!("../facts/fields.toml"))?;
    let rules: RulesFile = parse("rules.toml", include_str!("../facts/rules.toml"))?;
    let callers: CallersFile = parse("callers.toml", include_str!("../facts/callers.toml"))?;
    let facts = Facts {
        sites: sites.site.into_iter().chain(locks.site).collect(),
        fields: fields.field,
        variables: fields.variable,
        sizes: fields.size,
        marks: fields.mark,
        constants: fields.constant,
        exclusions: rules.exclusion,
        orders: rules.order,
        classes: rules.class,
        holes: rules.hole,
        callers: callers.caller,
    };
    facts.check()?;
    Ok(facts)
}

impl Facts {
    /// Checks across rows: names that rows refer to must be names of other rows.
    fn check(&self) -> Result<(), Error> {
        for site in &self.sites {
            if let Some(what) = self.problem_of(site) {
                let file = "sites.toml, locks.toml";
                return Err(Error::Row { file, what: format!("{}: {what}", site.name()) });
            }
        }
        let rules = |what: String| Err(Error::Row { file: "rules.toml", what });
        let blinds = self.fields.iter().flat_map(|f| &f.blinds);
        for role in blinds.chain(self.variables.iter().flat_map(|v| &v.blinds)) {
            if Role::from_name(role).is_none() {
                return Err(Error::Row { file: "fields.toml", what: format!("no role '{role}'") });
            }
        }
        let classes = &observer_ebpf::class::NAMES[1..];
        let named = self.exclusions.iter().map(|e| &e.class);
        let named = named.chain(self.sites.iter().flat_map(|s| &s.try_then_block));
        let named = named.chain(self.orders.iter().flat_map(|o| &o.outer_to_inner));
        for class in named.chain(self.classes.iter().map(|c| &c.name)) {
            if !classes.contains(&class.as_str()) {
                return rules(format!("no lock class '{class}'"));
            }
        }
        for order in &self.orders {
            if let Some(what) = order.problem() {
                return rules(format!("order of {}: {what}", order.source));
            }
            let at = order.exceptions.iter().flat_map(|e| &e.at);
            let is_op =
                |name: &str| self.sites.iter().any(|s| s.role == Role::Operation && s.function == name);
            if let Some(name) = at.into_iter().find(|name| !is_op(name)) {
                return rules(format!("order of {}: no operation '{name}'", order.source));
            }
        }
        for class in &self.classes {
            let has_row = |name: &String| {
                self.fields.iter().any(|f| f.name == *name) || self.variables.iter().any(|v| v.name == *name)
            };
            if let Some(name) = class.known.iter().find(|name| !has_row(name)) {
                return rules(format!("class {}: no field or variable '{name}'", class.name));
            }
            if let Some(end) = &class.ends
                && !self.sites.iter().any(|s| s.object.is_some() && s.function == *end)
            {
                return rules(format!("class {}: no object ends at '{end}'", class.name));
            }
        }
        for caller in &self.callers {
            if let Some(what) = caller.problem(self) {
                let what = format!("{}: {what}", caller.function);
                return Err(Error::Row { file: "callers.toml", what });
            }
        }
        for hole in &self.holes {
            if let Some(what) = &hole.unserved
                && !self.sites.iter().any(|s| s.role == hole.role && s.covers() == what)
            {
                return rules(format!("hole of {}: no row covers '{what}'", hole.role.name()));
            }
        }
        Ok(())
    }

    /// Returns true if a row covers this and needs nothing itself.
    fn can_be_needed(&self, what: &str) -> bool {
        let mut rows = self.sites.iter().filter(|s| s.covers() == what).peekable();
        rows.peek().is_some() && rows.all(|s| s.needs.is_empty())
    }

    fn problem_of(&self, site: &Site) -> Option<String> {
        if site.function.is_empty() == site.tracepoint.is_empty() {
            return Some("a row names either a function or a tracepoint".into());
        }
        if site.role == Role::Unlink {
            return Some("what unlinks is an operation that says so".into());
        }
        let is_lock = matches!(site.role, Role::Lock | Role::Ptl) && site.object.is_none();
        if is_lock && (site.step.is_none() || site.mode.is_none()) {
            return Some("a lock row has a step and a mode, or an object that ends".into());
        }
        if !site.try_then_block.is_empty() && site.step != Some(Step::Try) {
            return Some("only a trylock is tried before its caller blocks".into());
        }
        if site.role == Role::FolioHeld && site.how.is_none() {
            return Some("a folio-held row says how".into());
        }
        let has_lookups = matches!(site.role, Role::Operation | Role::Callback | Role::Walk);
        if (!site.looks_up.is_empty() || site.vma_locked) && !has_lookups {
            return Some("only operations, callbacks and walks look up".into());
        }
        if (site.role == Role::Walk) != site.until.is_some() {
            return Some("a walk, and nothing else, ends at another function".into());
        }
        if !site.args.desc.is_empty() && (site.role != Role::Operation || !site.args.vma.is_empty()) {
            return Some("only an operation without a VMA has a description of one".into());
        }
        if site.known_mm && (site.args.mm.is_empty() || !site.args.vma.is_empty()) {
            return Some("known_mm needs a row that gets the mm alone".into());
        }
        if !site.unlinks.is_empty() && (site.role != Role::Operation || site.looks_up.is_empty()) {
            return Some("what unlinks is an operation, and looks up".into());
        }
        let is_lookup = |name: &str| self.sites.iter().any(|s| s.role == Role::Lookup && s.function == name);
        for l in &site.looks_up {
            match &l.through {
                Some(name) if !is_lookup(name) => return Some(format!("no lookup function '{name}'")),
                Some(_) if site.role == Role::Walk => return Some("a walk has no lookup function".into()),
                None if site.role != Role::Walk => return Some("a lookup goes through a function".into()),
                _ => {}
            }
        }
        if let Some(need) = site.needs.iter().find(|n| !self.can_be_needed(n)) {
            return Some(format!("needs '{need}', which no row without needs covers"));
        }
        if site.source.is_empty() {
            return Some("a row cites its source".into());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_parse_and_have_a_row_for_every_field_of_the_programs() {
        let facts = load().unwrap();
        for name in observer_ebpf::config::field::NAMES {
            let has_row = facts.fields.iter().any(|f| f.name == *name);
            assert!(has_row || facts.marks.iter().any(|m| m.name == *name), "no row for field {name}");
        }
        for field in &facts.fields {
            assert!(
                observer_ebpf::config::field::NAMES.contains(&field.name.as_str()),
                "unknown {}",
                field.name
            );
        }
    }

    #[test]
    fn an_unknown_key_in_a_row_is_refused() {
        let text = "[[site]]\nrole = \"lookup\"\nfunction = \"f\"\non = \"6.12\"\nsource = \"s\"\n";
        assert!(toml::from_str::<SitesFile>(text).is_ok());
        assert!(toml::from_str::<SitesFile>(&format!("{text}attach = \"x\"\n")).is_err());
        assert!(toml::from_str::<SitesFile>(&text.replace("6.12", "6.13")).is_err());
    }

    #[test]
    fn a_row_with_a_dangling_reference_is_refused() {
        let broken = |change: fn(&mut Facts)| {
            let mut facts = load().unwrap();
            change(&mut facts);
            facts.check().unwrap_err().to_string()
        };
        let share = |f: &mut Facts| {
            f.sites.iter_mut().find(|s| s.role == Role::Share).unwrap().needs.push("x".into())
        };
        assert!(broken(share).contains("needs 'x'"));
        let fault = |f: &mut Facts| f.sites[0].looks_up[0].through = Some("x".into());
        assert!(broken(fault).contains("no lookup function 'x'"));
        assert!(broken(|f| f.sites[0].looks_up[0].through = None).contains("goes through a function"));
        assert!(broken(|f| f.sites[0].until = Some("x".into())).contains("ends at another function"));
        assert!(broken(|f| f.sites[0].known_mm = true).contains("gets the mm alone"));
        assert!(broken(|f| f.classes[0].known.push("x".into())).contains("no field or variable 'x'"));
        assert!(broken(|f| f.classes[0].ends = Some("x".into())).contains("no object ends at 'x'"));
        assert!(broken(|f| f.classes[0].name = "x".into()).contains("no lock class 'x'"));
        assert!(broken(|f| f.fields[0].blinds.push("x".into())).contains("no role 'x'"));
        assert!(broken(|f| f.holes[0].unserved = Some("x".into())).contains("no row covers 'x'"));
        assert!(broken(|f| f.sites[0].try_then_block.push("ptl".into())).contains("only a trylock"));
        let tried = |f: &mut Facts| {
            let mut tries = f.sites.iter_mut().filter(|s| s.step == Some(Step::Try));
            tries.next().unwrap().try_then_block.push("x".into());
        };
        assert!(broken(tried).contains("no lock class 'x'"));
        fn exception(f: &mut Facts) -> &mut OrderException {
            f.orders.iter_mut().find_map(|o| o.exceptions.first_mut()).unwrap()
        }
        assert!(broken(|f| exception(f).from = "x".into()).contains("no lock class 'x'"));
        assert!(broken(|f| exception(f).at.push("x".into())).contains("no operation 'x'"));
        assert!(broken(|f| exception(f).reason.clear()).contains("why"));
        let along = |f: &mut Facts| {
            let e = exception(f);
            (e.from, e.to) = (e.to.clone(), e.from.clone());
        };
        assert!(broken(along).contains("is not against it"));
        fn caller(f: &mut Facts, passes_on: bool) -> &mut Caller {
            f.callers.iter_mut().find(|c| c.passes_on == passes_on).unwrap()
        }
        assert!(broken(|f| caller(f, true).never = Some("x".into())).contains("one of"));
        assert!(broken(|f| caller(f, true).passes_on = false).contains("one of"));
        assert!(broken(|f| caller(f, false).function = "huge_pmd_share".into()).contains("is a row"));
        let inside = |f: &mut Facts| {
            let row = caller(f, false);
            (row.never, row.inside) = (None, vec!["x".into()]);
        };
        assert!(broken(inside).contains("no operation 'x'"));
        assert!(broken(|f| f.sites[0].source.clear()).contains("cites its source"));
    }
}
