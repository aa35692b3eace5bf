//! Tests of the losses that the pipeline passes to the engine.

use std::collections::BTreeMap;

use super::*;
use crate::meta::{End, Lost};

fn loss(reason: usize, total: u64, since_ns: u64) -> Loss {
    Loss { cpu: 1, reason: reason as u16, site: None, total, since_ns }
}

#[test]
fn a_risen_counter_is_a_hole_up_to_the_next_mark() {
    let mut losses = Losses::default();
    losses.rose(&loss(loss::READ_FAULT, 3, 50), 10, 0);
    losses.rose(&loss(loss::READ_FAULT, 3, 70), 10, 0);
    losses.rose(&loss(loss::READ_FAULT, 4, 90), 10, 0);
    let hole = |lo_ns, lost| Hole { cpu: 1, lo_ns, hi_ns: lo_ns, lost, reason: "read-fault", site: None };
    assert_eq!(losses.open, [hole(50, 3), hole(90, 1)]);
    assert_eq!(losses.rest(200).iter().map(|h| h.hi_ns).collect::<Vec<_>>(), [200, 200]);
}

#[test]
fn nothing_was_lost_before_the_start() {
    let mut losses = Losses::default();
    losses.rose(&loss(loss::READ_FAULT, 1, 0), 1_000, 0);
    assert_eq!(losses.open[0].lo_ns, 1_000);
}

#[test]
fn a_full_ring_is_a_hole_only_without_a_gap_in_the_numbers() {
    let mut losses = Losses::default();
    losses.rose(&loss(loss::RING_FULL, 9, 50), 10, 9);
    assert_eq!(losses.open, []);
    losses.gaps.insert(1, 7);
    let rest = losses.rest(200);
    assert_eq!(rest, [Hole { cpu: 1, lo_ns: 50, hi_ns: 200, lost: 2, reason: "ring-full", site: None }]);
    losses.gaps.insert(1, 9);
    assert_eq!(losses.rest(200), []);
}

#[test]
fn totals_are_the_highest_known_counts() {
    let mut losses = Losses::default();
    losses.rose(&loss(loss::RING_FULL, 2, 0), 0, 0);
    losses.gaps.insert(1, 5);
    losses.rose(&loss(loss::READ_FAULT, 1, 0), 0, 0);
    assert_eq!(losses.by_reason(None), [("ring-full", 5), ("read-fault", 1)]);
    let lost = BTreeMap::from([("read-fault".to_owned(), 8)]);
    let closing = Closing { end: End::Source, end_ns: 0, sites: vec![], misses: vec![], loss: lost };
    assert_eq!(losses.by_reason(Some(&closing)), [("ring-full", 5), ("read-fault", 8)]);
}

#[test]
fn a_full_ring_is_counted_before_its_gap_in_the_numbers_is_visible() {
    let mut losses = Losses::default();
    losses.rose(&loss(loss::RING_FULL, 9, 50), 10, 7);
    // The hole has no count, so that no record counts twice: numbers are counted when they are passed over, or at the end.
    assert_eq!(
        losses.open,
        [Hole { cpu: 1, lo_ns: 50, hi_ns: 50, lost: 0, reason: "ring-full", site: None }]
    );
}

#[test]
fn a_skipped_program_is_a_hole_of_each_site() {
    let skipped =
        |site, total, since_ns| Loss { cpu: Hole::ANY_CPU, site, ..loss(loss::SKIPPED, total, since_ns) };
    let mut losses = Losses::default();
    losses.rose(&skipped(Some(3), 2, 50), 10, 0);
    losses.rose(&skipped(Some(7), 1, 50), 10, 0);
    losses.rose(&skipped(Some(3), 5, 90), 10, 0);
    // An older recording does not name the program.
    losses.rose(&skipped(None, 4, 90), 10, 0);
    let hole = |lo_ns, lost, site: Option<u16>| Hole {
        cpu: Hole::ANY_CPU,
        lo_ns,
        hi_ns: lo_ns,
        lost,
        reason: "skipped",
        site: site.map(SiteId),
    };
    let expected = [hole(50, 2, Some(3)), hole(50, 1, Some(7)), hole(90, 3, Some(3)), hole(90, 4, None)];
    assert_eq!(losses.open, expected);
    assert_eq!(losses.by_reason(None), [("skipped", 10)]);
}

#[test]
fn skips_before_an_in_memory_segment_are_not_lost_again_in_it() {
    let before =
        Lost { cpu: Hole::ANY_CPU, reason: loss::SKIPPED as u16, site: Some(3), total: 2, since_ns: 50 };
    let since = Since { lost: vec![before], ..Since::default() };
    let mut losses = Losses::default();
    losses.begin(&since, &mut Order::new());
    let skipped = |site, total| Loss { cpu: Hole::ANY_CPU, site, ..loss(loss::SKIPPED, total, 90) };
    losses.rose(&skipped(Some(3), 2), 10, 0);
    assert_eq!(losses.open, []);
    losses.rose(&skipped(Some(4), 2), 10, 0);
    assert_eq!(losses.open.iter().map(|h| (h.lost, h.site)).collect::<Vec<_>>(), [(2, Some(SiteId(4)))]);
}

/// On a CPU that was quiet for ten seconds, the counter shows the few milliseconds in which the record was lost.
#[test]
fn the_counter_of_a_quiet_cpu_narrows_its_gap() {
    let mut losses = Losses::default();
    let second = 1_000_000_000;
    losses.rose(&loss(loss::RING_FULL, 1, 4 * second), 0, 0);
    losses.looked(4 * second + 5_000_000);
    let gap = Gap { cpu: 1, lo_ns: second, hi_ns: 11 * second, lost: 1 };
    let hole = |lo_ns, hi_ns, lost| Hole { cpu: 1, lo_ns, hi_ns, lost, reason: "ring-full", site: None };
    assert_eq!(losses.narrowed(gap), [hole(4 * second, 4 * second + 5_000_000, 1)]);
    // If numbers and counters disagree, the numbers count.
    losses.rose(&loss(loss::RING_FULL, 2, 12 * second), 0, 1);
    let gap = Gap { cpu: 1, lo_ns: 11 * second, hi_ns: 20 * second, lost: 3 };
    assert_eq!(losses.narrowed(gap), [hole(11 * second, 20 * second, 3)]);
}
