//! Reasons why something is not seen, with their text and advice.
//!
//! Every place that gives up on a role returns one of these; nobody passes on a bare `None`.

use crate::{host::plan::Failure, meta::Level};

/// Reason why a row does not serve, or why a role is not exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The chosen level does not include it; `needed` is the level that does.
    Level { chosen: Level, needed: Level },
    /// The user asked to leave this function out.
    Hidden(String),
    /// The symbol table does not have this function. `absent` says why that may be. `not_built` is the option that would
    /// build it, if the kernel's configuration is known to lack it.
    NoSymbol { name: String, absent: Option<String>, not_built: Option<String> },
    /// The kernel does not have this tracepoint.
    NoTracepoint { name: String, absent: Option<String> },
    /// The function exists, but BTF does not describe it, so its arguments are unknown.
    NoTypes { symbol: String },
    /// The function's arguments differ from those in the row.
    Arguments(String),
    /// The function exists, but only calls another one that does the work.
    Wrapper { symbol: String, bytes: u64 },
    /// The function is missing from the kernel's list of traceable functions.
    NotTraceable(String),
    /// The object has too few programs for the rows of this kind.
    NoRoom(usize),
    /// No path in the row finds this field.
    NoField(String),
    /// The symbol table does not have, or hides, the variable's address.
    NoVariable(String),
    /// It would be wrong without something else that is not watched.
    Needs { what: String, why: Box<Reason> },
    /// The kernel refused these attempts.
    Refused(Vec<Failure>),
    /// The kernel's text contains a lookup that no known operation encloses.
    Caller { caller: String, callee: String },
    /// A fact about this kernel, as text.
    Fact(String),
    /// Several of the reasons above.
    All(Vec<Reason>),
}

impl Reason {
    /// Merges several reasons into one, without duplicates.
    pub fn all(reasons: impl IntoIterator<Item = Reason>) -> Reason {
        let mut distinct: Vec<Reason> = Vec::new();
        for reason in reasons {
            if !distinct.contains(&reason) {
                distinct.push(reason);
            }
        }
        match distinct.len() {
            1 => distinct.remove(0),
            _ => Reason::All(distinct),
        }
    }

    /// Describes the obstacle: the symbol, the attempt, the answer.
    pub fn words(&self) -> String {
        match self {
            Reason::Level { chosen, .. } => format!("not probed at level {}", chosen.name()),
            Reason::Hidden(name) => format!("{name} is not to be watched (--without)"),
            Reason::NoSymbol { name, not_built: Some(option), .. } => {
                format!("no symbol {name}: this kernel is built without {option}")
            }
            Reason::NoSymbol { name, absent, .. } => with_why(&format!("no symbol {name}"), absent),
            Reason::NoTracepoint { name, absent } => with_why(&format!("no tracepoint {name}"), absent),
            Reason::NoTypes { symbol } => {
                format!("symbol {symbol} exists, but BTF has no function of that name")
            }
            Reason::Arguments(words) => words.clone(),
            Reason::Wrapper { symbol, bytes } => {
                format!(
                    "{symbol} has {bytes} bytes, a wrapper: the work is done under a name that no row has"
                )
            }
            Reason::NotTraceable(symbol) => {
                format!("{symbol} cannot be traced: it is not in the kernel's available_filter_functions")
            }
            Reason::NoRoom(n) => format!("the object has no more than {n} programs of this kind"),
            Reason::NoField(paths) => format!("BTF has no field {paths}"),
            Reason::NoVariable(symbol) => format!("no address of the variable {symbol} in the symbol table"),
            Reason::Needs { what, why } => format!("needs {what}, which is not watched: {}", why.words()),
            Reason::Refused(failures) => summary(failures).join("; "),
            Reason::Caller { caller, callee } => format!(
                "{caller} calls {callee} and is not watched: its lookups are counted as loss (outside-operation)"
            ),
            Reason::Fact(words) => words.clone(),
            Reason::All(reasons) => {
                // If there are too many reasons, a missing symbol is the least informative.
                let is_missing = |r: &&Reason| {
                    reasons.len() > NAMED_REASONS
                        && matches!(r, Reason::NoSymbol { .. } | Reason::NoTracepoint { .. })
                };
                let (missing, others): (Vec<_>, Vec<_>) = reasons.iter().partition(is_missing);
                let first = others.into_iter().chain(missing).take(NAMED_REASONS);
                let listed = first.map(Reason::words).collect::<Vec<_>>().join("; ");
                match reasons.len().saturating_sub(NAMED_REASONS) {
                    0 => listed,
                    more => format!("{listed}; and {more} more"),
                }
            }
        }
    }

