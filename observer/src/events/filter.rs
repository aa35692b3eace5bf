//! A filter for events: words that must all hold.
//!
//! Decides the possible words and when an event matches one; [`parse`] reads them. Names are resolved to sets of numbers when
//! the words are read, so an event of a run is judged without comparing text. Only a word that may be the command name of a
//! task, or digits of an address, looks at the row.
//!
//! `key=value` is exact: addresses are compared whole, names whole or by `*`. A word without `=` is text anywhere in the row.
//! `!` before a word negates it; `a,b` after a key means either.

mod parse;

use observer_engine::{
    event::{Addr, Body, Event, Pte},
    lock_class::LockClass,
    setup::Setup,
};

use super::{EventRow, lock_of};

/// Bytes of the page that a PMD entry maps.
const PAGE: u64 = 1 << 21;

/// Words that a filter may have, in the order of the help: the typed form, and its meaning.
pub const HELP: [(&str, &str); 15] = [
    ("kind=K", "lookup, share, unshare, ask, release, ...; groups: lock, wait, folio, table, op"),
    ("task=T", "of a task: number, or command name (also tid=, comm=)"),
    ("cpu=N", "on this CPU"),
    ("mm=A", "about this mm, or a lock of it"),
    ("table=A", "about this page table, an entry in it, or its PTL"),
    ("pte=A", "about this entry; 0: lookups that found none"),
    ("addr=A", "about the huge page at this user address; of a GiB's first address: all of the GiB"),
    ("lock=A", "about the lock at this address, or this folio"),
    (
        "class=C",
        "about locks of this class: mmap, vma, i_mmap, fault_mutex, inode, ptl, folio, folio(file), ...",
    ),
    ("site=F", "seen in this function"),
    ("op=F", "begin, end, callback or stack of this operation"),
    ("after=S", "at this time or later: seconds from the start of the run, as rows show them"),
    ("before=S", "earlier than this time"),
    ("WORD", "text: kind, function, lock, command name, digits of an address"),
    ("!...", "not so; a,b after = means either; * in a name means any text"),
];

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq)]
struct Set(Vec<u64>);

impl Set {
    fn add(&mut self, n: u16) {
        let at = usize::from(n / 64);
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        self.0[at] |= 1 << (n % 64);
    }

    #[inline]
    fn has(&self, n: u16) -> bool {
        self.0.get(usize::from(n / 64)).is_some_and(|bits| bits >> (n % 64) & 1 == 1)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<u16> for Set {
    fn from_iter<I: IntoIterator<Item = u16>>(numbers: I) -> Set {
        let mut set = Set::default();
        numbers.into_iter().for_each(|n| set.add(n));
        set
    }
}

/// A name to search for: `*` matches any text.
#[derive(Clone, Debug, PartialEq)]
struct Pattern(String);

impl Pattern {
    fn fits(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = parts.collect();
        let Some(last) = parts.pop() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }
}

/// Text that a row may have, with everything about it that can be resolved in advance.
#[derive(Clone, Debug, PartialEq)]
struct Text {
    /// The word in lower case.
    word: String,
    kinds: Set,
    sites: Set,
    /// Locks, by [`lock_number`].
    locks: Set,
    /// The word as the number of a task.
    tid: Option<u32>,
    /// The word as digits that an address may have.
    digits: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Kinds(Set),
    /// Locks, by [`lock_number`].
    Locks(Set),
    Sites(Set),
    /// Begin, end, callback, comparison or stack of one of these.
    Operations(Set),
    Tid(u32),
    Comm(Pattern),
    Cpu(u16),
    Mm(u64),
    Table(u64),
    Pte(u64),
    Addr(u64),
    Lock(u64),
    /// Nanoseconds from the start of the run.
    After(u64),
    Before(u64),
    Text(Text),
}

/// One word of a filter.
#[derive(Clone, Debug, PartialEq)]
struct Word {
    not: bool,
    /// Tests of which one must hold.
    any: Vec<Test>,
}

/// Selects events by words that must all hold, each `key=value` or text in the event's row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    text: String,
    words: Vec<Word>,
    start_ns: u64,
}

impl Filter {
    /// # Errors
    /// The word that is not understood, and why, for a person.
    pub fn parse(text: &str, setup: &Setup) -> Result<Filter, String> {
        let words = text.split_whitespace().map(|word| parse::word(word, setup)).collect::<Result<_, _>>()?;
        Ok(Filter { text: text.trim().to_owned(), words, start_ns: 0 })
    }

    /// Sets the start of the run, which times in the filter are relative to. Every user of a filter calls this.
    #[must_use]
    pub fn since(self, start_ns: u64) -> Filter {
        Filter { start_ns, ..self }
    }

    /// Text as it was typed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// True if every event passes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    #[must_use]
    pub fn matches(&self, row: &EventRow) -> bool {
        self.wants(&row.event, || &row.comm, || row.owner)
    }

    /// Returns true if an event passes. The command name and owner are requested only where a word needs them.
    #[inline]
    pub fn wants<'a>(&self, event: &Event, comm: impl Fn() -> &'a str, owner: impl Fn() -> u64) -> bool {
        self.words.iter().all(|word| {
            word.any.iter().any(|test| test.holds(event, self.start_ns, &comm, &owner)) != word.not
        })
    }
}

