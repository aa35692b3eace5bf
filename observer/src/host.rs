//! The host kernel: what it provides ([`probe`]), which parts of it serve observer ([`plan`]), and attaching ([`attach`]).
//!
//! Three jobs stay separate: probing only looks, planning is pure, attaching follows the plan.

pub mod attach;
pub mod btf;
pub mod callers;
pub mod plan;
pub mod probe;
pub mod reason;
pub mod saved;
pub mod symbols;
pub mod types;
