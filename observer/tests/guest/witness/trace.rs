//! A private tracefs instance with kprobe events, read as raw pages of the kernel's ring buffer.
//!
//! Histogram triggers would be less to read, but 5.10's cloud flavour is built without them. They also forget the order: an
//! address means a lock only between its birth and its death. This file does not interpret the records.

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

const TRACEFS: &str = "/sys/kernel/tracing";
const NAME: &str = "observer_witness";
/// Size of the buffer of each CPU. An event takes about 48 bytes; a run of all scenarios makes some hundred thousand.
const BUFFER_KIB: usize = 48 << 10;
const PAGE: usize = 4096;

/// One event, in the order of [`Probe`]'s numbers.
pub struct Record {
    pub at: u64,
    pub probe: usize,
    /// Arguments that its definition fetches; missing ones are 0.
    pub args: [u64; 4],
}

pub struct Trace {
    probes: Vec<Probe>,
}

struct Probe {
    id: u16,
    /// Offset and size of each argument.
    fields: Vec<(usize, usize)>,
}

/// Counts of a probe in `kprobe_profile`.
#[derive(Clone, Copy)]
pub struct Profile {
    pub hits: u64,
    pub misses: u64,
}

fn global(rest: &str) -> PathBuf {
    Path::new(TRACEFS).join(rest)
}

fn instance(rest: &str) -> PathBuf {
    global("instances").join(NAME).join(rest)
}

/// Appends a line: opening a tracefs file for overwriting drops its content.
fn append(at: &Path, line: &str) -> Result<()> {
    let mut file =
        fs::OpenOptions::new().append(true).open(at).with_context(|| format!("open {}", at.display()))?;
    file.write_all(format!("{line}\n").as_bytes())
        .with_context(|| format!("write '{line}' to {}", at.display()))
}

fn name(n: usize) -> String {
    format!("{NAME}_{n}")
}

impl Trace {
    pub fn new() -> Result<Trace> {
        let at = instance("");
        fs::create_dir(&at).with_context(|| format!("mkdir {}", at.display()))?;
        let trace = Trace { probes: Vec::new() };
        // All CPUs need one clock, so that the records can be sorted.
        append(&instance("trace_clock"), "mono")?;
        append(&instance("buffer_size_kb"), &BUFFER_KIB.to_string())?;
        Ok(trace)
    }

    /// Adds a probe and starts it; returns its number in records and profiles. `kind` is `p` or `r64`: a return probe on a
    /// function that sleeps needs as many instances as there are tasks in it.
    pub fn probe(&mut self, kind: &str, symbol: &str, args: &str, filter: &str) -> Result<usize> {
        let n = self.probes.len();
        let name = name(n);
        append(&global("kprobe_events"), &format!("{kind}:{NAME}/{name} {symbol}{args}"))?;
        // Stored first, so that it is removed in any case.
        self.probes.push(Probe { id: 0, fields: Vec::new() });
        let of = |file: &str| instance(&format!("events/{NAME}/{name}/{file}"));
        let format = fs::read_to_string(of("format"))?;
        self.probes[n] = parse_format(&format).with_context(|| format!("format of {symbol}:\n{format}"))?;
        if !filter.is_empty() {
            append(&of("filter"), filter)?;
        }
        append(&of("enable"), "1")?;
        Ok(n)
    }

    /// Adds a probe that is only counted: no record passes its filter.
    pub fn count(&mut self, symbol: &str) -> Result<usize> {
        self.probe("p", symbol, "", "__probe_ip == 0")
    }

    /// Everything since the last call, oldest first. Recording is off meanwhile: reading takes semaphores itself, and would
    /// never end.
    pub fn drain(&self) -> Result<Vec<Record>> {
        append(&instance("tracing_on"), "0")?;
        let records = self.drain_all();
        append(&instance("tracing_on"), "1")?;
        records
    }

    fn drain_all(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(instance("per_cpu"))? {
            let cpu = entry?.path();
            let stats = fs::read_to_string(cpu.join("stats"))?;
            for lost in ["overrun: ", "dropped events: "] {
                let none = stats.lines().any(|line| line.strip_prefix(lost).is_some_and(|n| n.trim() == "0"));
                ensure!(none, "the witness's ring buffer was too small:\n{stats}");
            }
            self.drain_cpu(&cpu.join("trace_pipe_raw"), &mut records)?;
        }
        records.sort_by_key(|record| record.at);
        Ok(records)
    }

