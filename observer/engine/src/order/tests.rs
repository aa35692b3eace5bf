//! Compares the order with a brute-force sort, over random streams.

use super::*;
use crate::event::Tid;
use observer_ebpf::kinds;

/// A small generator with a fixed seed, so that failures repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Returns an `op_end` record; tests identify it by its thread id.
fn record(time_ns: u64, seq: u32, tid: u32) -> Vec<u8> {
    let mut bytes = time_ns.to_le_bytes().to_vec();
    bytes.extend(seq.to_le_bytes());
    bytes.extend(tid.to_le_bytes());
    bytes.extend(kinds::on_wire(kinds::OP_END).to_le_bytes());
    bytes.extend(3u16.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    bytes
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Event { time_ns: u64, cpu: u16, tid: u32 },
    Gap(Gap),
}

fn seen(out: &mut Vec<Seen>) -> impl FnMut(Item<'_>) {
    |item| {
        out.push(match item {
            Item::Event(e) => Seen::Event { time_ns: e.time_ns, cpu: e.cpu, tid: e.tid.0 },
            Item::Gap(g) => Seen::Gap(g),
        });
    }
}

fn mark(number: u64, time_ns: u64, complete: bool) -> Mark {
    Mark { number, time_ns, complete }
}

fn tids(out: &[Seen]) -> Vec<u32> {
    out.iter().filter_map(|s| if let Seen::Event { tid, .. } = s { Some(*tid) } else { None }).collect()
}

type Passes = Vec<(Mark, Vec<(u16, Vec<u8>)>)>;

/// Passes over four CPUs with ties, nested records, holes and pieces that come a pass late.
fn passes(r: &mut Random) -> (Passes, Vec<(u64, u16, u32)>) {
    let mut passes = Vec::new();
    let mut all = Vec::new();
    let mut seq = [0u32; 4];
    let mut held_back: Vec<(u16, Vec<u8>)> = Vec::new();
    for number in 0..20u64 {
        let begin = 1000 * number;
        let mut batches = std::mem::take(&mut held_back);
        for cpu in 0..4u16 {
            let mut time = begin;
            let mut bytes = Vec::new();
            for _ in 0..r.below(12) {
                time += r.below(60);
                if r.below(10) == 0 {
                    seq[usize::from(cpu)] += 1 + r.below(3) as u32;
                }
                let tid = all.len() as u32;
                all.push((time, cpu, tid));
                let record = record(time, seq[usize::from(cpu)], tid);
                seq[usize::from(cpu)] += 1;
                bytes.extend(record);
            }
            // Records that were committed after the read of their ring arrive with the next pass.
            if r.below(5) == 0 { held_back.push((cpu, bytes)) } else { batches.push((cpu, bytes)) }
        }
        passes.push((mark(number, begin + 900, number % 7 != 3), batches));
    }
    passes.push((mark(20, 21_000, true), held_back));
    (passes, all)
}

fn run(passes: &Passes, mut cut: impl FnMut(usize) -> usize) -> (Vec<Seen>, Counts) {
    let mut order = Order::new();
    let mut out = Vec::new();
    for (mark, batches) in passes {
        for (cpu, bytes) in batches {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(cut(rest.len()));
                order.batch(*cpu, now);
                rest = later;
            }
        }
        order.mark(*mark, seen(&mut out));
    }
    order.finish(seen(&mut out));
    (out, order.counts())
}

#[test]
fn splitting_the_same_passes_differently_gives_the_same_sorted_stream() {
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200 {
        let (passes, mut all) = passes(&mut r);
        let (whole, counts) = run(&passes, |n| n);
        all.sort_by_key(|&(time, cpu, tid)| (time, cpu, tid));
        assert_eq!(tids(&whole), all.iter().map(|a| a.2).collect::<Vec<_>>());
        assert_eq!(counts.events, all.len() as u64);
        assert_eq!((counts.late, counts.undecodable()), (0, 0));
        for _ in 0..3 {
            let (split, split_counts) = run(&passes, |n| 1 + r.below(n as u64) as usize);
            assert_eq!(split, whole);
            assert_eq!(split_counts, counts);
        }
    }
}

