//! The host kernel: what it provides ([`probe`]), which parts of it serve observer ([`plan`]), and attaching ([`attach`]).
//!
//! Three jobs stay separate: probing only looks, planning is pure, attaching follows the plan.

pub mod attach;
pub mod btf;
pub mod callers;
pub mod own_call;
pub mod plan;
pub mod privileges;
pub mod probe;
pub mod ready;
pub mod reason;
pub mod saved;
pub mod symbols;
pub mod types;

use std::io::{self, Read as _};

/// Reads a file that somebody named. One that is longer than `max` bytes, such as a device, is not read to its end.
fn read_at_most(path: &str, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("it has more than {max} bytes")));
    }
    Ok(bytes)
}
