//! How an event reads: short columns, in the terms of the field.
//!
//! Decides which of its fields are shown and what they are called. Words are made for the rows that are shown, never for the
//! filter.

use std::fmt::Write as _;

use observer_ebpf::kinds;
use observer_engine::{
    event::{Body, Class, Event, How, LockStep, Mapping, Mode, Pte, SiteId},
    lock_class::LockClass,
    setup::Setup,
    trace,
};

use super::{EventRow, lock_of};
use crate::{
    sink::words::lock,
    text::{moment, size},
};

/// Lowest error value: the kernel's functions return errors as values from here up to -1.
const FIRST_ERROR: i64 = -4095;

/// A row in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Time since the start of the run.
    pub time: String,
    pub cpu: String,
    /// Number and command name.
    pub task: String,
    /// Verb of the event.
    pub action: String,
    /// Object of the event as `name value` pairs: the most distinguishing first, the mm last.
    pub object: String,
    /// Function in which it was seen; empty if the event has no site.
    pub site: String,
}

impl Words {
    /// The whole row on one line.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = format!("{}  cpu {}  task {}  {}", self.time, self.cpu, self.task, self.action);
        if !self.object.is_empty() {
            let _ = write!(line, "  {}", self.object);
        }
        // The words of an operation contain its function already.
        if !self.site.is_empty() && !self.action.contains(&self.site) {
            let _ = write!(line, "  in {}", self.site);
        }
        line
    }
}

/// Words of a row as it is shown.
#[must_use]
pub fn words(row: &EventRow, setup: &Setup, start_ns: u64) -> Words {
    let event = &row.event;
    let site = site(event.site, setup);
    let comm = if row.comm.is_empty() { "?" } else { &row.comm };
    Words {
        time: moment(event.time_ns, start_ns),
        cpu: event.cpu.to_string(),
        task: format!("{} {comm}", event.tid.0),
        action: action(event, setup),
        object: object(row, start_ns),
        site: site.unwrap_or_default().to_owned(),
    }
}

/// A row as a line of a text trace.
#[must_use]
pub fn trace_line(row: &EventRow, setup: &Setup) -> String {
    trace::line(&row.event, setup)
}

fn site(id: SiteId, setup: &Setup) -> Option<&str> {
    setup.sites.iter().find(|s| s.id == id).map(|s| s.function.as_str())
}

/// Verbs of kinds, with `{}` in place of a lock or a function.
pub(super) fn verb(kind: u16) -> &'static str {
    match kind {
        kinds::TASK => "was first seen",
        kinds::TASK_EXIT => "exits",
        kinds::FORK => "forked",
        kinds::OP_BEGIN => "begins {}",
        kinds::CALLBACK_BEGIN => "begins callback {}",
        kinds::OP_END => "ends {}",
        kinds::LOOKUP => "looked up",
        kinds::LOOKUP_OTHER_SIZE => "looked up a page of another size",
        kinds::SHARE => "shared a table",
        kinds::TABLE_ALLOC => "allocated a table",
        kinds::UNSHARE => "unshared",
        kinds::UNLINKED => "found its link removed",
        kinds::TABLE_FREE => "freed a table",
        kinds::LOCK_ASK | kinds::FOLIO_ASK => "requested {}",
        kinds::LOCK_TRY => "acquired {} by trylock",
        kinds::LOCK_BUSY => "trylock failed on {}",
        kinds::LOCK_GAVE_UP => "gave up on {}",
        kinds::LOCK_RELEASE | kinds::FOLIO_RELEASE => "released {}",
        kinds::LOCK_DOWNGRADE => "downgraded to {}",
        kinds::WAIT_BEGIN | kinds::FOLIO_WAIT => "waits for {}",
        kinds::WAIT_END => "waited for {}",
        kinds::LOCK_NAME => "named {}",
        kinds::LOCK_FORGET => "ends the life of {}",
        kinds::FOLIO_HELD => "holds {}",
        kinds::STACK => "has a stack in {}",
        _ => "",
    }
}

/// A lock's class, with its mode if it is known.
pub(super) fn lock_words(class: LockClass, mode: Option<Mode>) -> String {
    mode.map_or_else(|| class.name().to_owned(), |mode| lock(class, Some(mode)))
}

fn action(event: &Event, setup: &Setup) -> String {
    let verb = match event.body {
        Body::Lock { step: LockStep::WaitEnd, failed: true, .. } => "stopped waiting, without {}",
        _ => verb(event.body.kind()),
    };
    let named = |id| site(id, setup).map_or_else(|| format!("site {}", id.0), str::to_owned);
    let object = match event.body {
        Body::Stack { op, .. } => named(op),
        _ => match lock_of(&event.body) {
            Some((class, _, mode)) => lock_words(class, mode),
            None => named(event.site),
        },
    };
    verb.replace("{}", &object)
}

/// Builds the text `name value, name value`.
#[derive(Default)]
struct Object(String);

impl Object {
    fn text(mut self, text: &str) -> Object {
        if !self.0.is_empty() {
            self.0.push_str(", ");
        }
        self.0.push_str(text);
        self
    }

