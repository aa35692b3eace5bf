//! The kernel's symbol table, read once.

use std::fs;

use anyhow::{Context as _, Result, ensure};

/// Sorted by address.
pub struct Symbols(Vec<(u64, String)>);

impl Symbols {
    pub fn read() -> Result<Symbols> {
        let text = fs::read_to_string("/proc/kallsyms")?;
        let parse = |line: &str| {
            let mut parts = line.split_ascii_whitespace();
            let (address, _, name) = (parts.next()?, parts.next()?, parts.next()?);
            Some((u64::from_str_radix(address, 16).ok()?, name.to_owned()))
        };
        let mut all: Vec<_> = text.lines().filter_map(parse).collect();
        all.sort_unstable();
        ensure!(all.last().is_some_and(|(address, _)| *address != 0), "the kernel hides its addresses");
        Ok(Symbols(all))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(_, n)| n == name)
    }

    /// The first of the two names that exists.
    pub fn either(&self, first: &'static str, second: &'static str) -> Option<&'static str> {
        [first, second].into_iter().find(|name| self.has(name))
    }

    /// Name of the body of unshare: the compiler chose its suffix, and splits cold parts off.
    pub fn unshare(&self) -> Result<&str> {
        let mut names = self.0.iter().map(|(_, name)| name.as_str());
        let body = |n: &&str| n.starts_with("__huge_pmd_unshare.") && !n.ends_with(".cold");
        let plain = || self.has("huge_pmd_unshare").then_some("huge_pmd_unshare");
        names.find(body).or_else(plain).context("no body of unshare in the symbol table")
    }

    /// True if an address lies in a function of this name, or in a part of it that the compiler split off.
    pub fn inside(&self, address: u64, name: &str) -> bool {
        // If one address has several names, each counts.
        let last = self.0.partition_point(|(a, _)| *a <= address);
        let Some((start, _)) = last.checked_sub(1).map(|i| &self.0[i]) else { return false };
        let here = self.0[..last].iter().rev().take_while(|(a, _)| a == start);
        here.into_iter().any(|(_, n)| {
            n.strip_prefix(name).is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('.'))
        })
    }
}
