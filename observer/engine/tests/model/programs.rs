//! Tasks as programs of atomic steps: the paths of the kernel's source, in variants that existed or could exist.
//!
//! Decides which locks a path acquires, and in which order. `kernel` decides what a step does.

use observer_engine::event::Mode::{Exclusive, Read, Write};

use super::{
    kernel::{Place, TaskNo},
    kernels::{Late, Protocol},
    locks::Lock,
    random::Random,
    sites::Site,
};

pub type Label = usize;
pub type Reg = usize;

/// One atomic step. Jumps go to a place in the program.
#[derive(Clone, Copy, Debug)]
pub enum Ins {
    Begin(Site, Place),
    End,
    /// Begins a walk that may look up any entry of the range.
    BeginSweep(Place, u64),
    /// Begins a callback that receives the pointer; `End` ends it.
    Call(Reg, Place),
    Request(Lock, observer_engine::event::Mode),
    Try(Lock, observer_engine::event::Mode, Label),
    Release(Lock),
    Downgrade(Lock),
    /// Requests the PTL of the table to which the pointer points. This is a use of the pointer.
    PtlRequest(Reg),
    PtlRelease(Reg),
    Look(Reg, Place, Site),
    LookPartner(Reg, Place),
    /// A lookup that no probe sees.
    LookSilently(Reg, Place),
    Link(Reg, Place),
    Alloc(Place),
    Unshare(Reg, Place),
    /// Frees the table, if there is one.
    Free(Place),
    IfNull(Reg, Label),
    IfSame(Reg, Reg, Label),
    IfUnmapped(Place, Label),
    IfMapped(Place, Label),
    IfOutOfTree(Place, Label),
    /// Becomes a user of the mm, if the mm has one.
    Get(usize, Label),
    /// Jumps if the mm has other users.
    Put(usize, Label),
    Goto(Label),
    Map(Place),
    Detach(Place),
    Unshareable(Place),
    OutOfTree(Place),
    Forget(Lock),
    Fork(TaskNo),
    Sleep,
    Exit,
}

/// Next action of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Fault(Place),
    Walk(Place),
    Gup(Place),
    Restore,
    Punch,
    Migrate,
    Dontneed(Place),
    Munmap(Place),
    Mmap(Place),
    /// Unmaps, maps again and touches.
    Remap(Place),
    /// A walk over the whole mm that no lookup reports.
    Sweep(Place),
    /// A walk by the file that keeps only the VMA's lock.
    Poison(Place),
    Protect(Place),
    Split(Place),
    Move(Place),
    Fork(TaskNo),
    Sleep,
}

/// The VMAs of all mms.
#[derive(Clone, Debug)]
pub struct Maker<'a> {
    protocol: &'a Protocol,
    places: &'a [Place],
    mm: usize,
    random: Random,
    out: Vec<Ins>,
    labels: Vec<usize>,
}

fn vma(place: Place) -> Lock {
    Lock::Vma(place.mm, place.vma)
}

impl<'a> Maker<'a> {
    /// Returns the program of a task of `mm` that performs these actions and exits.
    pub fn program(
        protocol: &'a Protocol,
        places: &'a [Place],
        mm: usize,
        acts: &[Act],
        seed: u64,
    ) -> Vec<Ins> {
        let mut maker =
            Maker { protocol, places, mm, random: Random(seed), out: Vec::new(), labels: Vec::new() };
        for act in acts {
            maker.act(*act);
        }
        maker.leave(mm);
        maker.put(Ins::Exit);
        maker.linked()
    }

    fn put(&mut self, ins: Ins) {
        self.out.push(ins);
    }

    /// Sometimes adds a pause in which other tasks run.
    fn pause(&mut self) {
        for _ in 0..self.random.below(6) {
            self.put(Ins::Sleep);
        }
    }

    fn label(&mut self) -> Label {
        self.labels.push(usize::MAX);
        self.labels.len() - 1
    }

    fn place(&mut self, label: Label) {
        self.labels[label] = self.out.len();
    }

