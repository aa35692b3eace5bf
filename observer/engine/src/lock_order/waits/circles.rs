//! Circles in a wait-for graph: the listed ones, and the work that the search does.
//!
//! This module knows nothing of locks: tasks wait for groups, and groups have holders. A task waits for at most one
//! group. Tasks that request the same lock in the same mode wait for the same group, so the graph has one edge per wait
//! and one per hold.
//!
//! Circles lie inside strongly connected components (`components`). A component can contain exponentially many circles.
//! For each hold of each task in a component, the search lists a shortest circle through that hold (breadth-first
//! search). So every wait and every hold that is part of a circle is part of a listed one.

use std::collections::{BTreeSet, VecDeque};

use crate::lock_order::components::{Components, NO_COMPONENT};

/// Bound of the work in one call, beyond the first search of each component; see [`Circles::work`].
pub(super) const WORK_MAX: usize = 1 << 20;

/// Waits and holds. Tasks and groups are numbered from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitGraph {
    /// Group for which each task waits.
    pub waits_for: Vec<Option<u32>>,
    /// Tasks that block the waiters of each group.
    pub holders: Vec<Vec<u32>>,
}

/// A circle: each task waits for the next one, and the last one for the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Circle {
    pub tasks: Vec<u32>,
    /// Number of tasks in the same component whose search was omitted because the bound was reached; 0: complete.
    pub unsearched: usize,
}

/// Result of the search.
#[derive(Clone, Debug, Default)]
pub(super) struct Circles {
    /// Distinct circles, in an order that depends only on the graph.
    pub found: Vec<Circle>,
    /// Number of examined tasks and holders.
    pub work: usize,
}

/// Components of a graph in which the groups are numbered after the tasks.
struct Parts {
    of: Vec<u32>,
    /// Tasks of each component, in order of their numbers.
    tasks: Vec<Vec<u32>>,
    /// True if the component is a single ring: every node has one successor in it.
    ring: Vec<bool>,
    work: usize,
}

/// Lists circles, with at most `work_max` work beyond the first search of each component.
pub(super) fn circles(graph: &WaitGraph, work_max: usize) -> Circles {
    let components = Parts::of(graph);
    let mut search = Search::new(graph, &components);
    let mut out = Circles { found: Vec::new(), work: components.work };
    for (component, tasks) in components.tasks.iter().enumerate() {
        let mut known = BTreeSet::new();
        let (mut rings, mut unsearched) = (Vec::new(), 0);
        for (n, task) in tasks.iter().enumerate() {
            if n > 0 && (components.ring[component] || out.work >= work_max) {
                unsearched += usize::from(!components.ring[component]);
                continue;
            }
            out.work += search.from(*task, |ring| {
                if known.insert(from_least(&ring)) {
                    rings.push(ring);
                }
            });
        }
        out.found.extend(rings.into_iter().map(|tasks| Circle { tasks, unsearched }));
    }
    out
}

/// Rotates a circle so that it begins with its least task. A circle contains each task once.
fn from_least(ring: &[u32]) -> Vec<u32> {
    let least = (0..ring.len()).min_by_key(|at| ring[*at]).unwrap_or(0);
    [&ring[least..], &ring[..least]].concat()
}

impl WaitGraph {
    fn tasks(&self) -> usize {
        self.waits_for.len()
    }

    /// Returns the successor of a node at an index in its list of successors.
    fn next(&self, node: u32, place: usize) -> Option<u32> {
        let tasks = self.tasks();
        match (node as usize).checked_sub(tasks) {
            None => self.waits_for[node as usize].filter(|_| place == 0).map(|group| tasks as u32 + group),
            Some(group) => self.holders[group].get(place).copied(),
        }
    }
}

impl Parts {
    fn of(graph: &WaitGraph) -> Parts {
        let next = |node, place| graph.next(node, place).map(|to| (to, place + 1));
        let nodes = graph.tasks() + graph.holders.len();
        let Components { of, count, work } = Components::of(nodes, graph.tasks() as u32, next);
        let mut tasks = vec![Vec::new(); count as usize];
        for (task, component) in of[..graph.tasks()].iter().enumerate().filter(|(_, c)| **c != NO_COMPONENT) {
            tasks[*component as usize].push(task as u32);
        }
        let mut ring = vec![true; tasks.len()];
        for (group, holders) in graph.holders.iter().enumerate() {
            let component = of[graph.tasks() + group];
            let inside = holders.iter().filter(|task| of[**task as usize] == component).count();
            if component != NO_COMPONENT && inside > 1 {
                ring[component as usize] = false;
            }
        }
        Parts { of, tasks, ring, work }
    }
}

/// Search for the shortest circles through one task at a time.
struct Search<'a> {
    graph: &'a WaitGraph,
    components: &'a Parts,
    /// Groups of its component that each task holds.
    held_in: Vec<Vec<u32>>,
    /// The last search that reached each task, and the task from which it did.
    reached: Vec<(u32, u32)>,
    /// The last search that expanded each group.
    expanded: Vec<u32>,
    searches: u32,
}

impl<'a> Search<'a> {
    fn new(graph: &'a WaitGraph, components: &'a Parts) -> Search<'a> {
        let mut held_in = vec![Vec::new(); graph.tasks()];
        for (group, holders) in graph.holders.iter().enumerate() {
            let component = components.of[graph.tasks() + group];
            if component == NO_COMPONENT {
                continue;
            }
            for task in holders.iter().filter(|task| components.of[**task as usize] == component) {
                held_in[*task as usize].push(group as u32);
            }
        }
        Search {
            graph,
            components,
            held_in,
            reached: vec![(0, 0); graph.tasks()],
            expanded: vec![0; graph.holders.len()],
            searches: 0,
        }
    }

    /// Finds a shortest circle through each group that `start` holds; returns the work.
    fn from(&mut self, start: u32, mut found: impl FnMut(Vec<u32>)) -> usize {
        self.searches += 1;
        let (search, component) = (self.searches, self.components.of[start as usize]);
        let mut left = self.held_in[start as usize].len();
        let (mut work, mut queue) = (0, VecDeque::from([start]));
        while let Some(task) = queue.pop_front() {
            work += 1;
            let Some(group) = self.graph.waits_for[task as usize] else { continue };
            if std::mem::replace(&mut self.expanded[group as usize], search) == search {
                continue;
            }
            if self.held_in[start as usize].contains(&group) {
                found(self.way(start, task));
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            for holder in &self.graph.holders[group as usize] {
                work += 1;
                let at = *holder as usize;
                if *holder != start && self.components.of[at] == component && self.reached[at].0 != search {
                    self.reached[at] = (search, task);
                    queue.push_back(*holder);
                }
            }
        }
        work
    }

    /// Returns the tasks from `start` to `end`.
    fn way(&self, start: u32, end: u32) -> Vec<u32> {
        let mut way = vec![end];
        while let Some(last) = way.last().copied().filter(|task| *task != start) {
            way.push(self.reached[last as usize].1);
        }
        way.reverse();
        way
    }
}

#[cfg(test)]
mod tests;
