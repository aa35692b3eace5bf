//! The holes of one CPU in memory: the newest each by itself, the oldest as one.
//!
//! Decides what a query costs. Holes that are open for the whole run concern every query, so that each block of holes has
//! its sums; a query looks at single holes only in blocks that it covers in part.

use std::collections::VecDeque;

use crate::event::SiteId;

/// Maximum number of distinct holes per CPU; beyond it, the two oldest are replaced by one that covers both.
pub const KEPT: usize = 1024;
/// Holes in a block.
const BLOCK: usize = 32;

/// A hole in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub lo_ns: u64,
    pub hi_ns: u64,
    /// Latest end of this hole and of those before it.
    pub latest_ns: u64,
    pub lost: u64,
    /// Number of events before it was recorded.
    pub events: u64,
    pub site: Option<SiteId>,
}

/// Sums over some holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    /// Records in all of them, and in the largest.
    pub lost: u64,
    pub most: u64,
    /// Numbers of events before the first and the last of them.
    pub first: u64,
    pub last: u64,
}

impl Default for Sums {
    fn default() -> Sums {
        Sums { lost: 0, most: 0, first: u64::MAX, last: 0 }
    }
}

impl Sums {
    pub fn and(self, other: Sums) -> Sums {
        Sums {
            lost: self.lost.saturating_add(other.lost),
            most: self.most.max(other.most),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

impl From<&Kept> for Sums {
    fn from(hole: &Kept) -> Sums {
        Sums { lost: hole.lost, most: hole.lost, first: hole.events, last: hole.events }
    }
}

/// Consecutive holes that do not change any more.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// First and last begin, first and last end.
    lo_ns: (u64, u64),
    hi_ns: (u64, u64),
    latest_ns: u64,
    sums: Sums,
    /// A hole of an unknown site, if there is one: it hides more than any other.
    of_any_site: Option<Kept>,
}

impl Block {
    fn of<'a>(holes: impl Iterator<Item = &'a Kept>) -> Block {
        let none = (u64::MAX, 0);
        let empty =
            Block { lo_ns: none, hi_ns: none, latest_ns: 0, sums: Sums::default(), of_any_site: None };
        let wider = |(first, last): (u64, u64), ns: u64| (first.min(ns), last.max(ns));
        holes.fold(empty, |block, hole| Block {
            lo_ns: wider(block.lo_ns, hole.lo_ns),
            hi_ns: wider(block.hi_ns, hole.hi_ns),
            latest_ns: block.latest_ns.max(hole.latest_ns),
            sums: block.sums.and(hole.into()),
            of_any_site: block.of_any_site.or(Some(*hole).filter(|hole| hole.site.is_none())),
        })
    }
}

/// Holes of one CPU, in the order in which they were recorded.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    /// Covers the holes that are not in `kept` any more.
    oldest: Option<Kept>,
    kept: VecDeque<Kept>,
    /// Number of holes that were in `kept` before its first one.
    left: usize,
    /// Blocks of the holes whose numbers are from a multiple of [`BLOCK`] up to the next. The last hole is in none.
    blocks: VecDeque<Block>,
}

impl Spans {
    pub fn add(&mut self, span: Kept) {
        if let Some(last) = self.kept.back_mut()
            && last.site == span.site
            && last.hi_ns == span.lo_ns
            && span.lost == 0
        {
            // The hole continues.
            last.hi_ns = span.hi_ns;
            last.latest_ns = last.latest_ns.max(span.hi_ns);
            return;
        }
        if self.kept.len() + usize::from(self.oldest.is_some()) == KEPT {
            self.merge_oldest();
        }
        let number = self.left + self.kept.len();
        if number.is_multiple_of(BLOCK) && self.kept.len() >= BLOCK {
            self.blocks.push_back(Block::of(self.kept.range(self.kept.len() - BLOCK..)));
        }
        let latest_ns = self.kept.back().or(self.oldest.as_ref()).map_or(0, |last| last.latest_ns);
        self.kept.push_back(Kept { latest_ns: latest_ns.max(span.hi_ns), ..span });
    }

    /// Covering both is the safe side: more verdicts are incomplete, and no more are certain.
    fn merge_oldest(&mut self) {
        let Some(old) = self.oldest.take().or_else(|| self.leave()) else { return };
        let Some(mut next) = self.leave() else { return };
        next.lo_ns = next.lo_ns.min(old.lo_ns);
        next.lost = next.lost.saturating_add(old.lost);
        next.latest_ns = next.latest_ns.max(old.latest_ns);
        next.hi_ns = next.hi_ns.max(old.hi_ns);
        next.site = next.site.filter(|site| old.site == Some(*site));
        self.oldest = Some(next);
    }

    /// Takes the first hole out, and the block that it begins.
    fn leave(&mut self) -> Option<Kept> {
        if self.left.is_multiple_of(BLOCK) {
            self.blocks.pop_front();
        }
        self.left += 1;
        self.kept.pop_front()
    }

    /// Adds the holes between two times to `all`, newest first, at least up to where `is_enough`.
    pub fn sums(&self, from_ns: u64, to_ns: u64, all: &mut Sums, is_enough: impl Fn(&Sums) -> bool) {
        self.look(from_ns, to_ns, |_, sums| {
            *all = all.and(sums);
            !is_enough(all)
        });
    }

