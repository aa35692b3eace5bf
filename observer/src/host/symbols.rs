//! The kernel's symbol table (`/proc/kallsyms`, or a stored copy of it).

use std::collections::BTreeMap;

use super::read_at_most;

/// Longest file that is read: a kernel's symbols take 5 to 20 MB.
const BYTES_MAX: u64 = 256 << 20;

/// Error from reading a symbol table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path} holds no symbols")]
    Empty { path: String },
}

/// Symbols indexed by name and by address.
pub struct Symbols {
    by_name: BTreeMap<String, u64>,
    /// Text symbols sorted by address.
    text: Vec<(u64, String)>,
}

/// Suffixes that the compiler appends to a function's name for its copies.
const SUFFIXES: [&str; 4] = [".isra.", ".constprop.", ".part.", ".llvm."];

impl Symbols {
    /// Reads a symbol table in the format of `/proc/kallsyms`.
    ///
    /// # Errors
    /// The file cannot be read, or has no symbols.
    pub fn read(path: &str) -> Result<Symbols, Error> {
        let text =
            read_at_most(path, BYTES_MAX).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let symbols = Symbols::parse(&String::from_utf8_lossy(&text));
        if symbols.by_name.is_empty() { Err(Error::Empty { path: path.to_owned() }) } else { Ok(symbols) }
    }

    /// Parses a symbol table from text; lines in another format are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Symbols {
        let (mut by_name, mut by_address) = (BTreeMap::new(), Vec::new());
        for line in text.lines() {
            let mut parts = line.split_ascii_whitespace();
            let (Some(address), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            // Words of prose can be hexadecimal too, but lack these columns.
            if address.len() < 8 || kind.len() != 1 {
                continue;
            }
            // Modules have a fourth column; a name in the kernel itself takes precedence.
            let Ok(address) = u64::from_str_radix(address, 16) else { continue };
            let in_module = parts.next().is_some();
            if !in_module || !by_name.contains_key(name) {
                by_name.entry(name.to_owned()).or_insert(address);
            }
            // Weak functions count as functions.
            if (kind.eq_ignore_ascii_case("t") || kind.eq_ignore_ascii_case("w")) && address != 0 {
                by_address.push((address, name.to_owned()));
            }
        }
        by_address.sort();
        Symbols { by_name, text: by_address }
    }

    /// Returns the address of a symbol; 0 if the table hides addresses.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.by_name.get(name).copied()
    }

    /// Returns true if the table hides its addresses from this user (`kernel.kptr_restrict`).
    pub fn are_hidden(&self) -> bool {
        self.text.is_empty()
    }

    /// Returns the symbol of a function, which may have a compiler-made suffix.
    pub fn with_suffix(&self, name: &str) -> Option<&str> {
        if let Some((exact, _)) = self.by_name.get_key_value(name) {
            return Some(exact);
        }
        let from = name.to_owned();
        self.by_name
            .range(from..)
            .map(|(symbol, _)| symbol.as_str())
            .take_while(|symbol| symbol.starts_with(name))
            .find(|symbol| SUFFIXES.iter().any(|s| symbol[name.len()..].starts_with(s)))
    }

    /// Returns the addresses of a function and its compiler-made copies.
    pub fn copies(&self, name: &str) -> impl Iterator<Item = u64> {
        let is_copy = move |symbol: &str| {
            symbol
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || SUFFIXES.iter().any(|suffix| rest.starts_with(suffix)))
        };
        self.by_name
            .range(name.to_owned()..)
            .take_while(move |(symbol, _)| symbol.starts_with(name))
            .filter(move |(symbol, _)| is_copy(symbol) && !symbol.ends_with(".cold"))
            .map(|(_, address)| *address)
    }

    /// Returns the bytes from a function's symbol to the next one; `None` if it is unknown or its address is hidden.
    pub fn bytes(&self, name: &str) -> Option<u64> {
        let address = self.address(name).filter(|a| *a != 0)?;
        let next = self.text.partition_point(|(at, _)| *at <= address);
        let is_text = self.text.get(next.checked_sub(1)?)?.0 == address;
        is_text.then_some(self.text.get(next)?.0 - address)
    }

    /// Returns the symbol that contains a text address, and the offset in it.
    pub fn resolve(&self, address: u64) -> Option<(&str, u64)> {
        let i = self.text.partition_point(|(at, _)| *at <= address).checked_sub(1)?;
        let (at, name) = &self.text[i];
        Some((name, address - at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
ffffffff81000000 T _text
ffffffff81000100 t __huge_pmd_unshare.constprop.0.isra.0
ffffffff81000180 t __huge_pmd_unshare_other
ffffffff81000200 T huge_pmd_unshare
ffffffff82000000 D vmemmap_base
ffffffffc0000000 t _text\t[module]
";

    #[test]
    fn names_suffixes_and_addresses_are_found() {
        let s = Symbols::parse(TABLE);
        assert_eq!(s.with_suffix("__huge_pmd_unshare"), Some("__huge_pmd_unshare.constprop.0.isra.0"));
        assert_eq!(s.with_suffix("huge_pmd_unshare"), Some("huge_pmd_unshare"));
        assert_eq!(s.with_suffix("huge_pmd"), None);
        assert_eq!(s.address("vmemmap_base"), Some(0xffff_ffff_8200_0000));
        assert_eq!(s.address("_text"), Some(0xffff_ffff_8100_0000));
        assert_eq!(s.resolve(0xffff_ffff_8100_0210), Some(("huge_pmd_unshare", 0x10)));
        assert_eq!(s.resolve(0), None);
        assert_eq!(s.bytes("__huge_pmd_unshare_other"), Some(0x80));
        assert_eq!((s.bytes("vmemmap_base"), s.bytes("none")), (None, None));
    }

    #[test]
    fn hidden_addresses_are_detected() {
        assert!(Symbols::parse("0000000000000000 T _text\n").are_hidden());
    }
}
