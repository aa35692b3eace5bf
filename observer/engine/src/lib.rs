//! The engine: takes events and ticks, produces lifetimes, lock order and findings.
//!
//! The engine is pure: it reads no file, clock or environment and starts no thread; time is event time. Live runs,
//! replay and tests call the same [`Engine::push`].

pub mod event;
pub mod finding;
pub mod lock_class;
pub mod order;
pub mod setup;
pub mod trace;
pub mod view;

mod engine;
mod freed;
mod fx;
mod holds;
mod last_holders;
mod leases;
mod ledger;
mod lock_order;
mod locks;
mod loss;
mod orphans;
mod predict;
mod presence;
mod protection;
mod recent;
mod rules;
mod table_event;
mod tables;
mod tasks;
mod windows;
mod world;

pub use engine::Engine;
pub use lock_order::merge;
pub use loss::Hole;
