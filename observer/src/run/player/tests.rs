//! Tests of seeks: the state at a position is the same by every way to it.

use std::path::PathBuf;

use super::*;
use crate::run::pipeline::TAIL_MAX;

fn fixture(name: &str) -> Input {
    Input::File(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fixtures").join(name))
}

fn cut(name: &str, permille: usize) -> Input {
    let Input::File(path) = fixture(name) else { unreachable!() };
    let bytes = std::fs::read(path).unwrap();
    Input::Static(bytes[..bytes.len() * permille / 1000].to_vec().leak())
}

fn open(input: &Input) -> Player {
    Player::open("made".into(), input.clone(), None).unwrap()
}

/// Works until nothing is left to do.
fn settle(player: &mut Player) {
    for _ in 0..100_000 {
        match player.work(SLICE).unwrap() {
            Next::Idle => return,
            Next::Again => {}
            Next::At(at) => std::thread::sleep(at.saturating_duration_since(Instant::now())),
        }
    }
    panic!("it does not come to rest");
}

fn read(input: &Input) -> Player {
    let mut player = open(input);
    settle(&mut player);
    player
}

fn seek(player: &mut Player, to: To) -> Snapshot {
    player.command(Command::Seek(to));
    settle(player);
    player.snapshot()
}

fn place(snapshot: &Snapshot) -> Replay {
    match &snapshot.position {
        Position::Replay(place) => place.clone(),
        other => panic!("{other:?}"),
    }
}

/// The part of a snapshot that must be equal at one position.
fn picture(s: &Snapshot) -> String {
    format!(
        "{:?}",
        (
            (s.now_ns, s.passes, &s.stats, &s.counts, &s.loss),
            (&s.findings, &s.edges, &s.tables, &s.mappings, &s.leases),
            (&s.protection, &s.coverage, &s.fired, &s.notices, place(s).event)
        )
    )
}

/// A run without any seek, pass by pass and then event by event.
fn fresh(input: &Input, until: Until) -> Snapshot {
    fresh_with(input, until, None)
}

fn fresh_with(input: &Input, until: Until, tail: Option<Filter>) -> Snapshot {
    let mut reader = Reader::new(input.open().unwrap()).unwrap();
    let meta = Arc::new(reader.meta().clone());
    let mut pipeline = Pipeline::new(&meta).unwrap();
    tail.into_iter().for_each(|filter| pipeline.keep_tail(filter));
    loop {
        match pipeline.take(until, 1) {
            Taken::There => break,
            Taken::More => {}
            Taken::Hungry => match reader.next_pass().unwrap() {
                // Passes are fed as a whole and taken event by event.
                Some(pass) => pipeline.feed(&pass),
                None => pipeline.feed_end(reader.closing()),
            },
        }
    }
    let event = pipeline.events();
    let position = Position::Replay(Replay { event, ..Replay::default() });
    Snapshot { now_ns: pipeline.event_ns(), ..pipeline.snapshot(&meta, position) }
}

/// Xorshift with a fixed seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

const FIXTURES: [&str; 3] = ["share-unmap.obs", "fault-truncate.obs", "walkers-6.1.obs"];

#[test]
fn a_position_is_the_same_by_every_way_to_it() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for name in FIXTURES {
        let input = fixture(name);
        let mut player = read(&input);
        let total = player.checkpoints.events;
        assert!(total > 1000, "{name}: {total}");
        for _ in 0..40 {
            let n = dice.below(total);
            let snapshot = match dice.below(4) {
                0 => {
                    let from = dice.below(total);
                    seek(&mut player, To::Event(from));
                    seek(&mut player, To::Steps(n as i64 - from as i64))
                }
                1 => {
                    seek(&mut player, To::End);
                    seek(&mut player, To::Event(n))
                }
                2 => {
                    let span_ns = player.end_ns() - player.meta.start_ns;
                    let ns = player.meta.start_ns + dice.below(span_ns);
                    seek(&mut player, To::Time(ns));
                    seek(&mut player, To::Event(n))
                }
                _ => seek(&mut player, To::Event(n)),
            };
            assert_eq!(place(&snapshot).event, n);
            assert_eq!(picture(&snapshot), picture(&fresh(&input, Until::Event(n))), "{name}: event {n}");
        }
    }
}