#[test]
fn events_wait_for_a_second_complete_pass() {
    let mut order = Order::new();
    let mut out = Vec::new();
    order.batch(0, &record(10, 0, 1));
    assert_eq!(order.mark(mark(0, 100, true), seen(&mut out)), None);
    assert_eq!(order.mark(mark(1, 200, false), seen(&mut out)), None);
    assert!(out.is_empty());
    order.batch(1, &record(150, 0, 2));
    assert_eq!(order.mark(mark(2, 300, true), seen(&mut out)), Some(100));
    assert_eq!(tids(&out), [1]);
    assert_eq!(order.mark(mark(3, 400, true), seen(&mut out)), Some(300));
    assert_eq!(tids(&out), [1, 2]);
}

#[test]
fn late_events_are_released_and_counted() {
    let mut order = Order::new();
    let mut out = Vec::new();
    order.batch(0, &record(10, 0, 1));
    order.mark(mark(0, 100, true), seen(&mut out));
    order.mark(mark(1, 200, true), seen(&mut out));
    order.batch(1, &record(50, 0, 2));
    order.batch(0, &record(150, 1, 3));
    order.mark(mark(2, 300, true), seen(&mut out));
    assert_eq!(tids(&out), [1, 2, 3]);
    assert_eq!(order.counts().late, 1);
}

#[test]
fn a_gap_follows_the_record_before_it() {
    let mut order = Order::new();
    let mut out = Vec::new();
    order.batch(0, &[record(10, 0, 1), record(90, 4, 2)].concat());
    order.batch(1, &record(50, 0, 3));
    order.finish(seen(&mut out));
    assert_eq!(
        out,
        [
            Seen::Event { time_ns: 10, cpu: 0, tid: 1 },
            Seen::Gap(Gap { cpu: 0, lo_ns: 10, hi_ns: 90, lost: 3 }),
            Seen::Event { time_ns: 50, cpu: 1, tid: 3 },
            Seen::Event { time_ns: 90, cpu: 0, tid: 2 },
        ]
    );
    assert_eq!(order.counts().lost, 3);
}

#[test]
fn nested_and_repeated_sequence_numbers_make_no_gap() {
    let mut order = Order::new();
    let mut out = Vec::new();
    let nested = [record(10, 0, 1), record(30, 3, 4), record(29, 2, 3), record(28, 1, 2), record(31, 3, 5)];
    order.batch(0, &nested.concat());
    order.finish(seen(&mut out));
    assert_eq!(tids(&out), [1, 2, 3, 4, 5]);
    assert_eq!(out.len(), 5);
}

#[test]
fn sequence_numbers_wrap() {
    let mut order = Order::new();
    let mut out = Vec::new();
    // A stream whose first record is number 2^32: nothing before it counts as lost.
    order.batch(0, &[record(10, u32::MAX, 1), record(20, 0, 2), record(30, 2, 3)].concat());
    order.finish(seen(&mut out));
    assert_eq!(order.counts().lost, 1);
    assert_eq!(tids(&out), [1, 2, 3]);
}

#[test]
fn unknown_records_are_counted_and_make_no_gap() {
    let mut order = Order::new();
    let mut out = Vec::new();
    let mut unknown = record(20, 1, 0);
    unknown[16..18].copy_from_slice(&(999u16 | 1 << 14).to_le_bytes());
    let mut class = record(30, 2, 0);
    class[16..18].copy_from_slice(&kinds::on_wire(kinds::LOCK_ASK).to_le_bytes());
    class[20] = 200;
    order.batch(0, &[record(10, 0, 1), unknown, class, record(40, 3, 2)].concat());
    order.finish(seen(&mut out));
    assert_eq!(tids(&out), [1, 2]);
    let counts = order.counts();
    assert_eq!((counts.unknown_kind, counts.unknown_value, counts.short, counts.lost), (1, 1, 0, 0));
}

