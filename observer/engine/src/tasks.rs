//! Tasks: identity, watched operations, holds, requests and waits.
//!
//! This module decides which operation an event belongs to (the innermost one), and how begins and ends pair up when
//! some are missing. Rules that keep more of a task have a store of their own
//! ([`crate::holds::PerTask`]).

use crate::{
    event::{Class, Folio, Mapping, Mm, Mode, SiteId, Tid},
    finding::{TaskRef, comm_text},
    fx::FxMap,
    holds::{LockHold, TaskId},
    lock_class::LockClass,
    loss::{Missing, Span, TaskLoss},
};

/// Operations nest only a few levels deep; if the stack is deeper than this, ends of operations were lost.
const DEPTH_MAX: usize = 32;

/// A watched operation or callback that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub site: SiteId,
    pub begin_ns: u64,
    /// Its end, or the begin of an operation inside it, may be lost.
    pub lossy: bool,
    /// Records of folio locks inside it may be lost.
    pub folios_lossy: bool,
    /// Number of unlinks inside, and the mapping of the last table.
    pub unlinks: u32,
    pub unlinked_of: Mapping,
    /// Lookups inside read a partner's mm; their leases end with the release of a lock of this class.
    pub foreign_until: Option<Class>,
}

/// A request of a task that was not seen to succeed yet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Requested {
    Lock {
        addr: u64,
        at_ns: u64,
        mode: Option<Mode>,
        site: SiteId,
    },
    /// `folio`: 0 while the lookup has not returned a folio. Otherwise the edges of the request already exist.
    Folio {
        mapping: Mapping,
        index: u64,
        at_ns: u64,
        site: SiteId,
        folio: Folio,
    },
}

impl Requested {
    pub fn at_ns(self) -> u64 {
        match self {
            Requested::Lock { at_ns, .. } | Requested::Folio { at_ns, .. } => at_ns,
        }
    }
}

/// A wait of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// Address of the lock or folio.
    pub addr: u64,
    pub class: LockClass,
    pub mode: Option<Mode>,
    /// Time of the request.
    pub since_ns: u64,
    pub site: SiteId,
    /// The kernel reported the wait. If false, the task has been silent for long.
    pub reported: bool,
}

/// State of one task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Unique number within a run, because thread ids are reused.
    pub serial: u64,
    /// Time of its fork if that was seen, else of its first event.
    pub born_ns: u64,
    /// Time of its fork; 0 if not seen.
    pub made_ns: u64,
    pub tid: Tid,
    pub tgid: u32,
    pub comm: [u8; 16],
    pub mm: Mm,
    pub cpu: u16,
    pub last_ns: u64,
    pub frames: Vec<Frame>,
    pub holds: Vec<LockHold>,
    pub requested: Option<Requested>,
    /// Current wait of the task.
    pub waiting: Option<Waiting>,
    /// Its exit was reported before it gave up its mm: the teardown of the mm follows.
    pub exiting: bool,
    /// Doubt about the task after records of it may have been lost.
    pub loss: TaskLoss,
    /// Last recorded stack of each operation.
    pub stacks: Vec<(SiteId, u32)>,
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
            requested: None,
            waiting: None,
            exiting: false,
            loss: TaskLoss::default(),
            stacks: Vec::new(),
        }
    }

    /// Returns the site to which an event at `site` is attributed.
    pub fn site(&self, site: SiteId) -> SiteId {
        self.frames.last().map_or(site, |f| f.site)
    }

    /// Returns true if loss may hide the end of the current operation, or the begin of another.
    #[inline]
    pub fn is_site_unsure(&self, now_ns: u64) -> bool {
        let is_adrift = self.loss.is_adrift(now_ns) || self.is_doubtful(now_ns);
        self.frames.last().map_or(is_adrift, |f| f.lossy)
    }

    pub fn has_stack(&mut self, site: SiteId, stack: u32) {
        match self.stacks.iter_mut().find(|(s, _)| *s == site) {
            Some((_, known)) => *known = stack,
            None => self.stacks.push((site, stack)),
        }
    }

    /// Stack of the innermost operation.
    #[inline]
    pub fn stack(&self) -> Option<u32> {
        let site = self.frames.last()?.site;
        self.stacks.iter().find(|(s, _)| *s == site).map(|(_, stack)| *stack)
    }

    pub fn reference(&self) -> TaskRef {
        TaskRef { tid: self.tid, tgid: self.tgid, comm: comm_text(&self.comm), cpu: self.cpu }
    }

    /// Returns true if every event of the task at this time is doubtful.
    pub fn is_doubtful(&self, now_ns: u64) -> bool {
        self.loss.is_doubtful(now_ns)
    }

    /// Returns true if it is not in a watched operation and is not known to hold a lock.
    pub fn is_at_rest(&self) -> bool {
        self.holds.is_empty() && self.frames.is_empty()
    }

    /// Handles a loss in which records of this task may be missing. State that spans the loss becomes doubtful.
    /// Returns true if a hold may have been released unseen, or another lock acquired under a hold.
    pub fn touched_by_loss(&mut self, missing: Missing, span: Span, sparse: bool) -> bool {
        self.loss.touched(missing, span, sparse, !self.frames.is_empty());
        let mut spans = missing.acquires() && !self.holds.is_empty();
        for hold in &mut self.holds {
            hold.lossy |= missing.releases(hold.class.wire());
            spans |= hold.lossy;
        }
        for frame in &mut self.frames {
            frame.lossy |= missing.deeds();
            frame.folios_lossy |= missing.concerns_folios();
        }
        spans
    }
}