    /// Hands the holes between two times to `take`, until it returns false. Of holes in a block with one of an unknown site, only
    /// that one is handed on.
    pub fn each(&self, from_ns: u64, to_ns: u64, mut take: impl FnMut(&Kept) -> bool) {
        self.look(from_ns, to_ns, |holes, _| match holes {
            Holes::One(hole) => take(hole),
            Holes::Block(Block { of_any_site: Some(hole), .. }, _) => take(hole),
            Holes::Block(_, from) => self.kept.range(from..from + BLOCK).all(&mut take),
        });
    }

    /// Hands on whole blocks and single holes between two times, newest first, until `take` returns false.
    fn look(&self, from_ns: u64, to_ns: u64, mut take: impl FnMut(Holes<'_>, Sums) -> bool) {
        let is_in = |hole: &Kept| hole.lo_ns <= to_ns && hole.hi_ns >= from_ns;
        // Returns false if no earlier hole ends late enough, or nothing more is wanted.
        let one = |hole: &Kept, take: &mut dyn FnMut(Holes<'_>, Sums) -> bool| {
            hole.latest_ns >= from_ns && (!is_in(hole) || take(Holes::One(hole), hole.into()))
        };
        let last = self.left + self.kept.len().saturating_sub(1);
        let blocks_end = (last - last % BLOCK).max(self.left) - self.left;
        let blocks_begin = blocks_end - self.blocks.len() * BLOCK;
        if !self.kept.range(blocks_end..).rev().all(|hole| one(hole, &mut take)) {
            return;
        }
        for (n, block) in self.blocks.iter().enumerate().rev() {
            let from = blocks_begin + n * BLOCK;
            if block.latest_ns < from_ns {
                return;
            }
            if block.lo_ns.0 > to_ns || block.hi_ns.1 < from_ns {
                continue;
            }
            let is_whole = block.lo_ns.1 <= to_ns && block.hi_ns.0 >= from_ns;
            let goes_on = if is_whole {
                take(Holes::Block(block, from), block.sums)
            } else {
                self.kept.range(from..from + BLOCK).rev().all(|hole| one(hole, &mut take))
            };
            if !goes_on {
                return;
            }
        }
        let _ = self.kept.range(..blocks_begin).rev().chain(&self.oldest).all(|hole| one(hole, &mut take));
    }
}

/// Holes of a query.
enum Holes<'a> {
    One(&'a Kept),
    /// A block, and the place of its first hole.
    Block(&'a Block, usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    }

    /// The same without blocks.
    #[derive(Default)]
    struct Plain(Vec<Kept>);

    impl Plain {
        fn add(&mut self, span: Kept) {
            if let Some(last) = self.0.last_mut()
                && (last.site, last.hi_ns, 0) == (span.site, span.lo_ns, span.lost)
            {
                last.hi_ns = span.hi_ns;
                last.latest_ns = last.latest_ns.max(span.hi_ns);
                return;
            }
            if self.0.len() == KEPT {
                let old = self.0.remove(0);
                let next = &mut self.0[0];
                (next.lo_ns, next.hi_ns) = (next.lo_ns.min(old.lo_ns), next.hi_ns.max(old.hi_ns));
                next.lost = next.lost.saturating_add(old.lost);
                next.latest_ns = next.latest_ns.max(old.latest_ns);
                next.site = next.site.filter(|site| old.site == Some(*site));
            }
            let latest_ns = self.0.last().map_or(0, |l| l.latest_ns).max(span.hi_ns);
            self.0.push(Kept { latest_ns, ..span });
        }

        fn between(&self, from_ns: u64, to_ns: u64) -> impl Iterator<Item = &Kept> {
            self.0.iter().filter(move |s| s.lo_ns <= to_ns && s.hi_ns >= from_ns)
        }
    }

    #[test]
    fn blocks_have_the_sums_of_their_holes() {
        let mut seed = 0x2545_f491_4f6c_dd1d;
        for long in [1, 50, 5_000] {
            let (mut spans, mut plain) = (Spans::default(), Plain::default());
            for n in 0..3_000 {
                let lo_ns = if random(&mut seed, 4) == 0 { random(&mut seed, 9_000) } else { 3 * n };
                let site = [None, Some(SiteId(1)), Some(SiteId(2))][random(&mut seed, 3) as usize];
                // Some blocks have only holes of known sites.
                let site = if n / 200 % 2 == 0 { site } else { Some(SiteId(n as u16 % 5)) };
                let (hi_ns, lost) = (lo_ns + random(&mut seed, long), random(&mut seed, 4));
                let span = Kept { lo_ns, hi_ns, latest_ns: 0, lost, events: n, site };
                spans.add(span);
                plain.add(span);
                if random(&mut seed, 8) > 0 {
                    continue;
                }
                let from_ns = random(&mut seed, 9_000);
                let to_ns = from_ns + [0, 1, 100, u64::MAX / 2][random(&mut seed, 4) as usize];
                let expected =
                    plain.between(from_ns, to_ns).fold(Sums::default(), |all, s| all.and(s.into()));
                let mut sums = Sums::default();
                spans.sums(from_ns, to_ns, &mut sums, |_| false);
                assert_eq!(sums, expected, "{n} holes, {from_ns} to {to_ns}");
                let sites = |of: &mut Vec<Option<SiteId>>| {
                    of.sort();
                    of.dedup();
                    // An unknown site hides what any known site hides.
                    if of.contains(&None) { vec![None] } else { of.clone() }
                };
                let mut found = Vec::new();
                spans.each(from_ns, to_ns, |hole| {
                    found.push(hole.site);
                    true
                });
                let mut all = plain.between(from_ns, to_ns).map(|s| s.site).collect();
                assert_eq!(sites(&mut found), sites(&mut all), "{n} holes, {from_ns} to {to_ns}");
            }
        }
    }
}
