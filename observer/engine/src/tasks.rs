//! Tasks: who they are, the watched operations they are inside, what they hold and what they wait for.
//!
//! Decides which operation an event belongs to (the innermost one) and how begins and ends pair up when some are
//! missing. What holds and leases mean is in `locks` and `leases`.

use std::{cell::Cell, collections::VecDeque};

use smallvec::SmallVec;

use crate::{
    event::{Class, Folio, Mapping, Mm, Mode, SiteId, Table, Tid},
    finding::{Hold, Known, Manner, TaskRef},
    fx::FxMap,
    leases::Lease,
    lock_class::LockClass,
    loss::Missing,
    path::{Act, Op, Path},
    predict::Lately,
};

/// Locks given up that are remembered.
const GIVEN_UP_KEPT: usize = 16;
/// A lock whose taking was lost is held no longer than this: what waits for it would be reported as hung.
pub(crate) const UNSURE_NS: u64 = 10_000_000_000;
/// A lock that was acquired before it was named is released at the end of the same call: within this time.
const NAMED_NS: u64 = 10_000_000;

/// Operations nest a handful deep; a stack deeper than this has lost its ends.
const DEPTH_MAX: usize = 32;

/// A lock that can be told from others that had the same address before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instance {
    /// The lock; of a folio lock the folio.
    pub addr: u64,
    /// Which object at this address; of a folio lock its mapping.
    pub life: u64,
}

impl Instance {
    /// No lock has this address.
    pub const NONE: Instance = Instance { addr: 0, life: u64::MAX };
}

/// A hold as the engine keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockHold {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    pub known: Known,
    pub since_ns: u64,
    /// Its release may be among what was lost, or have been done by another task.
    pub lossy: bool,
    /// Another task released this lock, and may have held it too.
    pub disputed: bool,
    /// Held for writing before, and for reading since.
    pub downgraded: bool,
    /// Times it was asked for again.
    pub again: u8,
    /// For folio locks.
    pub mapping: Mapping,
    pub index: u64,
}

impl LockHold {
    pub fn shown(&self) -> Hold {
        Held::from(self).shown()
    }

    pub fn op(&self, act: Act, time_ns: u64) -> Op {
        Op {
            lock: self.instance,
            time_ns,
            site: SiteId(0),
            class: self.class,
            mode: self.mode,
            act,
            manner: Manner::Asked,
            known: self.known,
            sure: true,
        }
    }
}

/// A hold as it was at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub class: LockClass,
    pub instance: Instance,
    pub mode: Option<Mode>,
    known: Known,
    since_ns: u64,
    pub lossy: bool,
    pub downgraded: bool,
}

impl From<&LockHold> for Held {
    fn from(h: &LockHold) -> Held {
        Held {
            class: h.class,
            instance: h.instance,
            mode: h.mode,
            known: h.known,
            since_ns: h.since_ns,
            lossy: h.lossy,
            downgraded: h.downgraded,
        }
    }
}

impl Held {
    /// The same lock in the same mode, as sure.
    pub fn is_same(&self, other: &Held) -> bool {
        self.instance == other.instance
            && (self.class, self.mode, self.downgraded, self.lossy)
                == (other.class, other.mode, other.downgraded, other.lossy)
    }

    fn shown(&self) -> Hold {
        Hold {
            class: self.class,
            lock: self.instance.addr,
            mode: self.mode,
            known: self.known,
            since_ns: self.since_ns,
            lossy: self.lossy,
        }
    }
}

/// Holds at a moment. Up to six are kept without allocating.
#[derive(Clone, Debug, Default)]
pub(crate) struct HoldSet(SmallVec<[Held; 6]>);

impl HoldSet {
    #[inline]
    pub fn of(holds: &[LockHold]) -> HoldSet {
        HoldSet(holds.iter().map(Held::from).collect())
    }

    pub fn push(&mut self, held: Held) {
        self.0.push(held);
    }

    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Held> {
        self.0.iter()
    }