    /// Replaces labels by places in the program.
    fn linked(mut self) -> Vec<Ins> {
        for ins in &mut self.out {
            match ins {
                Ins::Try(_, _, l)
                | Ins::IfNull(_, l)
                | Ins::IfSame(_, _, l)
                | Ins::IfUnmapped(_, l)
                | Ins::IfMapped(_, l)
                | Ins::IfOutOfTree(_, l)
                | Ins::Get(_, l)
                | Ins::Put(_, l)
                | Ins::Goto(l) => *l = self.labels[*l],
                _ => {}
            }
        }
        self.out
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Fault(place) => self.fault(place),
            Act::Walk(place) => self.visit(place, Maker::walk),
            Act::Gup(place) => self.visit(place, Maker::gup),
            Act::Restore => self.restore(),
            Act::Punch => self.file_wide(Site::Unmap),
            Act::Migrate => self.file_wide(Site::Migrate),
            Act::Dontneed(place) => self.own(place, Read, |m| m.unshares(place, Site::Unmap, false, true)),
            Act::Protect(place) => self.own(place, Write, |m| m.unshares(place, Site::Protect, true, true)),
            Act::Move(place) => self.own(place, Write, |m| m.unshares(place, Site::Move, true, false)),
            Act::Split(place) => self.own(place, Write, |m| m.split(place)),
            Act::Munmap(place) => self.own(place, Write, |m| m.munmap(place)),
            Act::Mmap(place) => self.mmap(place),
            Act::Remap(place) => {
                self.own(place, Write, |m| m.munmap(place));
                self.mmap(place);
                self.fault(place);
            }
            Act::Poison(place) => self.poison(place),
            Act::Sweep(place) => self.own(place, Read, |m| m.sweep(place)),
            Act::Fork(child) => self.put(Ins::Fork(child)),
            Act::Sleep => (0..4).for_each(|_| self.put(Ins::Sleep)),
        }
    }

    /// Adds an action under the mmap_lock, if the VMA still exists, or under the VMA's lock.
    fn own(&mut self, place: Place, mode: observer_engine::event::Mode, what: impl Fn(&mut Self)) {
        let per_vma = Lock::PerVma(place.mm, place.vma);
        let (done, gone, busy) = (self.label(), self.label(), self.label());
        if self.protocol.per_vma && mode == Read {
            self.put(Ins::Try(per_vma, Read, busy));
            self.put(Ins::IfUnmapped(place, gone));
            what(self);
            self.place(gone);
            self.put(Ins::Release(per_vma));
            self.put(Ins::Goto(done));
        } else {
            self.place(gone);
        }
        self.place(busy);
        let out = self.label();
        self.put(Ins::Request(Lock::Mmap(place.mm), mode));
        self.put(Ins::IfUnmapped(place, out));
        if self.protocol.per_vma && mode == Write {
            // Waits for the readers.
            self.put(Ins::Request(per_vma, Write));
            what(self);
            self.put(Ins::Release(per_vma));
        } else {
            what(self);
        }
        self.place(out);
        self.put(Ins::Release(Lock::Mmap(place.mm)));
        self.place(done);
    }

    fn mmap(&mut self, place: Place) {
        let out = self.label();
        self.put(Ins::Request(Lock::Mmap(place.mm), Write));
        self.put(Ins::IfMapped(place, out));
        self.put(Ins::Map(place));
        self.place(out);
        self.put(Ins::Release(Lock::Mmap(place.mm)));
    }

    /// A walk through the task's own mm or another one, which the task keeps alive meanwhile.
    fn visit(&mut self, place: Place, what: impl Fn(&mut Self, Place)) {
        let other = place.mm != self.mm;
        let dead = self.label();
        if other {
            self.put(Ins::Get(place.mm, dead));
        }
        self.own(place, Read, |m| what(m, place));
        if other {
            self.leave(place.mm);
        }
        self.place(dead);
    }

    fn walk(&mut self, place: Place) {
        let locks = self.protocol.vma_lock && self.protocol.walkers_lock;
        self.put(Ins::Begin(Site::WalkRange, place));
        if locks {
            self.put(Ins::Request(vma(place), Read));
        }
        for _ in 0..1 + self.random.below(2) {
            let none = self.label();
            self.put(match self.protocol.walk_seen {
                true => Ins::Look(0, place, Site::Offset),
                false => Ins::LookSilently(0, place),
            });
            self.put(Ins::IfNull(0, none));
            self.put(Ins::Call(0, place));
            self.pause();
            if self.random.once_in(2) {
                self.put(Ins::PtlRequest(0));
                self.put(Ins::PtlRelease(0));
            }
            self.put(Ins::End);
            self.place(none);
        }
        if locks {
            self.put(Ins::Release(vma(place)));
        }
        self.put(Ins::End);
    }

    fn sweep(&mut self, place: Place) {
        let mine = self.places.iter().filter(|p| p.mm == place.mm);
        let end = mine.map(|p| p.gib() + (1 << 30)).max().unwrap_or(0);
        self.put(Ins::BeginSweep(place, end));
        self.pause();
        self.pause();
        self.put(Ins::End);
    }

    fn gup(&mut self, place: Place) {
        let locks = self.protocol.vma_lock && self.protocol.walkers_lock;
        self.put(Ins::Begin(Site::Gup, place));
        if locks {
            self.put(Ins::Request(vma(place), Read));
        }
        for _ in 0..1 + self.random.below(3) {
            let none = self.label();
            self.put(Ins::Look(0, place, Site::Offset));
            self.put(Ins::IfNull(0, none));
            self.pause();
            if !self.random.once_in(4) {
                self.put(Ins::PtlRequest(0));
                self.put(Ins::PtlRelease(0));
            }
            self.place(none);
        }
        if locks {
            self.put(Ins::Release(vma(place)));
        }
        self.put(Ins::End);
    }

    fn fault(&mut self, place: Place) {
        self.own(place, Read, |m| {
            m.put(Ins::Begin(Site::Fault, place));
            let done = m.label();
            if m.protocol.first_look {
                m.first_look(place, done);
            }
            m.put(Ins::Request(Lock::Fault, Exclusive));
            let lock = if m.protocol.vma_lock { vma(place) } else { Lock::IMmap };
            m.put(Ins::Request(lock, Read));
            m.alloc(place);
            m.put(Ins::Look(2, place, Site::AllocPte));
            match m.random.below(6) {
                0 | 1 => {
                    m.put(Ins::PtlRequest(2));
                    m.put(Ins::PtlRelease(2));
                    m.put(Ins::Release(lock));
                    m.put(Ins::Release(Lock::Fault));
                }
                2 => {
                    m.put(Ins::Release(lock));
                    m.put(Ins::Release(Lock::Fault));
                    m.pause();
                }
                _ => {
                    m.put(Ins::Release(lock));
                    m.pause();
                    m.late(place);
                    m.put(Ins::Release(Lock::Fault));
                }
            }
            m.place(done);
            m.put(Ins::End);
        });
    }

    /// A lockless lookup; the wait for a migration acquires the PTL through it.
    fn first_look(&mut self, place: Place, done: Label) {
        let none = self.label();
        self.put(Ins::Look(0, place, Site::Offset));
        self.put(Ins::IfNull(0, none));
        self.pause();
        if self.random.once_in(3) {
            self.put(Ins::PtlRequest(0));
            self.put(Ins::PtlRelease(0));
            self.put(Ins::Sleep);
            self.put(Ins::Goto(done));
        }
        self.place(none);
    }

    /// Shares a partner's table, or allocates one.
    fn alloc(&mut self, place: Place) {
        let alone = self.label();
        self.put(Ins::Begin(Site::Sharing, place));
        if self.protocol.vma_lock {
            self.put(Ins::Request(Lock::IMmap, Read));
        }
        self.put(Ins::LookPartner(1, place));
        self.put(Ins::IfNull(1, alone));
        self.put(Ins::Link(1, place));
        self.place(alone);
        self.put(Ins::Alloc(place));
        if self.protocol.vma_lock {
            self.put(Ins::Release(Lock::IMmap));
        }
        self.put(Ins::End);
    }

    /// A fault that released its lock and continues with the pointer in register 2.
    fn late(&mut self, place: Place) {
        let out = self.label();
        let look = Ins::Look(3, place, Site::Offset);
        match self.protocol.late {
            Late::Never => {}
            Late::Blindly => {
                self.put(Ins::PtlRequest(2));
                self.put(Ins::PtlRelease(2));
            }
            Late::Revalidates => {
                self.put(Ins::PtlRequest(2));
                self.put(look);
                self.put(Ins::PtlRelease(2));
                if self.random.once_in(2) {
                    self.put(Ins::IfNull(3, out));
                    self.put(Ins::PtlRequest(3));
                    self.put(Ins::PtlRelease(3));
                }
            }
            Late::RevalidatesBefore => {
                self.put(look);
                self.put(Ins::IfNull(3, out));
                self.put(Ins::PtlRequest(3));
                self.put(Ins::PtlRelease(3));
            }
            Late::RevalidatesAfterUse => {
                self.put(Ins::PtlRequest(2));
                self.put(Ins::PtlRelease(2));
                self.put(Ins::PtlRequest(2));
                self.put(look);
                self.put(Ins::PtlRelease(2));
            }
            Late::IgnoresTakesAgain | Late::IgnoresHandsOver => {
                let other = self.label();
                self.put(Ins::PtlRequest(2));
                self.put(look);
                self.put(Ins::PtlRelease(2));
                self.put(Ins::IfSame(2, 3, out));
                self.place(other);
                if self.protocol.late == Late::IgnoresTakesAgain {
                    self.put(Ins::PtlRequest(2));
                    self.put(Ins::PtlRelease(2));
                } else {
                    self.put(Ins::Call(2, place));
                    self.put(Ins::End);
                }
            }
        }
        self.place(out);
    }

    /// A walk from the page to all its mappings, under the file's lock.
    fn restore(&mut self) {
        self.put(Ins::Request(Lock::IMmap, Read));
        for place in self.places {
            let skip = self.label();
            self.put(Ins::IfOutOfTree(*place, skip));
            self.put(Ins::Begin(Site::Restore, *place));
            let none = self.label();
            self.put(Ins::Look(0, *place, Site::Offset));
            self.put(Ins::IfNull(0, none));
            self.put(Ins::PtlRequest(0));
            self.put(Ins::PtlRelease(0));
            self.place(none);
            self.put(Ins::End);
            self.place(skip);
        }
        self.put(Ins::Release(Lock::IMmap));
    }

    fn poison(&mut self, place: Place) {
        let (busy, gone, none, out) = (self.label(), self.label(), self.label(), self.label());
        self.put(Ins::Request(Lock::IMmap, Read));
        self.put(Ins::IfOutOfTree(place, busy));
        self.put(Ins::Try(vma(place), Read, busy));
        self.put(Ins::IfUnmapped(place, gone));
        self.put(Ins::Begin(Site::Poison, place));
        self.put(Ins::Look(0, place, Site::Offset));
        self.put(Ins::Release(Lock::IMmap));
        self.put(Ins::IfNull(0, none));
        self.pause();
        self.put(Ins::PtlRequest(0));
        self.put(Ins::PtlRelease(0));
        self.place(none);
        self.put(Ins::End);
        self.put(Ins::Release(vma(place)));
        self.put(Ins::Goto(out));
        self.place(gone);
        self.put(Ins::Release(vma(place)));
        self.place(busy);
        self.put(Ins::Release(Lock::IMmap));
        self.place(out);
    }

    /// Unshares in every mapping of the file whose lock is free.
    fn file_wide(&mut self, site: Site) {
        self.put(Ins::Request(Lock::IMmap, Write));
        for place in self.places {
            let skip = self.label();
            self.put(Ins::IfOutOfTree(*place, skip));
            if self.protocol.vma_lock {
                self.put(Ins::Try(vma(*place), Write, skip));
            }
            self.put(Ins::Begin(site, *place));
            self.look_and_unshare(*place, true);
            self.put(Ins::End);
            if self.protocol.vma_lock {
                self.put(Ins::Release(vma(*place)));
            }
            self.place(skip);
        }
        self.put(Ins::Release(Lock::IMmap));
    }

    fn look_and_unshare(&mut self, place: Place, ptl: bool) {
        let none = self.label();
        self.put(Ins::Look(0, place, Site::Offset));
        self.put(Ins::IfNull(0, none));
        if ptl {
            self.put(Ins::PtlRequest(0));
        }
        self.put(Ins::Unshare(0, place));
        if ptl {
            self.put(Ins::PtlRelease(0));
        }
        self.place(none);
    }

    /// Unshares under all locks; `inside`: they are taken inside the operation.
    fn unshares(&mut self, place: Place, site: Site, inside: bool, ptl: bool) {
        if inside {
            self.put(Ins::Begin(site, place));
        }
        if self.protocol.vma_lock {
            self.put(Ins::Request(vma(place), Write));
        }
        self.put(Ins::Request(Lock::IMmap, Write));
        if !inside {
            self.put(Ins::Begin(site, place));
        }
        self.look_and_unshare(place, ptl);
        if !inside {
            self.put(Ins::End);
        }
        self.put(Ins::Release(Lock::IMmap));
        if self.protocol.vma_lock {
            self.put(Ins::Release(vma(place)));
        }
        if inside {
            self.put(Ins::End);
        }
    }

    fn split(&mut self, place: Place) {
        if self.protocol.split_takes_i_mmap {
            self.put(Ins::Request(Lock::IMmap, Write));
        }
        self.put(Ins::Begin(Site::Split, place));
        self.look_and_unshare(place, true);
        self.put(Ins::End);
        if self.protocol.split_takes_i_mmap {
            self.put(Ins::Release(Lock::IMmap));
        }
    }

    fn munmap(&mut self, place: Place) {
        self.put(Ins::Detach(place));
        if self.random.once_in(2) {
            self.put(Ins::Downgrade(Lock::Mmap(place.mm)));
        }
        self.unmap(place);
    }

    /// Unshares the table, or frees it if it has no other user.
    fn unmap(&mut self, place: Place) {
        if self.protocol.vma_lock {
            self.put(Ins::Request(vma(place), Write));
        }
        self.put(Ins::Request(Lock::IMmap, Write));
        self.put(Ins::Begin(Site::Unmap, place));
        self.look_and_unshare(place, true);
        self.put(Ins::End);
        self.put(Ins::Unshareable(place));
        self.put(Ins::Release(Lock::IMmap));
        if self.protocol.vma_lock {
            self.put(Ins::Release(vma(place)));
        }
        self.put(Ins::Request(Lock::IMmap, Write));
        self.put(Ins::OutOfTree(place));
        self.put(Ins::Release(Lock::IMmap));
        self.put(Ins::Free(place));
        self.put(Ins::Forget(vma(place)));
    }

    /// Stops using the mm. The last user tears it down.
    fn leave(&mut self, mm: usize) {
        let out = self.label();
        let place = Place { mm, vma: 0 };
        self.put(Ins::Put(mm, out));
        self.put(Ins::Begin(Site::Exit, place));
        self.put(Ins::Request(Lock::Mmap(mm), Read));
        for place in self.places.iter().filter(|p| p.mm == mm) {
            let skip = self.label();
            self.put(Ins::IfUnmapped(*place, skip));
            self.put(Ins::Detach(*place));
            self.unmap(*place);
            self.place(skip);
        }
        self.put(Ins::Release(Lock::Mmap(mm)));
        self.put(Ins::End);
        self.put(Ins::Forget(Lock::Mmap(mm)));
        self.place(out);
    }
}
