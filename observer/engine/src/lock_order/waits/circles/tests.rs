//! Graphs whose circles are known, and the work of finding them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Circles, WORK_MAX, WaitGraph, circles};

/// `waits_for`: the lock for which each task waits. `holders`: the tasks that hold each lock.
fn find(waits_for: &[u32], holders: &[&[u32]]) -> Circles {
    let graph = WaitGraph {
        waits_for: waits_for.iter().map(|lock| Some(*lock)).collect(),
        holders: holders.iter().map(|tasks| tasks.to_vec()).collect(),
    };
    circles(&graph, WORK_MAX)
}

fn rings(circles: &Circles) -> Vec<&[u32]> {
    circles.found.iter().map(|c| c.tasks.as_slice()).collect()
}

/// Task `n` holds lock `n` and waits for the next one.
fn ring(tasks: u32) -> WaitGraph {
    WaitGraph {
        waits_for: (0..tasks).map(|n| Some((n + 1) % tasks)).collect(),
        holders: (0..tasks).map(|n| vec![n]).collect(),
    }
}

#[test]
fn rings_of_any_length_are_found_once() {
    for tasks in [2, 3, 9, 40, 5_000] {
        let found = circles(&ring(tasks), WORK_MAX);
        assert_eq!(rings(&found), [(0..tasks).collect::<Vec<_>>()]);
        assert!(found.work < 10 * tasks as usize, "{tasks} tasks: {}", found.work);
    }
}

#[test]
fn an_open_chain_of_waits_makes_no_circle() {
    let mut chain = ring(50_000);
    chain.waits_for[49_999] = None;
    let found = circles(&chain, WORK_MAX);
    assert!(found.found.is_empty());
    assert!(found.work < 500_000, "{}", found.work);
    // A task that waits for a party of a circle is not a party itself.
    let beside = find(&[1, 0, 0], &[&[0], &[1]]);
    assert_eq!(rings(&beside), [[0, 1]]);
}

#[test]
fn a_longer_circle_hides_no_shorter_one() {
    // Tasks 0 and 2 hold the lock for which task 1 waits. One circle has all three tasks, the other only 0 and 1.
    let found = find(&[0, 1, 2], &[&[1], &[0, 2], &[0]]);
    assert_eq!(rings(&found), [&[0, 1][..], &[0, 1, 2]]);
}

#[test]
fn every_hold_in_a_circle_is_in_a_listed_circle() {
    // Task 0 waits for readers 1 and 2; each of them waits for another lock that task 0 holds.
    let found = find(&[0, 1, 2], &[&[1, 2], &[0], &[0]]);
    assert_eq!(rings(&found), [[0, 1], [0, 2]]);
}

/// Writers in a ring. The first waits for a lock that many readers hold; each reader waits for a lock of one of the writers.
fn crowd(writers: u32, readers: u32) -> WaitGraph {
    let mut holders: Vec<Vec<u32>> = (0..writers).map(|n| vec![n]).collect();
    holders.push((writers..writers + readers).collect());
    let mut waits_for: Vec<Option<u32>> = (0..writers).map(|n| Some((n + 1) % writers)).collect();
    waits_for[0] = Some(writers);
    waits_for.extend((0..readers).map(|n| Some(n % writers)));
    WaitGraph { waits_for, holders }
}

#[test]
fn thousands_of_waiters_need_little_work() {
    for (writers, readers) in [(4, 64), (4, 1_000), (40, 1_000)] {
        let found = circles(&crowd(writers, readers), WORK_MAX);
        // Every reader closes one circle; no other has that reader.
        assert_eq!(found.found.len(), readers as usize);
        assert!(found.found.iter().all(|c| c.unsearched == 0));
        // A search from a reader passes the writers, one from a writer passes the readers.
        let bound = 8 * (writers * readers) as usize;
        assert!(found.work < bound, "{writers} and {readers}: {} of {bound}", found.work);
    }
}

#[test]
fn circles_beyond_the_bound_are_counted() {
    let found = circles(&crowd(4, 1_000), 0);
    assert_eq!(found.found.len(), 1);
    assert_eq!(found.found[0].unsearched, 1_003);
}

/// Returns every simple circle, starting with its least task.
fn all_circles(graph: &WaitGraph) -> BTreeSet<Vec<u32>> {
    fn extend(graph: &WaitGraph, way: &mut Vec<u32>, all: &mut BTreeSet<Vec<u32>>) {
        let last = way[way.len() - 1];
        let Some(group) = graph.waits_for[last as usize] else { return };
        for next in &graph.holders[group as usize] {
            if *next == way[0] {
                all.insert(way.clone());
            } else if *next > way[0] && !way.contains(next) {
                way.push(*next);
                extend(graph, way, all);
                way.pop();
            }
        }
    }
    let mut all = BTreeSet::new();
    for task in 0..graph.waits_for.len() as u32 {
        extend(graph, &mut vec![task], &mut all);
    }
    all
}

/// Returns a small graph from a seed. No task waits for a lock that it holds.
fn random(seed: &mut u64) -> WaitGraph {
    let mut below = |n: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % n
    };
    let (tasks, locks) = (2 + below(6) as u32, 1 + below(5) as u32);
    let mut holders: Vec<Vec<u32>> =
        (0..locks).map(|_| (0..tasks).filter(|_| below(3) == 0).collect()).collect();
    let waits_for: Vec<Option<u32>> =
        (0..tasks).map(|_| (below(8) > 0).then(|| below(locks.into()) as u32)).collect();
    for (task, group) in waits_for.iter().enumerate() {
        if let Some(group) = group {
            holders[*group as usize].retain(|holder| *holder != task as u32);
        }
    }
    WaitGraph { waits_for, holders }
}

#[test]
fn listed_circles_agree_with_all_circles_of_small_graphs() {
    let (mut seed, mut with_circles) = (1, 0);
    for case in 0..20_000 {
        let graph = random(&mut seed);
        let (all, found) = (all_circles(&graph), circles(&graph, WORK_MAX).found);
        let listed: BTreeSet<Vec<u32>> = found.iter().map(|c| super::from_least(&c.tasks)).collect();
        assert_eq!(listed.len(), found.len(), "case {case}: one is listed twice");
        assert!(listed.is_subset(&all), "case {case}: {listed:?} of {all:?}, {graph:?}");
        // The shortest circle through each hold: lock, holder, and length.
        let group = |task: u32| graph.waits_for[task as usize];
        let shortest = |circles: &BTreeSet<Vec<u32>>| {
            let mut shortest = BTreeMap::new();
            for circle in circles {
                for (at, task) in circle.iter().enumerate() {
                    let hold = (group(*task), circle[(at + 1) % circle.len()]);
                    let known = shortest.entry(hold).or_insert(usize::MAX);
                    *known = circle.len().min(*known);
                }
            }
            shortest
        };
        assert_eq!(shortest(&listed), shortest(&all), "case {case}: {graph:?}");
        with_circles += usize::from(!all.is_empty());
    }
    assert!(with_circles > 5_000, "{with_circles}");
}