#[test]
fn a_malformed_record_ends_the_pass_of_its_cpu_only() {
    let mut order = Order::new();
    let mut out = Vec::new();
    let mut bad = record(20, 1, 0);
    bad[16..18].copy_from_slice(&0u16.to_le_bytes());
    order.batch(0, &[record(10, 0, 1), bad, record(30, 2, 9)].concat());
    order.batch(1, &record(15, 0, 2));
    order.mark(mark(0, 100, true), seen(&mut out));
    order.batch(0, &record(110, 3, 3));
    let cut = record(120, 4, 9);
    order.batch(0, &cut[..20]);
    order.mark(mark(1, 200, true), seen(&mut out));
    order.finish(seen(&mut out));
    assert_eq!(tids(&out), [1, 2, 3]);
    assert_eq!(order.counts().short, 2);
    assert_eq!(order.counts().lost, 2);
}

#[test]
fn a_stream_without_complete_passes_stays_bounded() {
    let mut order = Order::new();
    let mut out = Vec::new();
    let mut seq = 0;
    for pass in 0..5u64 {
        let mut bytes = Vec::new();
        for i in 0..(PENDING_MAX as u64 / 2) {
            bytes.extend(record(pass * 10_000_000 + i, seq, Tid(seq).0));
            seq += 1;
        }
        order.batch(0, &bytes);
        order.mark(mark(pass, (pass + 1) * 10_000_000, false), seen(&mut out));
        assert!(order.pending <= 2 * PENDING_MAX);
    }
    assert!(!out.is_empty());
}

/// Hundreds of thousands of holes, half of which are filled late, in an order without neighbours. The open holes are
/// compared with a set of numbers. Quadratic work took 41 s here.
#[test]
fn a_hundred_thousand_holes_are_found_filled_and_released() {
    const HOLES: u32 = 200_000;
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let mut order = Order::new();
    let mut out = Vec::new();
    // Every third number arrives; two are missing after each.
    let there = (0..HOLES).flat_map(|n| record(1_000 + u64::from(n), 3 * n, 0));
    order.batch(0, &there.collect::<Vec<_>>());
    let mut missing: std::collections::BTreeSet<u32> =
        (0..3 * (HOLES - 1)).filter(|seq| !seq.is_multiple_of(3)).collect();
    assert_eq!(order.missing(0), missing.len() as u64);
    for _ in 0..HOLES {
        let seq = r.below(3 * u64::from(HOLES)) as u32;
        order.batch(0, &record(1_000 + u64::from(seq) / 3, seq, 0));
        missing.remove(&seq);
    }
    assert_eq!(order.missing(0), missing.len() as u64);
    order.finish(seen(&mut out));
    let lost: u64 = out.iter().map(|s| if let Seen::Gap(g) = s { g.lost } else { 0 }).sum();
    assert_eq!((lost, order.counts().lost), (missing.len() as u64, missing.len() as u64));
    let runs = missing.iter().filter(|seq| !missing.contains(&(*seq - 1))).count();
    assert_eq!(out.iter().filter(|s| matches!(s, Seen::Gap(_))).count(), runs);
    assert_eq!(order.missing(0), lost);
}

/// Damaged data can jump by 2^30 numbers, repeatedly. A slightly older number fills the hole just before it, not an
/// older hole with the same numbers.
#[test]
fn numbers_that_wrap_repeatedly_fill_the_newest_hole() {
    let mut order = Order::new();
    let mut out = Vec::new();
    let jump = JUMP_MAX - 1;
    let there = (0..6u32).flat_map(|n| record(10 * u64::from(n), n.wrapping_mul(jump), n));
    order.batch(0, &there.collect::<Vec<_>>());
    let open = 5 * (u64::from(jump) - 1);
    assert_eq!(order.missing(0), open);
    order.batch(0, &record(45, 5u32.wrapping_mul(jump).wrapping_sub(1), 9));
    order.finish(seen(&mut out));
    let gaps: Vec<u64> =
        out.iter().filter_map(|s| if let Seen::Gap(g) = s { Some(g.lost) } else { None }).collect();
    let whole = u64::from(jump) - 1;
    assert_eq!(gaps, [whole, whole, whole, whole, whole - 1]);
}