    /// Whether all locks of this set are in the other too, in the same modes.
    pub fn is_within(&self, other: &HoldSet) -> bool {
        self.iter().all(|held| other.iter().any(|o| o.is_same(held)))
    }

    /// A lock was held after all.
    pub fn redeem(&mut self, lock: Instance) {
        self.0.iter_mut().filter(|held| held.instance == lock).for_each(|held| held.lossy = false);
    }

    /// A lock may have been released by another task.
    pub fn doubt_lock(&mut self, lock: u64) {
        self.0.iter_mut().filter(|held| held.instance.addr == lock).for_each(|held| held.lossy = true);
    }

    /// A release may be among what was lost. Whether it may be one of these.
    pub fn touched_by_loss(&mut self, missing: Missing) -> bool {
        let mut any = false;
        for held in &mut self.0 {
            held.lossy |= missing.releases(held.class.wire());
            any |= held.lossy;
        }
        any
    }

    pub fn to_vec(&self) -> Vec<Hold> {
        self.iter().map(Held::shown).collect()
    }
}

/// A watched operation or callback that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub site: SiteId,
    pub begin_ns: u64,
    /// Its end, or the begin of another inside, may be among what was lost.
    pub lossy: bool,
    /// A folio may have been locked or released in it unseen.
    pub folios_lossy: bool,
    /// Links that went away inside, and the mapping of the last one's table.
    pub unlinks: u32,
    pub unlinked_of: Mapping,
    /// Lookups inside are looks at a partner's mm, given up with the release of this class.
    pub foreign_until: Option<Class>,
}

/// What a task asked for and has not been seen to have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    Lock {
        addr: u64,
        at_ns: u64,
        mode: Option<Mode>,
        site: SiteId,
    },
    /// `folio`: 0 while it is not known which; else its edges are made.
    Folio {
        mapping: Mapping,
        index: u64,
        at_ns: u64,
        site: SiteId,
        folio: Folio,
    },
}

impl Asked {
    pub fn at_ns(self) -> u64 {
        match self {
            Asked::Lock { at_ns, .. } | Asked::Folio { at_ns, .. } => at_ns,
        }
    }
}

/// What a task waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// Lock or folio.
    pub addr: u64,
    pub class: LockClass,
    pub mode: Option<Mode>,
    /// Since when it asked for it.
    pub since_ns: u64,
    pub site: SiteId,
    /// It was seen to wait; else it was not seen to do anything else for long.
    pub told: bool,
}

/// One task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Never the same number twice in a run: thread ids are reused.
    pub serial: u64,
    /// When it was made by a task that was seen to make it; else its first event.
    pub born_ns: u64,
    /// When it was seen to be made; 0: it was not.
    pub made_ns: u64,
    pub tid: Tid,
    pub tgid: u32,
    pub comm: [u8; 16],
    pub mm: Mm,
    pub cpu: u16,
    pub last_ns: u64,
    pub frames: Vec<Frame>,
    pub holds: Vec<LockHold>,
    pub leases: Vec<Lease>,
    pub asked: Option<Asked>,
    /// What it is seen waiting for.
    pub waiting: Option<Waiting>,
    /// What it did with locks since it held none.
    pub path: Path,
    /// When it requested last what the lock-order graph has a witness of: of what it requested later there is none.
    pub witnessed_ns: Cell<u64>,
    /// Attempts at one lock that failed last before it held nothing, one in each mode: a task that requests the same lock before it
    /// holds nothing again does so because of that.
    pub failed: Vec<Op>,
    /// Table of the last lookup, to which lookups that were counted but not sent belong.
    pub last_table: Option<Table>,
    /// In the engine's list of tasks that have leases.
    pub listed: bool,
    /// Its exit was told, and its mm was there yet: what takes the mm apart follows.
    pub exiting: bool,
    /// Since when it may hold a lock whose acquisition was lost; 0: it does not. Its release will tell.
    pub unsure_since_ns: u64,
    /// Locks whose release may have been lost, and which it is not taken to hold any more: a release tells that it did.
    pub given_up: VecDeque<u64>,
    /// Until then what it does is in doubt: too much was lost.
    pub doubt_until_ns: u64,
    /// Since when records of it were lost the last time.
    pub touched_ns: u64,
    /// An operation may have begun unseen, in which it is; until it begins or ends one, or this time.
    pub adrift_until_ns: u64,
    /// When it named a lock last, which it may have acquired before.
    pub named_ns: u64,
    /// What it did lately, for predicted windows.
    pub lately: Lately,
    /// In the engine's list of tasks that did something lately.
    pub listed_lately: bool,
    /// Stack that was sent last for an operation.
    pub stacks: Vec<(SiteId, u32)>,
    /// Locks released last, and when; only where removals are known as intervals.
    pub released: VecDeque<(u64, Held)>,
    /// Of those released up to then some are not remembered.
    pub released_before_ns: u64,
}

