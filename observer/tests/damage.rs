//! Recordings that were damaged on their way. None of them is taken for whole, and none shows an alarm that the whole one does
//! not have.
//!
//! The recordings are those of `fixtures/`. Each is changed in every way in which a file gets damaged: bits flipped, chunks missing, repeated,
//! exchanged, the end cut off. The witness is the list of passes that the undamaged file has.

#![allow(clippy::unwrap_used, reason = "a helper of a test may fail like the test itself")]

#[path = "common/fixtures.rs"]
mod fixtures;

use std::{collections::BTreeSet, io::Cursor, ops::Range, path::Path};

use observer::{recording::Reader, report::Report, run::pipeline::Pipeline, source::Pass};

/// Opcodes of MCAP's records and of ours.
const CHUNK: u8 = 0x06;
const SEAL: u8 = 0x80;
const MAGIC_BYTES: usize = 8;
const HEAD_BYTES: usize = 9;
/// Bytes of a chunk's record before its data: head, times, sizes, checksum, compression.
const CHUNK_HEAD_BYTES: usize = HEAD_BYTES + 48;

struct Fixture {
    name: String,
    bytes: Vec<u8>,
    passes: Vec<Pass>,
    /// Chunks, each with its seal.
    chunks: Vec<Range<usize>>,
    frames: Vec<usize>,
    alarms: BTreeSet<String>,
    is_whole: bool,
}

enum Outcome {
    Refused,
    Partial(usize),
    Whole(usize),
}

fn all_fixtures() -> Vec<Fixture> {
    let fixture = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        let mut reader = Reader::new(Box::new(Cursor::new(bytes.clone()))).unwrap();
        let passes = fixtures::passes(&mut reader);
        let frames = frames(&bytes);
        let chunks = frames.windows(3).filter(|at| bytes[at[0]] == CHUNK && bytes[at[1]] == SEAL);
        Fixture {
            name: path.file_stem().unwrap().to_string_lossy().into_owned(),
            chunks: chunks.map(|at| at[0]..at[2]).collect(),
            alarms: alarms(&report(&reader, &passes)),
            is_whole: reader.notices().is_empty(),
            passes,
            frames,
            bytes,
        }
    };
    let all: Vec<Fixture> = fixtures::paths().iter().map(fixture).collect();
    assert!(all.iter().filter(|f| f.is_whole).count() > 8 && all.iter().any(|f| !f.is_whole));
    assert!(all.iter().all(|f| f.chunks.len() > 1), "a fixture has chunks without seals");
    all
}

/// Offsets of the records at the top level, and the end of the file.
fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut frames = vec![MAGIC_BYTES];
    let mut at = MAGIC_BYTES;
    while at + HEAD_BYTES <= bytes.len() {
        at += HEAD_BYTES + u64::from_le_bytes(bytes[at + 1..at + 9].try_into().unwrap()) as usize;
        frames.push(at);
    }
    frames.push(bytes.len());
    frames.dedup();
    frames
}

fn report(reader: &Reader, passes: &[Pass]) -> Report {
    let mut pipeline = Pipeline::new(reader.meta()).unwrap();
    passes.iter().for_each(|pass| pipeline.pass(pass));
    pipeline.finish(reader.meta(), reader.closing().cloned(), reader.notices())
}

fn alarms(report: &Report) -> BTreeSet<String> {
    report.findings.iter().filter(|f| f.rank.is_alarm()).map(|f| f.id.clone()).collect()
}

/// Reads a damaged file. Every pass that comes out of it must be one of the undamaged file, at its place.
fn read(fixture: &Fixture, bytes: Vec<u8>, how: &str) -> Outcome {
    let Ok(mut reader) = Reader::new(Box::new(Cursor::new(bytes))) else { return Outcome::Refused };
    let mut n = 0;
    while let Some(pass) = reader.next_pass().unwrap() {
        assert!(fixture.passes.get(n) == Some(&pass), "{}: {how}: another pass {n}", fixture.name);
        n += 1;
    }
    if reader.notices().iter().any(|notice| notice.is_partial) {
        Outcome::Partial(n)
    } else {
        Outcome::Whole(n)
    }
}

fn is_seen(fixture: &Fixture, bytes: Vec<u8>, how: &str) {
    if let Outcome::Whole(n) = read(fixture, bytes, how) {
        panic!("{}: {how}: taken for whole, with {n} of {} passes", fixture.name, fixture.passes.len());
    }
}

