//! Finds the callers of the lookup functions in the running kernel's text.
//!
//! It looks for calls and jumps to an address and names the functions that contain them; it does not decide which of them are
//! watched. An inlined function has no call: the caller is then the function in the symbol table that contains it. Calls
//! through a pointer are not found, but no code takes the address of a lookup function.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    os::unix::fs::FileExt as _,
};

use super::symbols::Symbols;

/// The kernel's memory as an ELF core file.
const KCORE_PATH: &str = "/proc/kcore";

/// Callers by called function; all names without compiler-made suffixes.
pub type Callers = BTreeMap<String, BTreeSet<String>>;

/// Returns the callers of these functions in the running kernel. A function that the kernel lacks has no entry.
///
/// # Errors
/// The kernel's text is not readable (not root, or lockdown), or the symbol table hides its addresses.
pub fn probe_callers(symbols: &Symbols, callees: &BTreeSet<&str>) -> io::Result<Callers> {
    let at = |name: &str| symbols.address(name).filter(|address| *address != 0);
    let range = at("_stext").zip(at("_etext")).filter(|(start, end)| start < end);
    let (start, end) = range.ok_or_else(|| io::Error::other("no address of the kernel's text"))?;
    let text = read_kcore(&File::open(KCORE_PATH)?, start, end)?;
    Ok(find(&text, start, symbols, callees))
}

/// Reads kernel memory between two addresses.
fn read_kcore(file: &File, start: u64, end: u64) -> io::Result<Vec<u8>> {
    /// Size in bytes of a 64-bit ELF header; below, of a program header.
    const HEADER: usize = 64;
    const PROGRAM_HEADER: usize = 56;
    const PT_LOAD: u32 = 1;
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
    let mut header = [0; HEADER];
    file.read_exact_at(&mut header, 0)?;
    let (first, count) = (word(&header, 32), u16::from_le_bytes([header[56], header[57]]));
    for n in 0..u64::from(count) {
        let mut program = [0; PROGRAM_HEADER];
        file.read_exact_at(&mut program, first + n * PROGRAM_HEADER as u64)?;
        let (kind, offset) = (word(&program, 0) as u32, word(&program, 8));
        let (address, bytes) = (word(&program, 16), word(&program, 40));
        if kind == PT_LOAD && address <= start && end - address <= bytes {
            let mut text = vec![0; (end - start) as usize];
            file.read_exact_at(&mut text, offset + (start - address))?;
            return Ok(text);
        }
    }
    Err(io::Error::other(format!("{KCORE_PATH} has no segment with the kernel's text")))
}

/// Finds calls (`e8`), jumps (`e9`) and conditional jumps (`0f 8x`) with a 32-bit displacement to one of these functions.
/// Other bytes that look like one would have to hit one of a few addresses among 2^32.
fn find(text: &[u8], base: u64, symbols: &Symbols, callees: &BTreeSet<&str>) -> Callers {
    let targets: BTreeMap<u64, &str> = callees
        .iter()
        .flat_map(|name| symbols.copies(name).map(move |address| (address, *name)))
        .filter(|(address, _)| *address != 0)
        .collect();
    let mut callers = Callers::new();
    let (Some(lowest), Some(highest)) = (targets.keys().next(), targets.keys().next_back()) else {
        return callers;
    };
    for at in 0..text.len().saturating_sub(4) {
        let is_jump = match text[at] {
            0xe8 | 0xe9 => true,
            byte => byte & 0xf0 == 0x80 && at > 0 && text[at - 1] == 0x0f,
        };
        if !is_jump {
            continue;
        }
        let Some(distance) = text[at + 1..].first_chunk::<4>() else { break };
        let distance = i64::from(i32::from_le_bytes(*distance));
        let target = (base + at as u64 + 5).wrapping_add_signed(distance);
        if target < *lowest || target > *highest {
            continue;
        }
        if let Some(callee) = targets.get(&target)
            && let Some((caller, _)) = symbols.resolve(base + at as u64)
            && base_name(caller) != *callee
        {
            callers.entry((*callee).to_owned()).or_default().insert(base_name(caller).to_owned());
        }
    }
    callers
}

/// Removes the compiler-made suffix from a symbol.
fn base_name(symbol: &str) -> &str {
    symbol.split('.').next().unwrap_or(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_ffff_8100_0000;

    /// A kernel of four functions of 16 bytes each: `callee`, `one`, `two.cold`, `three`.
    fn kernel(instructions: &[(usize, &[u8])]) -> Callers {
        let table = "\
ffffffff81000000 T callee
ffffffff81000010 t one
ffffffff81000020 t two.cold
ffffffff81000030 W three
ffffffff81000040 T _etext
";
        let mut text = vec![0x90; 64];
        for (at, bytes) in instructions {
            text[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        find(&text, BASE, &Symbols::parse(table), &BTreeSet::from(["callee", "none"]))
    }

    fn to_callee(at: usize, opcode: &[u8]) -> Vec<u8> {
        let mut bytes = opcode.to_vec();
        bytes.extend((-((at + opcode.len() + 4) as i32)).to_le_bytes());
        bytes
    }

    #[test]
    fn calls_and_jumps_are_found_and_named_by_their_function() {
        let (call, jump, conditional) =
            (to_callee(0x12, &[0xe8]), to_callee(0x24, &[0xe9]), to_callee(0x38, &[0x0f, 0x84]));
        let callers = kernel(&[(0x12, &call), (0x24, &jump), (0x38, &conditional)]);
        assert_eq!(callers["callee"].iter().collect::<Vec<_>>(), ["one", "three", "two"]);
        assert_eq!(callers.len(), 1);
    }

    #[test]
    fn other_targets_and_cut_instructions_are_not_calls() {
        // Jumps into the middle of the callee and to itself, and four bytes of a call.
        let inside = to_callee(0x11, &[0xe8]);
        let own = to_callee(0x4, &[0xe9]);
        assert_eq!(
            kernel(&[(0x12, &inside), (0x4, &own), (0x3c, &[0xe8, 0xbf, 0xff, 0xff])]),
            Callers::new()
        );
    }
}