impl Task {
    fn new(tid: Tid) -> Task {
        Task {
            serial: 0,
            born_ns: 0,
            made_ns: 0,
            tid,
            tgid: 0,
            comm: [0; 16],
            mm: Mm(0),
            cpu: 0,
            last_ns: 0,
            frames: Vec::new(),
            holds: Vec::new(),
            leases: Vec::new(),
            asked: None,
            waiting: None,
            path: Path::default(),
            witnessed_ns: Cell::new(0),
            failed: Vec::new(),
            last_table: None,
            listed: false,
            exiting: false,
            unsure_since_ns: 0,
            given_up: VecDeque::new(),
            doubt_until_ns: 0,
            touched_ns: 0,
            adrift_until_ns: 0,
            named_ns: 0,
            lately: Lately::default(),
            listed_lately: false,
            stacks: Vec::new(),
            released: VecDeque::new(),
            released_before_ns: 0,
        }
    }

    /// A request of it became a witness of the lock-order graph.
    pub fn was_witnessed(&self, at_ns: u64) {
        self.witnessed_ns.set(self.witnessed_ns.get().max(at_ns));
    }

    /// It has a lock, or asks for one. What it held before is the path to here.
    pub fn hold(&mut self, hold: LockHold, manner: Manner, (site, asked_ns): (SiteId, u64)) {
        self.path.push(Op {
            lock: hold.instance,
            time_ns: asked_ns,
            site,
            class: hold.class,
            mode: hold.mode,
            act: Act::Take,
            manner,
            known: hold.known,
            sure: true,
        });
        self.holds.push(hold);
    }

    /// It has a lock no longer.
    pub fn drop_hold(&mut self, at: usize, now_ns: u64) -> LockHold {
        let hold = self.holds.remove(at);
        if self.holds.is_empty() && self.frames.is_empty() {
            self.failed = self.path.failed_last();
            self.path.clear();
            return hold;
        }
        self.path_releases(&hold, now_ns);
        hold
    }

    /// Its path has that it released a lock, which is not among its holds any more, or never was.
    pub fn path_releases(&mut self, hold: &LockHold, now_ns: u64) {
        self.path.push(hold.op(Act::Release, now_ns));
        self.nothing_held();
    }

    /// Lets go of the locks whose release may have been lost.
    pub fn give_up_lossy(&mut self, now_ns: u64) {
        while let Some(at) = self.holds.iter().position(|h| h.lossy) {
            let hold = self.drop_hold(at, now_ns);
            if self.given_up.len() == GIVEN_UP_KEPT {
                self.given_up.pop_front();
            }
            self.given_up.push_back(hold.instance.addr);
        }
    }

    /// An ask of that hold ended without the lock.
    pub fn fail_hold(&mut self, at: usize) {
        let hold = self.holds.remove(at);
        self.path.failed(hold.instance);
        self.nothing_held();
    }

    fn nothing_held(&mut self) {
        if self.holds.is_empty() {
            self.failed = self.path.failed_last();
            self.path.emptied(!self.frames.is_empty());
        }
    }

    /// On whose behalf something at `site` happens.
    pub fn site(&self, site: SiteId) -> SiteId {
        self.frames.last().map_or(site, |f| f.site)
    }

