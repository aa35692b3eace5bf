//! The reader of recordings: any bytes are read to an end, and what is read does not depend on where reading begins.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use observer::{
    recording::{Index, Reader, columns},
    source::Pass,
};
use observer_fuzz::{
    container::{self, Part},
    put,
    random::Random,
    written::written,
};

/// Passes from which another reader continues.
const PLACES: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    Index::read(&mut Cursor::new(bytes)).unwrap();
    if let Ok(batch) = columns::unfold(bytes, 1 << 20) {
        let again = columns::unfold(&columns::fold(&batch), u64::MAX);
        assert!(again.as_ref() == Ok(&batch), "columns make another batch");
    }
    let Ok(mut reader) = Reader::new(Box::new(Cursor::new(bytes.to_vec()))) else { return };
    let (mut passes, mut places) = (Vec::new(), Vec::new());
    loop {
        let place = reader.place();
        let Some(pass) = reader.next_pass().unwrap() else { break };
        places.push(place);
        passes.push(pass);
    }
    let _ = reader.notices();
    // The same passes from any place.
    let every = 1 + places.len() / PLACES;
    for (n, place) in places.iter().enumerate().step_by(every) {
        let mut other = reader.at(Box::new(Cursor::new(bytes.to_vec())), *place).unwrap();
        assert!(other.next_pass().unwrap().as_ref() == Some(&passes[n]), "another pass {n} at {place:?}");
    }
    // What was read is written and read again.
    let mut copy = Reader::new(Box::new(Cursor::new(written(reader.meta(), &passes, reader.closing()))));
    let copy = copy.as_mut().unwrap();
    let copied: Vec<Pass> = std::iter::from_fn(|| copy.next_pass().unwrap()).collect();
    assert!(copied == passes && copy.closing() == reader.closing(), "the copy is another recording");
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(u64::from(seed));
    let mut parts = container::parts(&data[..size]);
    if parts.is_empty() || random.below(8) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    for _ in 0..=random.below(3) {
        mutate(&mut parts, &mut random);
    }
    let bytes = container::written(&parts, random.below(4) > 0);
    put(&bytes, data, max_size).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

/// Changes one part, one message, or their order.
fn mutate(parts: &mut Vec<Part>, random: &mut Random) {
    if parts.is_empty() {
        return;
    }
    let at = random.below(parts.len() as u64) as usize;
    let other = random.below(parts.len() as u64) as usize;
    match random.below(12) {
        0 => drop(parts.remove(at)),
        1 => parts.insert(other, parts[at].clone()),
        2 => parts.swap(at, other),
        _ => match &mut parts[at] {
            Part::Chunk { times, records } => match random.below(8) {
                0 => change(times, random),
                1 if !records.is_empty() => {
                    records.swap_remove(random.below(records.len() as u64) as usize);
                }
                2 if !records.is_empty() => {
                    let record = records[random.below(records.len() as u64) as usize].clone();
                    records.insert(random.below(records.len() as u64) as usize, record);
                }
                _ if !records.is_empty() => {
                    let record = random.below(records.len() as u64) as usize;
                    grow(&mut records[record].1, random);
                }
                _ => {}
            },
            Part::Seal(body) => change(body, random),
            Part::Other((opcode, body)) => {
                if random.below(8) == 0 {
                    *opcode = random.below(256) as u8;
                }
                grow(body, random);
            }
        },
    }
}

/// Changes bytes, not their number.
fn change(bytes: &mut [u8], random: &mut Random) {
    if !bytes.is_empty() {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] = [0, 1, 0xff, random.below(256) as u8][random.below(4) as usize];
    }
}

/// Changes bytes as the fuzzer would.
fn grow(bytes: &mut Vec<u8>, random: &mut Random) {
    let size = bytes.len();
    bytes.resize(size + 1 + random.below(64) as usize, 0);
    let max_size = bytes.len();
    let size = fuzzer_mutate(bytes, size, max_size);
    bytes.truncate(size);
}
