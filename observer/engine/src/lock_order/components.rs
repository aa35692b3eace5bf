//! Strongly connected components of a graph: every cycle lies inside one.
//!
//! Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1972. It uses an explicit stack, because a
//! chain can be longer than a thread's stack is deep. Nodes are numbers: this module knows nothing of locks and tasks.

/// Marks a node outside of all components: a single node is not part of a cycle.
pub(crate) const NO_COMPONENT: u32 = u32::MAX;

/// Result of the search.
pub(crate) struct Components {
    /// Component number of each node, or [`NO_COMPONENT`].
    pub of: Vec<u32>,
    pub count: u32,
    /// Number of examined nodes and successors.
    pub work: usize,
}

impl Components {
    /// Finds the components among the nodes that the first `roots` of `nodes` nodes can reach. `next` returns a node's
    /// first successor at or after an index in its list of successors, and the index after it.
    pub fn of(nodes: usize, roots: u32, next: impl Fn(u32, usize) -> Option<(u32, usize)>) -> Components {
        const UNSEEN: u32 = u32::MAX;
        let mut out = Components { of: vec![NO_COMPONENT; nodes], count: 0, work: 0 };
        let (mut number, mut low) = (vec![UNSEEN; nodes], vec![UNSEEN; nodes]);
        let mut on_stack = vec![false; nodes];
        let (mut count, mut open, mut calls) = (0, Vec::new(), Vec::new());
        for root in 0..roots {
            if number[root as usize] != UNSEEN {
                continue;
            }
            calls.push((root, 0));
            while let Some((node, place)) = calls.pop() {
                let at = node as usize;
                if place == 0 {
                    (number[at], low[at]) = (count, count);
                    count += 1;
                    open.push(node);
                    on_stack[at] = true;
                }
                out.work += 1;
                let Some((to, after)) = next(node, place) else {
                    if low[at] == number[at] {
                        out.close(&mut open, node, &mut on_stack);
                    }
                    if let Some((caller, _)) = calls.last() {
                        low[*caller as usize] = low[*caller as usize].min(low[at]);
                    }
                    continue;
                };
                calls.push((node, after));
                if number[to as usize] == UNSEEN {
                    calls.push((to, 0));
                } else if on_stack[to as usize] {
                    low[at] = low[at].min(number[to as usize]);
                }
            }
        }
        out
    }

    /// Takes the nodes of one component from the stack.
    fn close(&mut self, open: &mut Vec<u32>, root: u32, on_stack: &mut [bool]) {
        let from = open.iter().rposition(|node| *node == root).unwrap_or(0);
        let is_one = open.len() - from > 1;
        for node in open.drain(from..) {
            on_stack[node as usize] = false;
            self.of[node as usize] = if is_one { self.count } else { NO_COMPONENT };
        }
        self.count += u32::from(is_one);
    }
}
