//! When a recorded pass is due.

use std::{
    io::{Cursor, Write},
    sync::{Arc, Mutex},
};

use observer_ebpf::WIRE_VERSION;
use tokio::time::timeout;

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
fn replay(passes: u64, speed: Option<f32>) -> Replay {
    let meta = Meta { format_version: FORMAT_VERSION, wire_version: WIRE_VERSION, ..Meta::default() };
    let out = Shared::default();
    let mut writer = Writer::new(Box::new(out.clone()), &meta).unwrap();
    for number in 0..passes {
        let mark = Mark { number, time_ns: number * 50_000_000, complete: true };
        writer.pass(&Pass { mark, ..Pass::default() }).unwrap();
    }
    writer.finish(None).unwrap();
    let bytes = out.0.lock().unwrap().clone();
    Replay::new("made".into(), Box::new(Cursor::new(bytes)), speed).unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

async fn count(replay: &mut Replay, within: Duration) -> u64 {
    let mut n = 0;
    let until = Instant::now() + within;
    while let Ok(Ok(Some(pass))) = tokio::time::timeout_at(until, replay.next()).await {
        assert_eq!(pass.mark.number, n);
        n += 1;
    }
    n
}

#[test]
fn flat_out_it_waits_for_nothing() {
    block_on(async {
        let mut replay = replay(400, None);
        assert_eq!(count(&mut replay, Duration::from_secs(15)).await, 400);
        assert!(matches!(replay.position(), Position::Replay(r) if r.ended));
    });
}

#[test]
fn at_a_speed_it_takes_its_time_and_loses_nothing_when_it_is_not_waited_for() {
    block_on(async {
        let mut replay = replay(4, Some(0.5));
        let begin = Instant::now();
        let mut seen = Vec::new();
        while seen.len() < 4 {
            if let Ok(pass) = timeout(Duration::from_millis(7), replay.next()).await {
                seen.push(pass.unwrap().unwrap().mark.number);
            }
        }
        assert_eq!(seen, [0, 1, 2, 3]);
        assert!(begin.elapsed() >= Duration::from_millis(300));
    });
}

#[test]
fn a_replay_that_was_stopped_says_so() {
    block_on(async {
        let mut replay = replay(10, None);
        replay.next().await.unwrap();
        replay.stop();
        assert_eq!(replay.next().await.unwrap(), None);
        assert_eq!(replay.notices()[0].0, "replay was stopped before the recording's end");
    });
}
