//! From bytes to every output: reader, order, engine, report, sinks, comparisons, lookups, a copy, the dashboard.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use observer_fuzz::{
    everything::{self, OnDisk},
    put,
    random::Random,
    subject::{Subject, mutate},
};

fuzz_target!(|bytes: &[u8]| {
    let Some(report) = everything::report(bytes) else { return };
    everything::sinks(&report);
    everything::comparisons(&report, &report);
    let mut random = Random::new(u64::from(crc32fast::hash(bytes)));
    let disk = OnDisk::new(bytes);
    disk.lookups(bytes, &report, &mut random);
    disk.dashboard(&report, &mut random);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(u64::from(seed));
    let subject = Subject::read(&data[..size]).filter(|_| random.below(16) > 0);
    let Some(mut subject) = subject else { return fuzzer_mutate(data, size, max_size) };
    match random.below(8) {
        0 => shorten(&mut subject, &mut random),
        // Bytes of a batch as the fuzzer changes them.
        1 => {
            let passes = subject.passes.len() as u64;
            let pass = &mut subject.passes[random.below(passes) as usize];
            let batches = pass.batches.len().max(1) as u64;
            if let Some(batch) = pass.batches.get_mut(random.below(batches) as usize) {
                let size = batch.bytes.len();
                batch.bytes.resize(size + 64, 0);
                let size = fuzzer_mutate(&mut batch.bytes, size, size + 64);
                batch.bytes.truncate(size);
            }
        }
        _ => mutate(&mut subject, &mut random),
    }
    put(&subject.written(), data, max_size).unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});

/// Takes some passes out, so that small inputs come to be.
fn shorten(subject: &mut Subject, random: &mut Random) {
    let passes = subject.passes.len() as u64;
    let from = random.below(passes);
    let to = from + random.below(passes - from);
    subject.without(from as usize..to as usize);
}
