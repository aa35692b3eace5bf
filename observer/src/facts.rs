//! Kernel facts as rows: `observer/facts/*.toml`, embedded and parsed strictly.
//!
//! The one place where a kernel symbol is spelled. Decides what a well-formed row is; which rows serve on a given
//! kernel is the plan's business ([`crate::host::plan`]).

use observer_engine::setup::Role;
use serde::{Deserialize, Deserializer, de::Error as _};

/// All facts.
#[derive(Debug)]
pub struct Facts {
    pub sites: Vec<Site>,
    pub fields: Vec<Field>,
    pub variables: Vec<Variable>,
    pub sizes: Vec<Size>,
    pub constants: Vec<Constant>,
    pub exclusions: Vec<Exclusion>,
    pub orders: Vec<Order>,
    pub holes: Vec<Hole>,
}

impl Facts {
    /// The same facts without the rows of some functions, as if the kernel had them not.
    #[must_use]
    pub fn without(mut self, functions: &[String]) -> Facts {
        self.sites.retain(|s| !functions.iter().any(|f| f == s.name()));
        self
    }
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
    /// The symbol carries a compiler-made suffix (`.constprop.0`, `.isra.0`); any is taken.
    #[serde(default)]
    pub compiler_suffix: bool,
    /// Not this row where a symbol of that name exists (with or without a compiler-made suffix).
    pub unless: Option<String>,
    #[serde(default)]
    pub args: Args,
    /// Operations: links may be removed inside; compare the upper-level entries of the range.
    #[serde(default)]
    pub unlinks: bool,
    pub foreign_lookup_until: Option<String>,
    pub step: Option<Step>,
    pub mode: Option<Mode>,
    pub how: Option<How>,
    /// Returns 0 with the lock, anything else without it.
    #[serde(default)]
    pub can_fail: bool,
    pub object: Option<Object>,
    /// Where the row was read or measured.
    pub source: String,
}

impl Site {
    /// What people call it.
    pub fn name(&self) -> &str {
        if self.function.is_empty() { &self.tracepoint } else { &self.function }
    }
}

/// What a lock function does.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    Ask,
    Try,
    Release,
    Downgrade,
}

/// Lock modes.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Read,
    Write,
    Exclusive,
}

/// How a function proves a folio lock.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    Returned,
    Contract,
    SlowPath,
}

/// What ends at a site after which an address is no watched lock any more.
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
}

/// A field, by paths of which the first that exists is taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    pub name: String,
    pub paths: Vec<String>,
    /// Roles that see nothing without it.
    #[serde(default)]
    pub blinds: Vec<String>,
    pub source: String,
}

/// A kernel variable.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    pub symbol: String,
    pub bytes: u8,
    /// Value where the kernel has no such symbol.
    pub absent: Option<u64>,
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

/// A constant that BTF does not carry.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    pub name: String,
    pub value: u64,
    pub source: String,
}

/// Which hold excludes which unlink.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    pub class: String,
    pub modes: Vec<Mode>,
    pub except: Vec<String>,
    pub source: String,
}

/// A documented lock order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Order {
    /// Only on kernels that have this field.
    pub when: Option<String>,
    /// Only on kernels that lack this field.
    pub when_not: Option<String>,
    pub source: String,
    pub outer_to_inner: Vec<String>,
}

/// What no site can show.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hole {
    #[serde(deserialize_with = "role")]
    pub role: Role,
    #[serde(default)]
    pub part: String,
    pub grade: Grade,
    /// Only on kernels that have this function.
    pub when: Option<String>,
    /// Only on kernels that lack this function.
    pub when_not: Option<String>,
    pub reason: String,
}

/// Grades of coverage as facts spell them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Grade {
    Bounded,
    Inferred,
    Blind,
}

/// Roles are spelled as everywhere.
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
    constant: Vec<Constant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RulesFile {
    exclusion: Vec<Exclusion>,
    order: Vec<Order>,
    hole: Vec<Hole>,
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
    let fields: FieldsFile = parse("fields.toml", include_str!("../facts/fields.toml"))?;
    let rules: RulesFile = parse("rules.toml", include_str!("../facts/rules.toml"))?;
    for site in &sites.site {
        let row =
            |what: &str| Err(Error::Row { file: "sites.toml", what: format!("{}: {what}", site.name()) });
        if site.function.is_empty() == site.tracepoint.is_empty() {
            return row("a row names either a function or a tracepoint");
        }
        if site.role == Role::Unlink {
            return row("what unlinks is an operation with `unlinks = true`");
        }
        let is_lock = matches!(site.role, Role::Lock | Role::Ptl) && site.object.is_none();
        if is_lock && (site.step.is_none() || site.mode.is_none()) {
            return row("a lock row has a step and a mode, or an object that ends");
        }
        if site.role == Role::FolioHeld && site.how.is_none() {
            return row("a folio-held row says how");
        }
        if site.source.is_empty() {
            return row("a row cites its source");
        }
    }
    let blinds =
        fields.field.iter().flat_map(|f| &f.blinds).chain(fields.variable.iter().flat_map(|v| &v.blinds));
    for role in blinds {
        if Role::from_name(role).is_none() {
            return Err(Error::Row { file: "fields.toml", what: format!("no role '{role}'") });
        }
    }
    let classes = &observer_ebpf::class::NAMES[1..];
    let named =
        rules.exclusion.iter().map(|e| &e.class).chain(rules.order.iter().flat_map(|o| &o.outer_to_inner));
    for class in named {
        if !classes.contains(&class.as_str()) {
            return Err(Error::Row { file: "rules.toml", what: format!("no lock class '{class}'") });
        }
    }
    Ok(Facts {
        sites: sites.site,
        fields: fields.field,
        variables: fields.variable,
        sizes: fields.size,
        constants: fields.constant,
        exclusions: rules.exclusion,
        orders: rules.order,
        holes: rules.hole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_parse_and_cover_what_the_programs_read() {
        let facts = load().unwrap();
        for name in observer_ebpf::config::field::NAMES {
            assert!(facts.fields.iter().any(|f| f.name == *name), "no row for field {name}");
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
        let text = "[[site]]\nrole = \"lookup\"\nfunction = \"f\"\nsource = \"s\"\nattach = \"x\"\n";
        assert!(toml::from_str::<SitesFile>(text).is_err());
    }
}
