//! Tests of recordings: written and read, whole, cut and damaged.

use std::{
    collections::BTreeMap,
    io::Cursor,
    sync::{Arc, Mutex},
};

use observer_ebpf::{WIRE_VERSION, kinds};

use super::{Index, Input, Reader, WireLoss, Writer, reader::Refused};
use crate::{
    meta::{Closing, End, FORMAT_VERSION, Meta, Symbol},
    source::{Batch, Loss, Mark, Pass, Stack},
};

/// Output of a writer, readable while it writes.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn meta() -> Meta {
    Meta {
        format_version: FORMAT_VERSION,
        wire_version: WIRE_VERSION,
        observer_version: "9.9.9".into(),
        start_ns: 1_000_000_000,
        ..Meta::default()
    }
}

fn record(time_ns: u64, seq: u32) -> Vec<u8> {
    let mut bytes = time_ns.to_le_bytes().to_vec();
    bytes.extend(seq.to_le_bytes());
    bytes.extend(77u32.to_le_bytes());
    bytes.extend(kinds::on_wire(kinds::LOOKUP).to_le_bytes());
    bytes.extend(40u16.to_le_bytes());
    bytes.extend(0u32.to_le_bytes());
    for word in [0xffff_8880_1234_5000, 0x7f00_0000_0000 + (u64::from(seq % 64) << 21), 0xffff_8880_4444_4000]
    {
        bytes.extend(u64::to_le_bytes(word));
    }
    bytes
}

/// Passes of 100 ms.
fn passes(n: u64) -> Vec<Pass> {
    let mut seq = 0;
    let one = |number: u64| {
        let mark =
            Mark { number, time_ns: 1_000_000_000 + (number + 1) * 100_000_000, complete: number % 5 != 2 };
        let batch = |cpu: u16, seq: &mut u32| {
            let mut bytes = Vec::new();
            for i in 0..50 {
                bytes.extend(record(mark.time_ns - 50_000 + i * 997 % 1013, *seq));
                *seq += 1;
            }
            Batch { cpu, bytes }
        };
        let mut pass =
            Pass { mark, batches: vec![batch(1, &mut seq), batch(0, &mut seq)], ..Pass::default() };
        if number == 3 {
            pass.loss = vec![Loss { cpu: 1, reason: 0, site: Some(3), total: 9, since_ns: 8 }];
            pass.stacks = vec![Stack { id: 5, frames: vec![u64::MAX - 4096, 1] }];
            pass.symbols = vec![Symbol { address: 1, name: "f".into(), offset: 16 }];
        }
        pass
    };
    (0..n).map(one).collect()
}

fn closing() -> Closing {
    Closing { end: End::Command(3), end_ns: 7, sites: vec![], misses: vec![], loss: BTreeMap::new() }
}

fn write(passes: &[Pass]) -> Vec<u8> {
    let out = Shared::default();
    let mut writer = Writer::new(Box::new(out.clone()), &meta()).unwrap();
    for pass in passes {
        writer.pass(pass).unwrap();
    }
    writer.finish(Some(&closing())).unwrap();
    out.bytes()
}

fn read(bytes: &[u8]) -> (Reader, Vec<Pass>) {
    let mut reader = Reader::new(Box::new(Cursor::new(bytes.to_vec()))).unwrap();
    let mut passes = Vec::new();
    while let Some(pass) = reader.next_pass().unwrap() {
        passes.push(pass);
    }
    (reader, passes)
}

#[test]
fn a_recording_reads_back_unchanged() {
    let written = passes(40);
    let (reader, read) = read(&write(&written));
    assert_eq!(read, written);
    assert_eq!(reader.meta(), &meta());
    assert_eq!(reader.closing(), Some(&closing()));
    assert_eq!(reader.notices(), []);
}

#[test]
fn a_killed_writer_loses_at_most_the_last_second() {
    let out = Shared::default();
    let mut writer = Writer::new(Box::new(out.clone()), &meta()).unwrap();
    let written = passes(40);
    for (i, pass) in written.iter().enumerate() {
        writer.pass(pass).unwrap();
        let (reader, read) = read(&out.bytes());
        assert_eq!(read, written[..read.len()]);
        assert!(i + 1 - read.len() < 10, "{} of {} passes", read.len(), i + 1);
        let seconds = read.len() as f64 / 10.0;
        let notice =
            format!("recording is truncated after {seconds:.1} s: what came later is not in this output");
        assert_eq!(reader.notices()[0].text, notice);
    }
}

