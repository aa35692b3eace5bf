//! The kernel that we run on: what it has ([`probe`]), what of it serves us ([`plan`]), and attaching ([`attach`]).
//!
//! Three functions with three jobs: probing looks and decides nothing, planning is pure, attaching follows the plan.

pub mod attach;
pub mod btf;
pub mod callers;
pub mod plan;
pub mod probe;
pub mod reason;
pub mod saved;
pub mod symbols;
pub mod types;
