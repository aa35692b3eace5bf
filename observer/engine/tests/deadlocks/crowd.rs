//! Faults of other tasks on other pages, between the steps of a case, as on a busy server.
//!
//! The crowd shares no lock with the case, so it changes nothing in the truth. Its locks are of the same classes.
//! Each page is at another index.

use observer_engine::event::{Addr, Body, Class, Event, LockStep, Mm, Mode, SiteId, Tid};

use super::{
    page::{PAGES, Page, lock},
    random::Random,
    sites,
};

const FIRST_TID: u32 = 500;
/// Number of tasks that live through the whole run.
const STAYING: usize = 6;
const CPUS: usize = 6;

pub fn is_of_crowd(tid: Tid) -> bool {
    tid.0 >= FIRST_TID
}

#[derive(Clone, Debug)]
pub struct Crowd {
    random: Random,
    /// Number of faults that remain.
    left: usize,
    all: usize,
    /// Number of short-lived tasks so far.
    born: u32,
}

impl Crowd {
    pub fn new(faults: usize, seed: u64) -> Crowd {
        Crowd { random: Random::new(seed ^ 0x5eed), left: faults, all: faults, born: 0 }
    }

    /// Sends a few faults if it is time for them.
    pub fn burst(&mut self, now_ns: &mut u64, events: &mut Vec<Event>) {
        if self.left == 0 || !self.random.percent(15) {
            return;
        }
        let faults = (1 + self.random.below(1 + self.all / 5)).min(self.left);
        self.left -= faults;
        (0..faults).for_each(|_| self.fault(now_ns, events));
    }

    fn fault(&mut self, now_ns: &mut u64, events: &mut Vec<Event>) {
        let cpu = self.random.below(CPUS) as u16;
        let mut send = |tid: u32, site: u16, body: Body| {
            *now_ns += 1;
            events.push(Event { time_ns: *now_ns, seq: 0, tid: Tid(tid), cpu, site: SiteId(site), body });
        };
        let parent = FIRST_TID + self.random.below(STAYING) as u32;
        let is_short = self.random.percent(20);
        let tid = if is_short {
            self.born += 1;
            let child = FIRST_TID + STAYING as u32 + self.born;
            send(parent, sites::FORK, Body::Fork { child: Tid(child), child_tgid: FIRST_TID });
            child
        } else {
            parent
        };
        let page = Page::new(self.random.below(PAGES), self.random.below(PAGES));
        let vma = |step| lock(step, Class::VmaLock, Mode::Read, 0x70_0000);
        let i_mmap = |step| lock(step, Class::IMmap, Mode::Read, 0x70_1000);
        let (request, release) = (LockStep::Request, LockStep::Release);
        send(
            tid,
            sites::OPERATIONS[0],
            Body::OpBegin { mm: Mm(0xb000), start: Addr(0), end: Addr(0), page_kib: 0 },
        );
        send(tid, sites::MUTEX_LOCK, page.mutex(request));
        send(tid, sites::DOWN_READ, vma(request));
        send(tid, sites::LOOKUP_FOLIO, page.request());
        send(tid, sites::LOOKUP_FOLIO, page.held());
        send(tid, sites::DOWN_READ, i_mmap(request));
        send(tid, sites::RELEASE, i_mmap(release));
        send(tid, sites::FOLIO_RELEASE, page.unlock());
        send(tid, sites::RELEASE, vma(release));
        send(tid, sites::MUTEX_UNLOCK, page.mutex(release));
        send(tid, sites::OPERATIONS[0], Body::OpEnd { ret: 0 });
        if is_short {
            send(tid, sites::EXIT, Body::TaskExit { tgid: FIRST_TID, mm: Mm(0) });
        }
    }
}