    /// Says what the user can do; empty if nothing can be done on this kernel.
    pub fn advice(&self) -> String {
        match self {
            Reason::Level { needed, .. } => format!("--level {}", needed.name()),
            Reason::Hidden(name) => format!("leave out --without {name}"),
            Reason::NoSymbol { not_built: Some(option), .. } => {
                format!("a kernel with {option}, if that path matters")
            }
            Reason::NoSymbol { absent: None, name, .. } => {
                format!("if this kernel has {name} under another name: {REPORT}")
            }
            Reason::NoTypes { .. } | Reason::Arguments(_) => {
                format!("if the function only changed: {REPORT}")
            }
            Reason::Wrapper { .. } => {
                format!("find the name of the inner function in the symbol table: {REPORT}")
            }
            Reason::NoField(_) => {
                format!("a kernel with CONFIG_DEBUG_INFO_BTF and this field; if the field moved: {REPORT}")
            }
            Reason::NoVariable(_) => {
                "run as root, or sysctl kernel.kptr_restrict=0: the symbol table hides its addresses"
                    .to_owned()
            }
            Reason::Caller { caller, .. } => {
                format!("a row for {caller} is missing: {REPORT}")
            }
            Reason::Needs { why, .. } => why.advice(),
            Reason::Refused(failures) => refused_advice(failures),
            Reason::All(reasons) => {
                let all: Vec<_> = reasons.iter().map(Reason::advice).filter(|a| !a.is_empty()).collect();
                all.first().cloned().unwrap_or_default()
            }
            Reason::NoSymbol { .. }
            | Reason::NoTracepoint { .. }
            | Reason::NotTraceable(_)
            | Reason::NoRoom(_)
            | Reason::Fact(_) => String::new(),
        }
    }
}

/// Advice for a kernel that the facts do not describe. A row of `observer/facts/` is enough, but the reader may have only
/// the binary.
const REPORT: &str =
    "send the file of `observer doctor --save` with a bug report, or add the row (CONTRIBUTING.md)";

/// Maximum number of reasons that are listed; the others are counted, so that a kernel that lacks everything takes one line.
const NAMED_REASONS: usize = 5;

fn with_why(what: &str, why: &Option<String>) -> String {
    match why {
        Some(why) => format!("{what}: {why}"),
        None => what.to_owned(),
    }
}

/// Errno of an attempt that the kernel never grants: more than six arguments, or a struct among them.
const ENOTSUPP: &str = "524";

fn refused_advice(failures: &[Failure]) -> String {
    if failures.iter().any(|f| f.error.contains("os error 1)") || f.error.contains("os error 13)")) {
        return "run as root, outside lockdown and containers".to_owned();
    }
    if failures.iter().any(|f| f.error.contains(ENOTSUPP)) {
        return "a kernel with CONFIG_KPROBES: it is the way to functions that cannot be traced".to_owned();
    }
    String::new()
}

/// Maximum number of attempts that are listed for one answer; the others are counted.
const NAMED_ATTEMPTS: usize = 3;

/// Returns one sentence for each distinct answer, with its attempts: a kernel that refuses everything gives one sentence.
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