#[test]
fn a_cut_recording_gives_whole_passes_and_a_notice() {
    let written = passes(25);
    let bytes = write(&written);
    let mut most = 0;
    for cut in (0..bytes.len()).step_by(61) {
        let Ok(mut reader) = Reader::new(Box::new(Cursor::new(bytes[..cut].to_vec()))) else {
            assert_eq!(most, 0);
            continue;
        };
        let mut n = 0;
        while let Some(pass) = reader.next_pass().unwrap() {
            assert_eq!(pass, written[n]);
            n += 1;
        }
        assert!(n >= most);
        most = n;
        assert!(reader.notices()[0].is_partial);
    }
    assert_eq!(most, written.len());
}

#[test]
fn nothing_after_a_flipped_bit_is_read() {
    let written = passes(25);
    let bytes = write(&written);
    let (mut damaged, mut silent) = (0, 0);
    for at in (0..bytes.len()).step_by(37) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let Ok(mut reader) = Reader::new(Box::new(Cursor::new(bytes))) else { continue };
        if reader.meta() != &meta() {
            panic!("byte {at}: a changed description was believed");
        }
        let mut n = 0;
        while let Some(pass) = reader.next_pass().unwrap() {
            assert_eq!(pass, written[n], "byte {at}");
            n += 1;
        }
        damaged += usize::from(!reader.notices().is_empty());
        silent += usize::from(n < written.len() && reader.notices().is_empty());
    }
    assert_eq!(silent, 0);
    assert!(damaged > 10);
}

fn refused(bytes: Vec<u8>) -> Refused {
    match Reader::new(Box::new(Cursor::new(bytes))) {
        Ok(_) => panic!("was not refused"),
        Err(why) => why,
    }
}

#[test]
fn a_file_that_is_not_a_recording_is_named() {
    assert!(matches!(refused(vec![]), Refused::Empty));
    assert!(matches!(refused(b"ELF?".to_vec()), Refused::Foreign));
    assert!(matches!(refused(vec![0; 4096]), Refused::Foreign));
    assert!(matches!(refused(write(&[])[..60].to_vec()), Refused::NoMeta));
    let mut other = mcap::WriteOptions::new().profile("ros2").create(Cursor::new(Vec::new())).unwrap();
    other.finish().unwrap();
    let why = refused(other.into_inner().into_inner());
    assert!(matches!(&why, Refused::OtherMcap { profile, .. } if profile == "ros2"));
}

#[test]
fn another_version_is_refused_with_both_numbers() {
    let out = Shared::default();
    let later = Meta { wire_version: WIRE_VERSION + 1, ..meta() };
    Writer::new(Box::new(out.clone()), &later).unwrap().finish(None).unwrap();
    let why = refused(out.bytes());
    let text = why.to_string();
    assert!(text.contains("recorded by observer 9.9.9"), "{text}");
    assert!(text.contains(&format!("records of version {}; this one", WIRE_VERSION + 1)), "{text}");
    assert_eq!(why.hint(), "observer 9.9.9");
}

#[test]
fn an_event_takes_at_most_eight_bytes() {
    let written = passes(200);
    let events = 200 * 2 * 50;
    let bytes = write(&written).len();
    assert!(bytes <= 8 * events, "{} bytes an event", bytes as f64 / events as f64);
}

/// The passes that a reader returns if it begins at a position.
fn rest(reader: &Reader, input: &Input, place: super::reader::Place) -> (Reader, Vec<Pass>) {
    let mut reader = reader.at(input.open().unwrap(), place).unwrap();
    let mut passes = Vec::new();
    while let Some(pass) = reader.next_pass().unwrap() {
        passes.push(pass);
    }
    (reader, passes)
}

fn leak(bytes: &[u8]) -> Input {
    Input::Static(bytes.to_vec().leak())
}