#[test]
fn a_chunk_that_is_missing_repeated_or_exchanged_is_damage() {
    for f in all_fixtures() {
        let with = |at: Range<usize>, new: &[&[u8]]| {
            let mut bytes = f.bytes[..at.start].to_vec();
            new.iter().for_each(|part| bytes.extend_from_slice(part));
            bytes.extend_from_slice(&f.bytes[at.end..]);
            bytes
        };
        for (n, chunk) in f.chunks.iter().enumerate() {
            let whole = &f.bytes[chunk.clone()];
            let (alone, seal) = whole.split_at(whole.len() - HEAD_BYTES - 28);
            is_seen(&f, with(chunk.clone(), &[]), &format!("without chunk {n}"));
            is_seen(&f, with(chunk.clone(), &[whole, whole]), &format!("chunk {n} twice"));
            is_seen(&f, with(chunk.clone(), &[seal]), &format!("without chunk {n}, with its seal"));
            is_seen(
                &f,
                with(chunk.clone(), &[alone, alone, seal]),
                &format!("chunk {n} twice before its seal"),
            );
            is_seen(&f, with(chunk.clone(), &[alone]), &format!("without seal {n}"));
            is_seen(&f, with(chunk.clone(), &[whole, seal]), &format!("seal {n} twice"));
            for other in &f.chunks[n + 1..] {
                let between = &f.bytes[chunk.end..other.start];
                let exchanged = [&f.bytes[other.clone()], between, whole];
                is_seen(&f, with(chunk.start..other.end, &exchanged), &format!("chunk {n} and a later one"));
            }
        }
    }
}

#[test]
fn a_chunk_of_another_recording_is_damage() {
    let all = all_fixtures();
    for pair in all.windows(2) {
        let [a, b] = pair else { unreachable!() };
        for (from, to) in a.chunks.iter().zip(&b.chunks) {
            let bytes = [&b.bytes[..to.start], &a.bytes[from.clone()], &b.bytes[to.end..]].concat();
            // The first chunk has the description, so that it makes the file one of the other run with chunks of this.
            match Reader::new(Box::new(Cursor::new(bytes))) {
                Err(_) => {}
                Ok(mut reader) => {
                    while reader.next_pass().unwrap().is_some() {}
                    assert!(reader.notices().iter().any(|n| n.is_partial), "{} in {}", a.name, b.name);
                }
            }
        }
    }
}

/// The first seal is read before the description says which run it is of. Its checksum is right here.
#[test]
fn a_first_seal_of_another_run_is_damage() {
    for f in all_fixtures() {
        let mut bytes = f.bytes.clone();
        let content = f.frames.iter().find(|at| bytes[**at] == SEAL).unwrap() + HEAD_BYTES;
        bytes[content + 16] ^= 1;
        let sum = crc32fast::hash(&bytes[..content + 24]);
        bytes[content + 24..content + 28].copy_from_slice(&sum.to_le_bytes());
        is_seen(&f, bytes, "the first seal is of another run");
    }
}

#[test]
fn a_flipped_bit_is_damage_wherever_it_is() {
    let mut flips = 0;
    for f in all_fixtures() {
        let mut at_most: BTreeSet<usize> = (0..MAGIC_BYTES).collect();
        // Every byte of a head, and some of each content.
        for frame in f.frames.windows(2) {
            at_most.extend(frame[0]..frame[1].min(frame[0] + CHUNK_HEAD_BYTES));
            at_most.extend((frame[0]..frame[1]).step_by(1 + (frame[1] - frame[0]) / 5));
        }
        for (n, at) in at_most.into_iter().enumerate() {
            // All bits in turn: bit 0 of a length and bit 7 of an opcode are not the same case.
            let mut bytes = f.bytes.clone();
            bytes[at] ^= 1 << (n % 8);
            is_seen(&f, bytes, &format!("bit {} of byte {at} flipped", n % 8));
            flips += 1;
        }
    }
    assert!(flips > 5_000, "{flips}");
}

#[test]
fn a_file_that_breaks_off_is_partial_and_has_no_other_alarms() {
    for f in all_fixtures() {
        let ends = f.frames.iter().copied().chain((0..f.bytes.len()).step_by(1 + f.bytes.len() / 40));
        let mut checked = BTreeSet::new();
        for end in ends.filter(|end| *end < f.bytes.len()) {
            let how = format!("cut at byte {end}");
            let n = match read(&f, f.bytes[..end].to_vec(), &how) {
                Outcome::Refused => continue,
                Outcome::Whole(_) => panic!("{}: {how}: taken for whole", f.name),
                Outcome::Partial(n) => n,
            };
            // A chunk whose seal is missing at the end of the file is whole by its own checksum.
            let lost = f.chunks.iter().filter(|chunk| chunk.end <= end).count();
            assert!(lost == 0 || n > 0 || lost == 1, "{}: {how}: {lost} whole chunks, and no pass", f.name);
            if checked.insert(n) {
                let mut reader = Reader::new(Box::new(Cursor::new(f.bytes[..end].to_vec()))).unwrap();
                while reader.next_pass().unwrap().is_some() {}
                let of_part = alarms(&report(&reader, &f.passes[..n]));
                assert!(of_part.is_subset(&f.alarms), "{}: {how}: {of_part:?}, whole {:?}", f.name, f.alarms);
            }
        }
    }
}

/// A recording of format 1 has no seals, and is still read.
#[test]
fn a_recording_of_the_first_format_gives_the_same_findings() {
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/format-1.obs");
    let mut reader = Reader::new(Box::new(std::fs::File::open(old).unwrap())).unwrap();
    let passes = fixtures::passes(&mut reader);
    assert_eq!((reader.meta().format_version, reader.notices()), (1, vec![]));
    let new = all_fixtures().into_iter().find(|f| f.name == "fault-mutex-6.1").unwrap();
    assert!(passes == new.passes);
    assert_eq!(alarms(&report(&reader, &passes)), new.alarms);
}