    /// The operation that it is inside may be over, or another have begun, among what was lost.
    pub fn is_site_unsure(&self, now_ns: u64) -> bool {
        let is_adrift = now_ns < self.adrift_until_ns || self.is_doubtful(now_ns);
        self.frames.last().map_or(is_adrift, |f| f.lossy)
    }

    pub fn has_stack(&mut self, site: SiteId, stack: u32) {
        match self.stacks.iter_mut().find(|(s, _)| *s == site) {
            Some((_, known)) => *known = stack,
            None => self.stacks.push((site, stack)),
        }
    }

    /// Stack of the innermost operation.
    pub fn stack(&self) -> Option<u32> {
        let site = self.frames.last()?.site;
        self.stacks.iter().find(|(s, _)| *s == site).map(|(_, stack)| *stack)
    }

    pub fn reference(&self) -> TaskRef {
        TaskRef { tid: self.tid, tgid: self.tgid, comm: comm_text(&self.comm), cpu: self.cpu }
    }

    /// What it does now is in doubt, whatever it is.
    pub fn is_doubtful(&self, now_ns: u64) -> bool {
        now_ns < self.doubt_until_ns
    }

    /// It is in no watched operation and is not known to hold a lock.
    pub fn is_at_rest(&self) -> bool {
        self.holds.is_empty() && self.frames.is_empty()
    }

    /// Records of this task may be among what was lost between two times. What spans that is not sure any more. What it
    /// does from now on is, but for a lock that it acquired meanwhile: the release will tell, unless it is lost too,
    /// which only counts where losses are not `sparse`.
    pub fn touched_by_loss(&mut self, missing: Missing, (since_ns, until_ns): (u64, u64), sparse: bool) {
        if missing.acquires() {
            if self.unsure_since_ns + UNSURE_NS < since_ns {
                self.unsure_since_ns = 0;
            }
            if self.unsure_since_ns == 0 {
                self.unsure_since_ns = since_ns.max(1);
            } else if !sparse {
                self.doubt_until_ns = until_ns + UNSURE_NS;
            }
        }
        self.touched_ns = since_ns;
        let mut spans = missing.acquires() && !self.holds.is_empty();
        for hold in &mut self.holds {
            hold.lossy |= missing.releases(hold.class.wire());
            spans |= hold.lossy;
        }
        if spans {
            self.path.touched_by_loss();
        }
        if missing.deeds() && self.frames.is_empty() {
            self.adrift_until_ns = until_ns + UNSURE_NS;
        }
        for frame in &mut self.frames {
            frame.lossy |= missing.deeds();
            frame.folios_lossy |= missing.concerns_folios();
        }
        for lease in &mut self.leases {
            lease.touched_by_loss(missing);
        }
        let begin_ns = self.frames.first().filter(|_| missing.concerns_folios()).map(|frame| frame.begin_ns);
        for done in self.lately.iter_mut() {
            // The release of a folio would have told, and that of a lock that was acquired before it was named.
            if let Some(begin_ns) = begin_ns {
                done.doubt_since(begin_ns);
            }
            let is_unnamed = self.named_ns != 0 && done.known_ns <= self.named_ns + NAMED_NS;
            done.what.sure &= !is_unnamed;
        }
    }
}

/// Command name as text; control characters and broken UTF-8 become visible replacements.
pub(crate) fn comm_text(comm: &[u8; 16]) -> String {
    let end = comm.iter().position(|b| *b == 0).unwrap_or(comm.len());
    String::from_utf8_lossy(&comm[..end])
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

/// How many frames an end takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// No such begin.
    Nothing,
    /// Down to this depth; `missed` inner ends were not seen.
    To { depth: usize, missed: u64 },
}

/// All tasks alive.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    slots: Vec<Task>,
    free: Vec<u32>,
    by_tid: FxMap<u32, u32>,
    /// Last task of each CPU: nearly always the next one too.
    recent: Vec<(Tid, u32)>,
    /// Tasks so far.
    serials: u64,
    /// Rises when a task comes or goes.
    pub epoch: u64,
}