#[test]
fn reading_can_begin_at_any_earlier_pass() {
    let written = passes(25);
    let bytes = write(&written);
    // The whole recording, and recordings that are cut in a late chunk.
    for cut in [bytes.len(), bytes.len() * 9 / 10, bytes.len() / 2] {
        let input = leak(&bytes[..cut]);
        let mut reader = Reader::new(input.open().unwrap()).unwrap();
        let mut places = vec![reader.place()];
        while reader.next_pass().unwrap().is_some() {
            places.push(reader.place());
        }
        assert!(cut < bytes.len() || places.len() == written.len() + 1);
        let chunks: std::collections::BTreeSet<u64> = places.iter().map(|p| p.offset).collect();
        assert!(cut < bytes.len() || chunks.len() > 2, "{chunks:?}");
        for (n, place) in places.iter().enumerate() {
            let (again, passes) = rest(&reader, &input, *place);
            assert_eq!(passes, written[n..places.len() - 1], "from pass {n}");
            assert_eq!(again.closing(), reader.closing());
            assert_eq!(again.notices(), reader.notices());
        }
        let (_, all) = rest(&reader, &input, super::reader::Place::default());
        assert_eq!(all, written[..places.len() - 1]);
    }
}

#[test]
fn the_index_lists_whole_chunks() {
    let written = passes(40);
    let bytes = write(&written);
    let whole = Index::read(&mut Cursor::new(&bytes)).unwrap();
    assert_eq!(whole.end_ns(), Some(written[39].mark.time_ns));
    // The description of the run is a chunk by itself; the others end with a pass.
    let (meta_alone, with_passes) = whole.chunks().split_first().unwrap();
    assert_eq!((meta_alone.start_ns, meta_alone.end_ns), (meta().start_ns, meta().start_ns));
    assert!(with_passes.len() >= 4);
    let (reader, _) = read(&bytes);
    let mut n = 0;
    for chunk in with_passes {
        let (_, passes) = rest(&reader, &leak(&bytes), chunk.place());
        assert_eq!(passes, written[n..]);
        assert_eq!(passes[0].mark.time_ns, chunk.start_ns);
        n += written[n..].iter().filter(|pass| pass.mark.time_ns <= chunk.end_ns).count();
    }
    assert_eq!(n, written.len());
    for cut in (0..bytes.len()).step_by(61) {
        let part = Index::read(&mut Cursor::new(&bytes[..cut])).unwrap();
        assert_eq!(part.chunks(), &whole.chunks()[..part.chunks().len()]);
        // A chunk ends where the next begins.
        let cut_off = whole.chunks().get(part.chunks().len() + 1);
        assert!(cut_off.is_none_or(|next| next.offset > cut as u64), "cut at {cut}");
    }
}

/// A place in the index is the start of a pass, also where a pass is longer than a chunk usually is.
#[test]
fn a_long_pass_is_in_one_chunk() {
    let mut written = passes(3);
    let long = |cpu: u16| {
        let mut bytes = Vec::new();
        for seq in 0..50_000_u32 {
            let at = bytes.len() + 24;
            bytes.extend(record(1_200_000_000 + u64::from(seq), seq));
            // Words that follow no sequence are written as they are.
            for (n, word) in bytes[at..].chunks_exact_mut(8).enumerate() {
                let mixed = (u64::from(seq) << 2 | n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                word.copy_from_slice(&mixed.to_le_bytes());
            }
        }
        Batch { cpu, bytes }
    };
    written[1].batches = (0..3).map(long).collect();
    let bytes = write(&written);
    let (reader, all) = read(&bytes);
    assert!(all == written);
    let index = Index::read(&mut Cursor::new(&bytes)).unwrap();
    for chunk in &index.chunks()[1..] {
        let (_, rest) = rest(&reader, &leak(&bytes), chunk.place());
        assert!(rest == written[written.len() - rest.len()..]);
    }
}

#[test]
fn a_damaged_length_ends_the_index() {
    let bytes = write(&passes(40));
    let whole = Index::read(&mut Cursor::new(&bytes)).unwrap();
    let mut damaged = bytes;
    let at = whole.chunks()[2].offset as usize + 1;
    damaged[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
    let index = Index::read(&mut Cursor::new(&damaged)).unwrap();
    assert_eq!(index.chunks(), &whole.chunks()[..2]);
}

#[test]
fn loss_before_a_segment_has_no_site() {
    let of_before: Vec<WireLoss> =
        serde_json::from_str(r#"[{"cpu":65535,"reason":7,"total":3,"since_ns":8}]"#).unwrap();
    assert_eq!(of_before[0].site, None);
    let known = WireLoss { cpu: 1, reason: 7, site: Some(5), total: 3, since_ns: 8 };
    assert!(serde_json::to_string(&known).unwrap().contains(r#""site":5"#));
    assert!(!serde_json::to_string(&WireLoss { site: None, ..known }).unwrap().contains("site"));
}