impl Test {
    #[inline]
    fn holds<'a>(
        &self,
        event: &Event,
        start_ns: u64,
        comm: &impl Fn() -> &'a str,
        owner: &impl Fn() -> u64,
    ) -> bool {
        let body = &event.body;
        match self {
            Test::Kinds(kinds) => kinds.has(body.kind()),
            Test::Locks(locks) => lock_number(body).is_some_and(|n| locks.has(n)),
            Test::Sites(sites) => sites.has(event.site.0),
            Test::Operations(sites) => operation(event).is_some_and(|site| sites.has(site)),
            Test::Tid(tid) => event.tid.0 == *tid,
            Test::Comm(name) => name.fits(comm()),
            Test::Cpu(cpu) => event.cpu == *cpu,
            Test::Mm(mm) => mm_of(body) == Some(*mm) || is_owner(body, *mm, owner),
            Test::Table(table) => table_of(body) == Some(*table) || is_owner(body, *table, owner),
            Test::Pte(pte) => pte_of(body).is_some_and(|p| p.0 == *pte),
            Test::Addr(addr) => is_at(body, *addr),
            Test::Lock(lock) => lock_of(body).is_some_and(|(_, at, _)| at == *lock),
            Test::After(ns) => event.time_ns >= start_ns.saturating_add(*ns),
            Test::Before(ns) => event.time_ns < start_ns.saturating_add(*ns),
            Test::Text(text) => text.is_in(event, comm),
        }
    }
}

impl Text {
    fn is_in<'a>(&self, event: &Event, comm: &impl Fn() -> &'a str) -> bool {
        self.kinds.has(event.body.kind())
            || self.sites.has(event.site.0)
            || lock_number(&event.body).is_some_and(|n| self.locks.has(n))
            || matches!(event.body, Body::Stack { op, .. } if self.sites.has(op.0))
            || self.tid == Some(event.tid.0)
            || has_word(comm(), &self.word)
            || self.digits.as_ref().is_some_and(|digits| has_digits(&event.body, digits))
    }
}

/// Finds a word in a text, ignoring ASCII case; the word is in lower case.
fn has_word(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

fn has_digits(body: &Body, digits: &str) -> bool {
    let has = |n: u64| n != 0 && format!("{n:#x}").contains(digits);
    body.wire().1.into_iter().any(has) || table_of(body).is_some_and(has)
}

/// A lock's class and mode as one number.
fn lock_number(body: &Body) -> Option<u16> {
    let (class, _, mode) = lock_of(body)?;
    Some(number_of(class, mode.map_or(0, |m| m as u16)))
}

/// Number of a class and mode; mode 0 means not known.
fn number_of(class: LockClass, mode: u16) -> u16 {
    class as u16 * 4 + mode
}

/// The operation that an event begins, ends or belongs to.
fn operation(event: &Event) -> Option<u16> {
    match event.body {
        Body::OpBegin { .. } | Body::OpEnd { .. } | Body::CallbackBegin { .. } | Body::Unlinked { .. } => {
            Some(event.site.0)
        }
        Body::Stack { op, .. } => Some(op.0),
        _ => None,
    }
}

fn mm_of(body: &Body) -> Option<u64> {
    match body {
        Body::Task { mm, .. }
        | Body::TaskExit { mm, .. }
        | Body::OpBegin { mm, .. }
        | Body::CallbackBegin { mm, .. }
        | Body::Lookup { mm, .. }
        | Body::LookupOtherSize { mm, .. }
        | Body::Share { mm, .. }
        | Body::TableAlloc { mm, .. }
        | Body::Unshare { mm, .. }
        | Body::Unlinked { mm, .. }
        | Body::TableFree { mm, .. } => Some(mm.0),
        _ => None,
    }
}

fn pte_of(body: &Body) -> Option<Pte> {
    match body {
        Body::CallbackBegin { pte, .. }
        | Body::Lookup { pte, .. }
        | Body::LookupOtherSize { pte, .. }
        | Body::Share { pte, .. }
        | Body::Unshare { pte, .. } => Some(*pte),
        _ => None,
    }
}

fn table_of(body: &Body) -> Option<u64> {
    match body {
        Body::TableAlloc { table, .. } | Body::Unlinked { table, .. } | Body::TableFree { table, .. } => {
            Some(table.0)
        }
        // The pointer is into a table that is never shared.
        Body::LookupOtherSize { .. } => None,
        _ => pte_of(body).map(|pte| pte.table().0).filter(|table| *table != 0),
    }
}

fn is_owner(body: &Body, object: u64, owner: &impl Fn() -> u64) -> bool {
    match body {
        Body::LockName { owner, .. } => *owner == object,
        Body::Lock { .. } | Body::LockForget { .. } => owner() == object,
        _ => false,
    }
}

/// Returns true if it is about this user address.
fn is_at(body: &Body, addr: u64) -> bool {
    let whole = Addr(addr).gib().0 == addr;
    let (from, bytes) = if whole { (addr, 1 << 30) } else { (addr & !(PAGE - 1), PAGE) };
    let to = from.saturating_add(bytes);
    let (lo, hi) = match body {
        // An offset in a file is not a user address.
        Body::OpBegin { mm, start, end, .. } if mm.0 != 0 => (start.0, end.0.max(start.0.saturating_add(1))),
        Body::CallbackBegin { addr, .. }
        | Body::Lookup { addr, .. }
        | Body::LookupOtherSize { addr, .. }
        | Body::Share { addr, .. }
        | Body::TableAlloc { addr, .. }
        | Body::Unshare { addr, .. } => (addr.0, addr.0.saturating_add(1)),
        Body::Unlinked { gib, .. } => (gib.0, gib.0.saturating_add(1 << 30)),
        _ => return false,
    };
    lo < to && from < hi
}