    fn address(self, name: &str, value: u64) -> Object {
        if value == 0 { self } else { self.text(&format!("{name} {value:#x}")) }
    }

    fn number(self, name: &str, value: u64) -> Object {
        self.text(&format!("{name} {value}"))
    }

    /// Adds the entry and the table that it lies in.
    fn entry(self, pte: Pte) -> Object {
        if pte.0 == 0 {
            return self.text("no pte");
        }
        self.address("pte", pte.0).address("table", pte.table().0)
    }

    /// Adds the size of a page whose tables are never shared, given in KiB.
    fn page_size(self, page_kib: u32) -> Object {
        if page_kib == 0 { self } else { self.text(&format!("{} page", size(u64::from(page_kib) << 10))) }
    }

    fn folio(self, mapping: Mapping, folio: u64, index: u64) -> Object {
        let of = match mapping.0 {
            0 => "no mapping".to_owned(),
            m if m & 1 == 1 => format!("anonymous {m:#x}"),
            m => format!("mapping {m:#x}"),
        };
        self.address("folio", folio).text(&of).number("index", index)
    }
}

fn object(row: &EventRow, start_ns: u64) -> String {
    let o = Object::default();
    let o = match row.event.body {
        Body::Task { tgid, mm, .. } => o.number("process", tgid.into()).address("mm", mm.0),
        Body::TaskExit { tgid, mm } => o.number("process", tgid.into()).address("mm", mm.0),
        Body::Fork { child, child_tgid } => {
            o.number("task", child.0.into()).number("process", child_tgid.into())
        }
        Body::OpBegin { mm, start, end: observer_engine::event::Addr(0), .. } => {
            let o = if start.0 == 0 { o } else { o.text(&format!("from {start}")) };
            o.address("mm", mm.0)
        }
        Body::OpBegin { mm, start, end, page_kib } => {
            o.text(&format!("range {start}-{end}")).page_size(page_kib).address("mm", mm.0)
        }
        Body::OpEnd { ret } => o.text(&returned(ret)),
        Body::CallbackBegin { mm, addr, pte } | Body::Unshare { mm, addr, pte } => {
            o.address("addr", addr.0).entry(pte).address("mm", mm.0)
        }
        Body::Lookup { mm, addr, pte, repeats } => {
            let o = o.address("addr", addr.0).entry(pte);
            let o = if repeats == 0 { o } else { o.number("repeats before", repeats.into()) };
            o.address("mm", mm.0)
        }
        Body::LookupOtherSize { mm, addr, pte, page_kib } => {
            o.address("addr", addr.0).page_size(page_kib).address("pte", pte.0).address("mm", mm.0)
        }
        Body::Share { mm, addr, pte, count } => {
            o.address("addr", addr.0).entry(pte).number("share count", count.into()).address("mm", mm.0)
        }
        Body::TableAlloc { mm, addr, table } => {
            o.address("addr", addr.0).address("table", table.0).address("mm", mm.0)
        }
        Body::Unlinked { mm, gib, table, lo_ns, now, count } => o
            .address("GiB", gib.0)
            .address("table", table.0)
            .address("mm", mm.0)
            .text(&format!("there at {}", moment(lo_ns, start_ns)))
            .text(&format!("entry now {now:#x}"))
            .number("share count", count.into()),
        Body::TableFree { mm, table, count } => {
            o.address("table", table.0).number("share count", count.into()).address("mm", mm.0)
        }
        Body::Lock { class, lock, .. } | Body::LockForget { class, lock } => {
            o.address("lock", lock.0).address(owned_by(class), row.owner)
        }
        Body::LockName { class, lock, owner, vma } => {
            o.address("lock", lock.0).address(owned_by(class), owner).address("vma", vma)
        }
        Body::FolioHeld { folio, mapping, index, how } => {
            let how = match how {
                How::Returned => "returned locked",
                How::Contract => "by the function's contract",
                How::SlowPath => "after waiting",
            };
            o.folio(mapping, folio.0, index).text(how)
        }
        Body::FolioRequest { mapping, index, folio }
        | Body::FolioRelease { folio, mapping, index }
        | Body::FolioWait { folio, mapping, index } => o.folio(mapping, folio.0, index),
        Body::Stack { stack, .. } => o.number("stack", stack.into()),
    };
    o.0
}

/// Kind of object that a lock of this class belongs to.
fn owned_by(class: Class) -> &'static str {
    match class {
        Class::MmapLock => "mm",
        Class::VmaLock | Class::IMmap => "mapping",
        Class::Inode => "inode",
        Class::Ptl => "table",
        Class::FaultMutex | Class::Folio => "of",
    }
}

/// Result of a function; errors as the kernel's headers number them.
fn returned(ret: u64) -> String {
    match ret as i64 {
        error @ FIRST_ERROR..0 => format!("returned {error}"),
        0..=9 => format!("returned {ret}"),
        _ => format!("returned {ret:#x}"),
    }
}
