//! Tests of a recording as a source.

use std::{
    io::{Cursor, Write},
    sync::{Arc, Mutex},
};

use observer_ebpf::WIRE_VERSION;

use super::*;
use crate::{meta::FORMAT_VERSION, recording::Writer, source::Mark};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Passes of 50 ms.
fn replay(passes: u64) -> Replay {
    let meta = Meta { format_version: FORMAT_VERSION, wire_version: WIRE_VERSION, ..Meta::default() };
    let out = Shared::default();
    let mut writer = Writer::new(Box::new(out.clone()), &meta).unwrap();
    for number in 0..passes {
        let mark = Mark { number, time_ns: number * 50_000_000, complete: true };
        writer.pass(&Pass { mark, ..Pass::default() }).unwrap();
    }
    writer.finish(None).unwrap();
    let bytes = out.0.lock().unwrap().clone();
    Replay::new("made".into(), Box::new(Cursor::new(bytes))).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_recording_gives_its_passes_and_ends() {
    block_on(async {
        let mut replay = replay(400);
        for number in 0..400 {
            assert_eq!(replay.next().await.unwrap().unwrap().mark.number, number);
        }
        assert_eq!(replay.next().await.unwrap(), None);
        replay.stop();
        assert!(!replay.notices().iter().any(|n| n.text.contains("stopped")));
    });
}

#[test]
fn a_stopped_replay_has_a_notice() {
    block_on(async {
        let mut replay = replay(10);
        replay.next().await.unwrap();
        replay.stop();
        assert_eq!(replay.next().await.unwrap(), None);
        assert_eq!(replay.notices()[0].text, "replay was stopped before the recording's end");
    });
}
