//! The words of a filter as they are typed.
//!
//! Decides the meaning of names, and the error messages for unknown ones.

use observer_ebpf::{kinds, mode};
use observer_engine::{
    event::Mode,
    lock_class::LockClass,
    setup::{Role, Setup, Site},
};

use super::{Pattern, Set, Test, Text, Word, number_of};
use crate::events::words::{lock_words, verb};

/// Maximum number of names that an error lists.
const LISTED: usize = 8;

/// Minimum number of digits that make a word an address; a shorter word is text only.
const DIGITS_MIN: usize = 4;

/// Group names for several kinds, with the numbers of these kinds.
const GROUPS: [(&str, &[u16]); 5] = [
    (
        "lock",
        &[
            kinds::LOCK_ASK,
            kinds::LOCK_TRY,
            kinds::LOCK_BUSY,
            kinds::LOCK_GAVE_UP,
            kinds::LOCK_RELEASE,
            kinds::LOCK_DOWNGRADE,
            kinds::WAIT_BEGIN,
            kinds::WAIT_END,
            kinds::LOCK_NAME,
            kinds::LOCK_FORGET,
        ],
    ),
    ("wait", &[kinds::WAIT_BEGIN, kinds::WAIT_END, kinds::FOLIO_WAIT]),
    ("folio", &[kinds::FOLIO_ASK, kinds::FOLIO_HELD, kinds::FOLIO_RELEASE, kinds::FOLIO_WAIT]),
    ("table", &[kinds::SHARE, kinds::TABLE_ALLOC, kinds::UNSHARE, kinds::UNLINKED, kinds::TABLE_FREE]),
    ("op", &[kinds::OP_BEGIN, kinds::CALLBACK_BEGIN, kinds::OP_END]),
];

/// Reads one word.
pub fn word(typed: &str, setup: &Setup) -> Result<Word, String> {
    let (not, rest) = typed.strip_prefix('!').map_or((false, typed), |rest| (true, rest));
    if rest.is_empty() {
        return Err("! needs a word after it".into());
    }
    let Some((key, values)) = rest.split_once('=') else {
        return Ok(Word { not, any: vec![Test::Text(text(rest, setup))] });
    };
    if values.is_empty() {
        return Err(format!("{key}= needs a value"));
    }
    let any = values.split(',').map(|value| test(key, value, setup)).collect::<Result<_, _>>()?;
    Ok(Word { not, any })
}

fn test(key: &str, value: &str, setup: &Setup) -> Result<Test, String> {
    let address = || address(key, value);
    Ok(match key {
        "kind" => Test::Kinds(kinds_of(value)?),
        "task" | "tid" if value.bytes().all(|b| b.is_ascii_digit()) => Test::Tid(number(key, value)?),
        "tid" => return Err(format!("tid= takes a number, not {value}; comm= takes a name")),
        "task" | "comm" => Test::Comm(Pattern(value.to_owned())),
        "cpu" => Test::Cpu(number(key, value)?),
        "mm" => Test::Mm(address()?),
        "table" => Test::Table(address()?),
        "pte" => Test::Pte(address()?),
        "addr" => Test::Addr(address()?),
        "lock" | "folio" => Test::Lock(address()?),
        "class" => Test::Locks(locks_of(value)?),
        "site" => Test::Sites(sites(value, setup, |_| true)?),
        "op" => Test::Operations(sites(value, setup, is_operation)?),
        "after" => Test::After(time(key, value)?),
        "before" => Test::Before(time(key, value)?),
        _ => {
            return Err(format!(
                "{key}= is not known; known are kind= task= tid= comm= cpu= mm= table= pte= addr= lock= class= site= op= \
                 after= before=, and words without ="
            ));
        }
    })
}

/// Normalizes a name: case, and `-` versus `_`, do not matter.
fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

fn kinds_of(value: &str) -> Result<Set, String> {
    let name = plain(value);
    let pattern = Pattern(name.strip_prefix("lock_").unwrap_or(&name).to_owned());
    let whole = Pattern(name.clone());
    let fits = |k: &&kinds::Kind| whole.fits(k.name) || pattern.fits(k.name);
    let mut found: Vec<u16> = kinds::TABLE.iter().filter(fits).map(|k| k.number).collect();
    if found.is_empty() {
        found.extend(GROUPS.iter().filter(|(group, _)| *group == name).flat_map(|(_, kinds)| *kinds));
    }
    if found.is_empty() {
        let names: Vec<_> = kinds::TABLE.iter().map(|k| k.name).collect();
        let groups: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "no kind is called {value}; known are {}; and of several kinds {}",
            names.join(", "),
            groups.join(", ")
        ));
    }
    Ok(found.into_iter().collect())
}