/// Number of frames that a begin or an end removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Popped {
    /// No frame has this site.
    Nothing,
    /// Truncate the stack to this depth; the ends of `missed` inner frames were not seen.
    To { depth: usize, missed: u64 },
}

/// The live tasks, by slot.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    slots: Vec<Task>,
    free: Vec<u32>,
    by_tid: FxMap<u32, u32>,
    /// Last task of each CPU: usually also the next one.
    recent: Vec<(Tid, u32)>,
    /// Number of tasks so far.
    serials: u64,
    /// Incremented when a task is added or removed.
    pub epoch: u64,
}

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

    /// Returns the task, which is created if it is not known.
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

    /// Removes a task; its slot with its buffers is reused.
    pub fn remove(&mut self, id: TaskId) {
        let tid = self[id].tid;
        self.by_tid.remove(&tid.0);
        self.epoch += 1;
        let task = &mut self.slots[id.0 as usize];
        let (mut frames, mut holds) = (std::mem::take(&mut task.frames), std::mem::take(&mut task.holds));
        frames.clear();
        holds.clear();
        *task = Task { frames, holds, ..Task::new(Tid(u32::MAX)) };
        self.free.push(id.0);
    }

    pub fn len(&self) -> usize {
        self.by_tid.len()
    }

    /// Returns true if the task with this serial still exists in this slot.
    pub fn is_alive(&self, id: TaskId, serial: u64) -> bool {
        self[id].serial == serial
    }

    /// Slots of all live tasks, in an order that depends only on the events.
    pub fn ids(&self) -> impl Iterator<Item = TaskId> + '_ {
        (0..self.slots.len() as u32).map(TaskId).filter(|id| self[*id].tid != Tid(u32::MAX))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Task> {
        self.ids().map(|id| &self[id])
    }
}

impl Task {
    /// Returns the cut before the begin of `site`: a function that begins again has ended before.
    pub fn begin_cuts(&self, site: SiteId) -> Popped {
        if let Some(depth) = self.frames.iter().position(|f| f.site == site) {
            return Popped::To { depth, missed: (self.frames.len() - depth) as u64 };
        }
        if self.frames.len() == DEPTH_MAX {
            return Popped::To { depth: 0, missed: DEPTH_MAX as u64 };
        }
        Popped::Nothing
    }

    /// Returns the frames that the end of `site` removes.
    pub fn end_pops(&self, site: SiteId) -> Popped {
        match self.frames.iter().rposition(|f| f.site == site) {
            Some(depth) => Popped::To { depth, missed: (self.frames.len() - depth - 1) as u64 },
            None => Popped::Nothing,
        }
    }
}