#[test]
fn a_seek_to_a_time_takes_all_events_up_to_it() {
    let mut dice = Dice(7);
    for name in FIXTURES {
        let input = fixture(name);
        let mut player = read(&input);
        player.command(Command::Tail(Filter::default()));
        for _ in 0..20 {
            let span_ns = player.end_ns() - player.meta.start_ns;
            let ns = player.meta.start_ns + dice.below(span_ns);
            let sought = seek(&mut player, To::Time(ns));
            assert!(sought.tail.last().is_none_or(|row| row.event.time_ns <= ns));
            assert_eq!(sought.now_ns, ns, "{name}");
            let expected = Snapshot { now_ns: ns, ..fresh(&input, Until::Time(ns)) };
            assert_eq!(picture(&sought), picture(&expected), "{name}: {ns}");
            let next = seek(&mut player, To::Steps(1));
            assert!(place(&next).ended || next.tail.last().unwrap().event.time_ns > ns);
        }
    }
}

fn report(input: &Input) -> Snapshot {
    let mut source = crate::source::replay::Replay::new("made".into(), input.open().unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(crate::run::run(&mut source, Options::default())).unwrap();
    last_snapshot(&outcome.report, Position::Replay(Replay::default()))
}

/// The state in the form of a report, which has no counts of sites.
fn as_report(snapshot: &Snapshot) -> String {
    let position = Position::Replay(Replay::default());
    picture(&Snapshot { position, fired: Vec::new(), ..snapshot.clone() })
}

#[test]
fn the_state_at_the_end_is_the_report() {
    let mut inputs: Vec<Input> = FIXTURES.map(fixture).to_vec();
    inputs.extend([300, 700, 950].map(|permille| cut("walkers-6.12.obs", permille)));
    inputs.push(fixture("hang-fault-mutex-6.1.obs"));
    for input in &inputs {
        let expected = as_report(&report(input));
        let mut player = read(input);
        let end = player.snapshot();
        assert!(place(&end).ended && place(&end).paused && !place(&end).reading);
        assert_eq!(place(&end).event, place(&end).events);
        assert_eq!(as_report(&end), expected, "{input:?}");
        let middle = seek(&mut player, To::Event(place(&end).events / 2));
        assert!(!place(&middle).ended);
        for to in [To::End, To::Time(u64::MAX), To::Event(u64::MAX), To::Steps(i64::MAX)] {
            seek(&mut player, To::Event(place(&end).events / 2));
            let again = seek(&mut player, to);
            assert!(place(&again).ended, "{to:?}");
            assert_eq!(as_report(&again), expected);
        }
    }
}

#[test]
fn steps_go_back_from_the_end_and_forward_again() {
    let input = fixture("share-unmap.obs");
    let mut player = read(&input);
    let total = player.checkpoints.events;
    for back in 1..20 {
        let snapshot = seek(&mut player, To::Steps(-1));
        assert_eq!(place(&snapshot).event, total - back);
        assert!(!place(&snapshot).ended);
    }
    // Commands arrive faster than the player takes them.
    for _ in 0..5 {
        player.command(Command::Seek(To::Steps(1)));
    }
    settle(&mut player);
    assert_eq!(place(&player.snapshot()).event, total - 19 + 5);
    assert_eq!(place(&seek(&mut player, To::Steps(i64::MIN))).event, 0);
}

#[test]
fn an_empty_recording_is_at_its_end() {
    // Only the description of the run.
    let Input::Static(bytes) = cut("share-unmap.obs", 1000) else { unreachable!() };
    let index = Index::read(&mut std::io::Cursor::new(bytes)).unwrap();
    let input = Input::Static(&bytes[..index.chunks()[1].offset as usize]);
    let mut player = read(&input);
    let end = player.snapshot();
    assert!(place(&end).ended);
    assert_eq!((place(&end).event, end.notices.len()), (0, 1));
    for to in [To::Time(0), To::Event(3), To::Steps(-1), To::Steps(1), To::End] {
        assert_eq!(place(&seek(&mut player, to)).event, 0);
    }
    player.command(Command::Pause(false));
    settle(&mut player);
    assert!(place(&player.snapshot()).ended);
}

#[test]
fn a_finding_is_listed_at_its_mark() {
    let mut before_the_end = 0;
    for name in FIXTURES {
        let mut player = read(&fixture(name));
        let end = player.snapshot();
        let marks = place(&end).marks;
        assert!(marks.is_sorted_by_key(|mark| mark.reported_ns));
        for finding in &end.findings {
            assert_eq!(marks.iter().filter(|mark| mark.id == finding.id).count(), 1, "{}", finding.id);
        }
        before_the_end += marks.iter().filter(|mark| mark.reported_ns < place(&end).end_ns).count();
        for mark in marks.iter() {
            assert!(mark.at_ns <= mark.reported_ns);
            let then = seek(&mut player, To::Time(mark.reported_ns));
            assert!(then.findings.iter().any(|f| f.id == mark.id), "{name}: {mark:?}");
        }
    }
    assert!(before_the_end > 4, "{before_the_end}");
}

#[test]
fn the_tail_is_full_after_a_seek() {
    let mut player = read(&fixture("walkers-6.1.obs"));
    let total = player.checkpoints.events;
    assert!(player.checkpoints.events > 4 * TAIL_MAX as u64);
    player.command(Command::Tail(Filter::default()));
    for n in [total, total - 1, total / 2, TAIL_MAX as u64, 10, 0] {
        let snapshot = seek(&mut player, To::Event(n));
        let rows = n.min(TAIL_MAX as u64);
        let numbers: Vec<u64> = snapshot.tail.iter().map(|row| row.number).collect();
        assert_eq!(numbers, (n - rows + 1..=n).collect::<Vec<_>>());
        assert_eq!(snapshot.last.map(|row| row.number), (n > 0).then_some(n));
        if n > 100 {
            assert!(snapshot.tail.iter().filter(|row| row.comm.is_empty()).count() < numbers.len() / 4);
        }
    }
    // A new filter at the same position.
    seek(&mut player, To::Event(5000));
    let filter = Filter::parse("kind=lookup", &Default::default()).unwrap();
    player.command(Command::Tail(filter.clone()));
    settle(&mut player);
    let lookups = player.snapshot();
    assert_eq!(place(&lookups).event, 5000);
    assert!(lookups.tail.len() > 100, "{}", lookups.tail.len());
    assert_eq!(lookups.last.as_ref().map(|row| row.number), Some(5000), "it need not pass");
    assert!(lookups.tail.iter().all(|row| row.number <= 5000 && filter.matches(row)));
}

#[test]
fn a_late_tail_knows_the_names_recorded_before_it() {
    for name in ["migrate.obs", "walkers-6.1.obs", "hang-fault-mutex-6.1.obs"] {
        let input = fixture(name);
        let mut player = read(&input);
        player.command(Command::Tail(Filter::default()));
        let n = player.checkpoints.events * 9 / 10;
        let kept_late = seek(&mut player, To::Event(n));
        let from_the_begin = fresh_with(&input, Until::Event(n), Some(Filter::default()));
        assert_eq!(kept_late.tail, from_the_begin.tail, "{name}");
        assert!(kept_late.tail.iter().any(|row| row.owner != 0), "{name}");
    }
}

#[test]
fn the_first_reading_can_be_interrupted_and_resumed() {
    let input = fixture("fault-truncate.obs");
    let total = read(&input).checkpoints.events;
    let mut player = open(&input);
    while player.checkpoints.events < total / 3 {
        assert_eq!(player.work(Duration::ZERO).unwrap(), Next::Again);
        assert!(place(&player.snapshot()).reading);
    }
    player.command(Command::Pause(true));
    settle(&mut player);
    let stopped = place(&player.snapshot());
    assert!(!stopped.reading && stopped.paused && !stopped.ended);
    assert!(stopped.event >= total / 3 && stopped.event < total, "{} of {total}", stopped.event);
    let known = player.checkpoints.events;
    let back = seek(&mut player, To::Event(known / 2));
    assert_eq!((place(&back).event, place(&back).events), (known / 2, known));
    let on = seek(&mut player, To::Event(known + 100));
    assert_eq!(place(&on).event, known + 100);
    assert_eq!(picture(&on), picture(&fresh(&input, Until::Event(known + 100))));
    player.command(Command::Speed(None));
    player.command(Command::Pause(false));
    settle(&mut player);
    let end = player.snapshot();
    assert!(place(&end).ended);
    assert_eq!(place(&end).events, total);
    assert_eq!(as_report(&end), as_report(&report(&input)));
}

#[test]
fn a_recording_is_read_before_it_is_played_at_a_speed() {
    let input = fixture("share-unmap.obs");
    let whole = read(&input);
    let span_ns = whole.end_ns() - whole.meta.start_ns;
    // At this speed the recording takes a third of a second.
    let speed = span_ns as f32 / 0.33e9;
    let mut player = Player::open("made".into(), input, Some(Some(speed))).unwrap();
    while player.reading {
        player.work(SLICE).unwrap();
    }
    let begun = Instant::now();
    let mut before = 0;
    loop {
        let next = player.work(SLICE).unwrap();
        if next == Next::Idle {
            break;
        }
        let snapshot = player.snapshot();
        if let Next::At(at) = next {
            assert!(snapshot.now_ns >= before && !place(&snapshot).paused);
            before = snapshot.now_ns;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    assert!(place(&player.snapshot()).ended);
}

#[test]
fn the_dashboard_receives_the_positions_it_requests() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (snapshots, mut shown) = tokio::sync::watch::channel(Arc::new(Snapshot::default()));
        let (asked, commands) = tokio::sync::mpsc::channel(4);
        let player = open(&fixture("share-unmap.obs"));
        let person = async {
            let is = |want: fn(&Replay) -> bool| {
                move |s: &Arc<Snapshot>| matches!(&s.position, Position::Replay(r) if want(r))
            };
            shown.wait_for(is(|r| r.ended)).await.unwrap();
            asked.send(Command::Seek(To::Event(100))).await.unwrap();
            shown.wait_for(is(|r| r.event == 100)).await.unwrap();
            asked.send(Command::Seek(To::Steps(-1))).await.unwrap();
            shown.wait_for(is(|r| r.event == 99)).await.unwrap();
            asked.send(Command::Quit).await.unwrap();
        };
        let both = async { tokio::join!(play(player, Dashboard { snapshots, commands }), person).0 };
        tokio::time::timeout(Duration::from_secs(60), both).await.unwrap().unwrap();
    });
}

#[test]
fn long_gaps_without_events_are_skipped() {
    let mut player = read(&fixture("share-unmap.obs"));
    // The speed is so low that no event is due during this test.
    player.command(Command::Speed(Some(1e-6)));
    seek(&mut player, To::Event(1000));
    player.command(Command::Pause(false));
    assert!(matches!(player.work(SLICE).unwrap(), Next::At(_)));
    assert_eq!(place(&player.snapshot()).event, 1000);
    player.clock.as_mut().unwrap().happened -= GAP_MAX;
    player.work(SLICE).unwrap();
    while player.way != Way::There {
        player.work(SLICE).unwrap();
    }
    let on = place(&player.snapshot());
    assert_eq!((on.event, on.paused, on.ended), (1001, false, false));
}