/// Name of a lock class without the endings that most of them share.
fn short(name: &str) -> String {
    name.replace("_lock", "").replace("_rwsem", "")
}

fn locks_of(value: &str) -> Result<Set, String> {
    let wanted = Pattern(short(&plain(value)));
    // The class of all folios also includes folios whose mapping is known.
    let fits = |c: &LockClass| wanted.fits(&short(c.name())) || wanted.fits(&short(c.wire().name()));
    let found: Vec<LockClass> = LockClass::ALL.into_iter().filter(fits).collect();
    if found.is_empty() {
        let names: Vec<_> = LockClass::ALL.into_iter().map(LockClass::name).collect();
        return Err(format!("no lock class is called {value}; known are {}", names.join(", ")));
    }
    Ok(found.into_iter().flat_map(|class| (0..4).map(move |mode| number_of(class, mode))).collect())
}

fn is_operation(site: &Site) -> bool {
    matches!(site.role, Role::Operation | Role::Callback | Role::Walk | Role::Unlink)
}

fn sites(value: &str, setup: &Setup, of: impl Fn(&Site) -> bool) -> Result<Set, String> {
    let pattern = Pattern(value.to_owned());
    let all = || setup.sites.iter().filter(|s| of(s));
    let found: Set = all().filter(|s| pattern.fits(&s.function)).map(|s| s.id.0).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut near: Vec<&str> = all().map(|s| s.function.as_str()).filter(|f| f.contains(value)).collect();
    near.sort_unstable();
    near.dedup();
    let listed = near.iter().take(LISTED).copied().collect::<Vec<_>>().join(", ");
    Err(match near.len() {
        0 => format!("no function of this run is called {value}; *{value}* finds what has it in its name"),
        1..=LISTED => format!("no function of this run is called {value}; there is {listed}"),
        n => format!("no function of this run is called {value}; there is {listed} and {} more", n - LISTED),
    })
}

fn number<T: std::str::FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{key}= takes a number, not {value}"))
}

/// An address in hexadecimal, with or without `0x`.
fn address(key: &str, value: &str) -> Result<u64, String> {
    let digits = value.strip_prefix("0x").unwrap_or(value);
    u64::from_str_radix(digits, 16)
        .map_err(|_| format!("{key}= takes an address in hexadecimal digits, not {value}"))
}

/// Seconds from the start of the run, as rows show them.
fn time(key: &str, value: &str) -> Result<u64, String> {
    let digits = value.strip_prefix('+').unwrap_or(value);
    let digits = digits.strip_suffix('s').unwrap_or(digits);
    let why = || format!("{key}= takes seconds from the start of the run, as in 1.25 or +1.25, not {value}");
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !is_number(whole) || !is_number(part) {
        return Err(why());
    }
    let seconds: u64 = whole.parse().map_err(|_| why())?;
    let ns: u64 = format!("{part:0<9}").parse().map_err(|_| why())?;
    seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(ns)).ok_or_else(why)
}

/// Resolves in advance everything that a word can match.
fn text(typed: &str, setup: &Setup) -> Text {
    let word = typed.to_ascii_lowercase();
    let has = |text: &str| text.to_ascii_lowercase().contains(&word);
    let in_kind = |k: &&kinds::Kind| has(k.name) || has(&verb(k.number).replace("{}", ""));
    let modes = 0..mode::NAMES.len() as u16;
    let all = LockClass::ALL.into_iter().flat_map(|class| modes.clone().map(move |mode| (class, mode)));
    let in_lock =
        |&(class, mode): &(LockClass, u16)| has(&lock_words(class, Mode::from_wire(u32::from(mode))));
    let digits = word.strip_prefix("0x").unwrap_or(&word);
    let is_hex = digits.len() >= DIGITS_MIN && digits.bytes().all(|b| b.is_ascii_hexdigit());
    Text {
        kinds: kinds::TABLE.iter().filter(in_kind).map(|k| k.number).collect(),
        sites: setup.sites.iter().filter(|s| has(&s.function)).map(|s| s.id.0).collect(),
        locks: all.filter(in_lock).map(|(class, mode)| number_of(class, mode)).collect(),
        tid: word.parse().ok(),
        digits: is_hex.then(|| word.clone()),
        word,
    }
}
