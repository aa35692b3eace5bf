//! Where records are known to be missing.
//!
//! Decides whether an interval on a CPU is touched by loss. What that does to a finding is the rules' business.

use std::collections::BTreeMap;

use crate::event::SiteId;

/// Records that did not arrive: known to have happened in this interval on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// [`Hole::ANY_CPU`]: it is not known which.
    pub cpu: u16,
    pub lo_ns: u64,
    pub hi_ns: u64,
    pub lost: u64,
    /// Name of the reason.
    pub reason: &'static str,
    /// The only site whose records it can have lost, where that is known: a program that the kernel skipped.
    pub site: Option<SiteId>,
}

impl Hole {
    pub const ANY_CPU: u16 = u16::MAX;
}

/// Holes kept apart per CPU; older ones are merged into one that covers them all.
const KEPT: usize = 128;

/// The holes so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    by_cpu: Vec<Vec<(u64, u64)>>,
    /// Of a CPU that is not known.
    anywhere: Vec<(u64, u64)>,
    /// Latest end of a hole on any CPU; 0: none.
    latest_ns: u64,
    pub holes: u64,
    pub lost: u64,
    pub by_reason: BTreeMap<&'static str, u64>,
}

impl Losses {
    pub fn add(&mut self, hole: &Hole) {
        self.keep(hole.cpu, (hole.lo_ns, hole.hi_ns));
        self.holes += 1;
        self.lost += hole.lost;
        *self.by_reason.entry(hole.reason).or_default() += hole.lost;
    }

    fn keep(&mut self, cpu: u16, (lo_ns, hi_ns): (u64, u64)) {
        let kept = if cpu == Hole::ANY_CPU {
            &mut self.anywhere
        } else {
            let cpu = usize::from(cpu);
            if self.by_cpu.len() <= cpu {
                self.by_cpu.resize_with(cpu + 1, Vec::new);
            }
            &mut self.by_cpu[cpu]
        };
        if kept.len() == KEPT {
            // Covering both is the safe side: more is called incomplete, nothing is called sure.
            let (lo, hi) = kept.remove(0);
            kept[0] = (kept[0].0.min(lo), kept[0].1.max(hi));
        }
        kept.push((lo_ns, hi_ns));
        self.latest_ns = self.latest_ns.max(hi_ns);
    }

    /// Something happened at this moment to something that is not known: as if it were lost.
    pub fn not_known(&mut self, at_ns: u64) {
        if self.holes > 0 {
            self.keep(Hole::ANY_CPU, (at_ns, at_ns));
        }
    }

    /// Whether records of `cpu` between the two times may be missing.
    #[inline]
    pub fn touches(&self, cpu: u16, from_ns: u64, to_ns: u64) -> bool {
        from_ns <= self.latest_ns
            && self.holes > 0
            && (self.by_cpu.get(usize::from(cpu)).is_some_and(|holes| overlap(holes, from_ns, to_ns))
                || overlap(&self.anywhere, from_ns, to_ns))
    }

    /// Whether records of any CPU between the two times may be missing. Between two events of a task it may have been on
    /// any, and come back.
    #[inline]
    pub fn anywhere(&self, from_ns: u64, to_ns: u64) -> bool {
        from_ns <= self.latest_ns
            && self.by_cpu.iter().chain([&self.anywhere]).any(|holes| overlap(holes, from_ns, to_ns))
    }
}

fn overlap(holes: &[(u64, u64)], from_ns: u64, to_ns: u64) -> bool {
    holes.iter().any(|(lo, hi)| *lo <= to_ns && *hi >= from_ns)
}