/// Place of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u32);

impl std::ops::Index<TaskId> for Tasks {
    type Output = Task;
    fn index(&self, id: TaskId) -> &Task {
        &self.slots[id.0 as usize]
    }
}

impl std::ops::IndexMut<TaskId> for Tasks {
    fn index_mut(&mut self, id: TaskId) -> &mut Task {
        &mut self.slots[id.0 as usize]
    }
}

impl Tasks {
    pub fn find(&self, tid: Tid) -> Option<TaskId> {
        self.by_tid.get(&tid.0).map(|slot| TaskId(*slot))
    }

    /// The task, made if it was not known.
    #[inline]
    pub fn claim(&mut self, tid: Tid, cpu: u16) -> TaskId {
        let at = usize::from(cpu);
        if let Some((recent, slot)) = self.recent.get(at)
            && *recent == tid
            && self.slots.get(*slot as usize).is_some_and(|t| t.tid == tid)
        {
            return TaskId(*slot);
        }
        let slot = match self.by_tid.get(&tid.0) {
            Some(slot) => *slot,
            None => self.make(tid),
        };
        if self.recent.len() <= at {
            // An unused entry is checked like any other.
            self.recent.resize(at + 1, (Tid(u32::MAX), 0));
        }
        self.recent[at] = (tid, slot);
        TaskId(slot)
    }

    fn make(&mut self, tid: Tid) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => {
                let task = &mut self.slots[slot as usize];
                (task.tid, task.last_ns) = (tid, 0);
                slot
            }
            None => {
                self.slots.push(Task::new(tid));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_tid.insert(tid.0, slot);
        self.serials += 1;
        self.epoch += 1;
        self.slots[slot as usize].serial = self.serials;
        slot
    }

    /// Forgets a task; its place, with its buffers, is used again.
    pub fn remove(&mut self, id: TaskId) {
        let tid = self[id].tid;
        self.by_tid.remove(&tid.0);
        self.epoch += 1;
        let task = &mut self.slots[id.0 as usize];
        let (mut frames, mut holds, mut leases, mut path) = (
            std::mem::take(&mut task.frames),
            std::mem::take(&mut task.holds),
            std::mem::take(&mut task.leases),
            std::mem::take(&mut task.path),
        );
        frames.clear();
        holds.clear();
        leases.clear();
        path.clear();
        let (listed, listed_lately) = (task.listed, task.listed_lately);
        *task = Task { frames, holds, leases, path, listed, listed_lately, ..Task::new(Tid(u32::MAX)) };
        self.free.push(id.0);
    }

    pub fn len(&self) -> usize {
        self.by_tid.len()
    }

    /// Whether the task that had this place then is still there.
    pub fn is_alive(&self, id: TaskId, serial: u64) -> bool {
        self[id].serial == serial
    }

    /// Places of the tasks alive, in an order that depends on the events only.
    pub fn ids(&self) -> impl Iterator<Item = TaskId> + '_ {
        (0..self.slots.len() as u32).map(TaskId).filter(|id| self[*id].tid != Tid(u32::MAX))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.ids().map(|id| &self[id])
    }
}

impl Task {
    /// Where the begin of `site` makes the stack be cut first: a function that is begun again has ended before.
    pub fn begin_cuts(&self, site: SiteId) -> Popped {
        if let Some(depth) = self.frames.iter().position(|f| f.site == site) {
            return Popped::To { depth, missed: (self.frames.len() - depth) as u64 };
        }
        if self.frames.len() == DEPTH_MAX {
            return Popped::To { depth: 0, missed: DEPTH_MAX as u64 };
        }
        Popped::Nothing
    }

    /// What the end of `site` takes off.
    pub fn end_pops(&self, site: SiteId) -> Popped {
        match self.frames.iter().rposition(|f| f.site == site) {
            Some(depth) => Popped::To { depth, missed: (self.frames.len() - depth - 1) as u64 },
            None => Popped::Nothing,
        }
    }
}