    fn drain_cpu(&self, at: &Path, records: &mut Vec<Record>) -> Result<()> {
        let by_id: BTreeMap<u16, usize> = self.probes.iter().enumerate().map(|(n, p)| (p.id, n)).collect();
        let mut file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(at)?;
        let mut page = vec![0; PAGE];
        loop {
            match file.read(&mut page) {
                Ok(0) => return Ok(()),
                Ok(bytes) => walk_page(&page[..bytes], |time, event| {
                    let probe =
                        *event.get(..2).and_then(|id| by_id.get(&u16::from_ne_bytes([id[0], id[1]])))?;
                    let mut args = [0; 4];
                    for (arg, &(offset, size)) in args.iter_mut().zip(&self.probes[probe].fields) {
                        *arg = if size == 4 { u32_at(event, offset)?.into() } else { u64_at(event, offset)? };
                    }
                    records.push(Record { at: time, probe, args });
                    Some(())
                })
                .with_context(|| format!("a page of {} makes no sense", at.display()))?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).with_context(|| format!("read {}", at.display())),
            }
        }
    }

    /// Hits and misses of each probe, by number.
    pub fn profiles(&self) -> Result<Vec<Profile>> {
        let text = fs::read_to_string(global("kprobe_profile"))?;
        let parse = |line: &str| {
            let mut parts = line.split_ascii_whitespace();
            let (name, hits, misses) = (parts.next()?, parts.next()?, parts.next()?);
            let n: usize = name.strip_prefix(NAME)?.strip_prefix('_')?.parse().ok()?;
            Some((n, Profile { hits: hits.parse().ok()?, misses: misses.parse().ok()? }))
        };
        let all: BTreeMap<usize, Profile> = text.lines().filter_map(parse).collect();
        (0..self.probes.len())
            .map(|n| all.get(&n).copied().with_context(|| format!("no profile of probe {n}")))
            .collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // The next test shows if this failed: it finds the instance in its way.
        let _ = append(&instance(&format!("events/{NAME}/enable")), "0");
        let _ = fs::remove_dir(instance(""));
        for n in 0..self.probes.len() {
            let _ = append(&global("kprobe_events"), &format!("-:{NAME}/{}", name(n)));
        }
    }
}

/// The number of the event, and its arguments: all fields after the kernel's common ones.
fn parse_format(text: &str) -> Option<Probe> {
    let id = text.lines().find_map(|line| line.strip_prefix("ID: "))?.trim().parse().ok()?;
    let fields = text.lines().filter_map(|line| line.trim().strip_prefix("field:"));
    let ours = fields.filter(|field| !field.contains(" common_") && !field.contains(" __probe_"));
    let number = |field: &str, of: &str| field.split_once(of)?.1.split(';').next()?.parse().ok();
    let place = |field: &str| Some((number(field, "offset:")?, number(field, "size:")?));
    Some(Probe { id, fields: ours.map(place).collect::<Option<_>>()? })
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Calls `each` with time and bytes of every event of a page. linux/ring_buffer.h has the layout, which is stable because tools
/// read it. `None` if the page does not follow it.
fn walk_page(page: &[u8], mut each: impl FnMut(u64, &[u8]) -> Option<()>) -> Option<()> {
    const HEADER: usize = 16;
    const MISSED: u64 = 1 << 31;
    let (mut time, commit) = (u64_at(page, 0)?, u64_at(page, 8)?);
    let data = page.get(HEADER..HEADER + (commit & 0xf_ffff) as usize)?;
    let mut at = 0;
    while at + 4 <= data.len() {
        let head = u32_at(data, at)?;
        let (kind, delta) = (head & 31, u64::from(head >> 5));
        let (start, length) = match kind {
            // The rest of the page is empty.
            29 if delta == 0 => break,
            29 => (at + 4, u32_at(data, at + 4)? as usize),
            30 | 31 => (at + 4, 4),
            0 => (at + 8, u32_at(data, at + 4)?.checked_sub(4)? as usize),
            words => (at + 4, words as usize * 4),
        };
        match kind {
            29 => {}
            30 => time += (u64::from(u32_at(data, at + 4)?) << 27) + delta,
            31 => time = (u64::from(u32_at(data, at + 4)?) << 27) + delta,
            _ => {
                time += delta;
                each(time, data.get(start..start + length)?)?;
            }
        }
        at = start + length;
    }
    (commit & MISSED == 0).then_some(())
}
