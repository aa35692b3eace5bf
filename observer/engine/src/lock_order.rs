//! Lock order: which locks are requested while which are held, and the deadlocks that follow.
//!
//! A task's lock operations since it held nothing are its *path* (`path`). Each request adds edges to the *graph*
//! (`graph`), with the path as evidence. Four rules read these: `cycles` searches closed chains of edges, `documented`
//! compares edges with the orders that the kernel's source documents, `relocks` looks at requests for a lock that the
//! task holds, and `waits` at the tasks that wait now. `feasible` answers for all of them if the tasks can get there.
//! `merge` joins the graphs of several runs.

mod components;
pub(crate) mod cycles;
pub(crate) mod documented;
pub(crate) mod feasible;
pub(crate) mod graph;
pub mod merge;
pub(crate) mod path;
pub(crate) mod relocks;
pub(crate) mod waits;
