//! A recording with a movable position, for a dashboard.
//!
//! Decides how a place is reached. The recording is read once, as fast as possible, and checkpoints of the run are stored on
//! the way ([`checkpoints`]). Any other place is reached from the nearest checkpoint, or from the current position. A place is the
//! same no matter how it is reached ([`Until`]). Also decides how long playback waits while nothing happens.
//!
//! Reports do not use the player: [`super::run`] makes them from a source.

mod checkpoints;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;

use self::checkpoints::Checkpoints;
use super::{
    Dashboard, FRAME, Options, Step, Stops, after_snapshot,
    pipeline::{Pipeline, Taken, Until, last_snapshot},
};
use crate::{
    events::Filter,
    meta::Meta,
    recording::{Index, Input, Reader},
    snapshot::{Command, Position, Replay, Snapshot, To},
    source::Pass,
};

/// Longest time between two checks for commands.
const SLICE: Duration = Duration::from_millis(10);
/// Longest time that playback shows a run in which nothing happens.
const GAP_MAX: Duration = Duration::from_secs(5);
/// Steps applied between two checks of the clock.
const STEPS: usize = 256;

/// A recording at some place.
pub struct Player {
    name: String,
    input: Input,
    meta: Arc<Meta>,
    /// Event time of the recording's end, as far as its index knows it.
    end_ns: u64,
    reader: Reader,
    pipeline: Pipeline,
    checkpoints: Checkpoints,
    /// Place that the player moves to, or that it was last sent to and reached.
    goal: Option<Until>,
    way: Way,
    /// True while the first reading is under way.
    reading: bool,
    /// Play from the start after the first reading.
    then_play: bool,
    /// True if the last slice read a new part of the recording.
    extends: bool,
    paused: bool,
    /// Multiple of real time; `None`: as fast as possible.
    speed: Option<f32>,
    clock: Option<Clock>,
    /// Event time of this place.
    now_ns: u64,
    tail: Option<Filter>,
}

/// Progress of the player towards its goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    There,
    /// It starts from its position or from a checkpoint, whichever is nearer.
    Sent,
    /// It starts from a checkpoint, so that all rows on the way are kept again.
    SentAnew,
    Going,
}

/// Relation of event time to real time.
struct Clock {
    since: Instant,
    since_ns: u64,
    /// Real time of the last event, and the number of events then.
    happened: Instant,
    events: u64,
}

/// Next action of a player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Continue with the same work.
    Again,
    At(Instant),
    /// Wait for a command.
    Idle,
}

impl Player {
    /// Opens a recording, which is then read to its end. If a speed is given, it is played from the start after that.
    ///
    /// # Errors
    /// It cannot be read, or it is not a recording that this version can show.
    pub fn open(name: String, input: Input, speed: Option<Option<f32>>) -> anyhow::Result<Player> {
        let open = || input.open().with_context(|| format!("open recording {name}"));
        let index = Index::read(&mut *open()?).with_context(|| format!("read {name}"))?;
        let reader = Reader::named(&name, open()?)?;
        let meta = Arc::new(reader.meta().clone());
        let pipeline = Pipeline::new(&meta)?;
        let bytes = input.len().with_context(|| format!("read {name}"))?;
        Ok(Player {
            checkpoints: Checkpoints::new(pipeline.clone(), reader.place(), bytes),
            end_ns: index.end_ns().unwrap_or(0).max(meta.start_ns),
            now_ns: meta.start_ns,
            name,
            input,
            meta,
            reader,
            pipeline,
            goal: Some(Until::END),
            way: Way::Going,
            reading: true,
            then_play: matches!(speed, Some(Some(_))),
            extends: false,
            paused: false,
            speed: speed.unwrap_or(Some(1.0)),
            clock: None,
            tail: None,
        })
    }

    /// Carries out a person's command. The caller handles quitting.
    pub fn command(&mut self, command: Command) {
        self.clock = None;
        match command {
            Command::Quit => {}
            Command::Pause(true) => {
                if std::mem::take(&mut self.reading) {
                    self.stop_here();
                }
                self.then_play = false;
                self.paused = true;
            }
            // It plays when it has been read.
            Command::Pause(false) if self.reading => {}
            Command::Pause(false) => {
                self.paused = false;
                if self.is_at_end() {
                    self.go(Until::Event(0), Way::Sent);
                }
            }
            Command::Speed(speed) => self.speed = speed,
            Command::Tail(filter) => self.set_tail(filter),
            Command::Seek(to) => self.seek(to),
        }
    }

    fn is_at_end(&self) -> bool {
        self.way == Way::There && self.pipeline.has_ended()
    }

    fn seek(&mut self, to: To) {
        // A person may ask for several steps faster than they are taken.
        let from = match self.goal {
            Some(Until::Event(n)) if self.way != Way::There => n,
            _ => self.pipeline.events(),
        };
        let until = match to {
            To::Time(ns) => Until::Time(ns),
            To::Event(n) => Until::Event(n),
            To::Steps(by) => Until::Event(from.saturating_add_signed(by)),
            To::End => Until::END,
        };
        self.then_play = false;
        self.paused |= matches!(to, To::Steps(_));
        let is_there = if self.reading { true } else { self.is_at_end() };
        if until != Until::END || !is_there {
            self.reading = false;
            self.go(until, Way::Sent);
        }
    }

    fn set_tail(&mut self, filter: Filter) {
        if self.tail.as_ref() == Some(&filter) {
            return;
        }
        self.tail = Some(filter.clone());
        match self.way {
            // The earlier events must pass through the new filter too.
            Way::There if self.paused => {
                self.go(self.goal.unwrap_or(Until::Time(self.now_ns)), Way::SentAnew)
            }
            Way::Going if !self.reading => self.way = Way::SentAnew,
            _ => self.pipeline.keep_tail(filter),
        }
    }

    fn go(&mut self, until: Until, way: Way) {
        (self.goal, self.way) = (Some(until), way);
    }

    /// Makes the current position the place.
    fn stop_here(&mut self) {
        (self.goal, self.way) = (None, Way::There);
        self.now_ns = self.pipeline.event_ns();
    }

    /// Works for one slice of time.
    ///
    /// # Errors
    /// The recording cannot be read.
    pub fn work(&mut self, slice: Duration) -> anyhow::Result<Next> {
        let begun = Instant::now();
        let deadline = begun + slice;
        self.extends = false;
        match self.goal {
            Some(until) if self.way != Way::There => {
                if self.way != Way::Going {
                    self.set_out(until)?;
                }
                if self.advance(until, deadline)? {
                    self.arrive(until);
                }
                Ok(Next::Again)
            }
            _ if self.paused || self.pipeline.has_ended() => Ok(Next::Idle),
            _ => self.play(begun, deadline),
        }
    }

    fn play(&mut self, begun: Instant, deadline: Instant) -> anyhow::Result<Next> {
        self.goal = None;
        let until_ns = self.speed.map(|speed| self.clock().now_ns(speed));
        let is_there = self.advance(until_ns.map_or(Until::END, Until::Time), deadline)?;
        self.now_ns = self.pipeline.event_ns();
        if self.pipeline.has_ended() {
            self.arrive(Until::END);
            return Ok(Next::Again);
        }
        let Some(until_ns) = until_ns.filter(|_| is_there) else { return Ok(Next::Again) };
        self.now_ns = self.now_ns.max(until_ns);
        let events = self.pipeline.events();
        if self.clock().bores(events) {
            self.go(Until::Event(events + 1), Way::Sent);
        }
        Ok(Next::At(begun + FRAME))
    }

    fn clock(&mut self) -> &mut Clock {
        let (now, since_ns, events) = (Instant::now(), self.now_ns, self.pipeline.events());
        self.clock.get_or_insert(Clock { since: now, since_ns, happened: now, events })
    }

    /// Starts from the position, or from a checkpoint if that is nearer or the only way.
    fn set_out(&mut self, until: Until) -> anyhow::Result<()> {
        let is_ahead = !self.pipeline.has_ended()
            && match until {
                Until::Event(n) => self.pipeline.events() < n,
                Until::Time(ns) => self.pipeline.event_ns() <= ns,
            };
        let from = self.checkpoints.before(until);
        let is_nearer = self.pipeline.events() >= from.pipeline.events();
        let from_here = self.way == Way::Sent && is_ahead && is_nearer;
        self.way = Way::Going;
        if from_here {
            return Ok(());
        }
        let reopened = self.input.open().and_then(|input| self.reader.at(input, from.place));
        self.reader = reopened.with_context(|| format!("read {}", self.name))?;
        self.pipeline = from.pipeline.clone();
        if let Some(filter) = &self.tail {
            self.pipeline.keep_tail_at(filter.clone(), self.checkpoints.events_at(until));
        }
        Ok(())
    }

    /// Applies events up to a place, until the deadline; returns true if the place is reached.
    fn advance(&mut self, until: Until, deadline: Instant) -> anyhow::Result<bool> {
        loop {
            let taken = self.pipeline.take(until, STEPS);
            self.extends |= self.checkpoints.note(&self.pipeline, &self.reader);
            match taken {
                Taken::There => return Ok(true),
                Taken::More => {}
                Taken::Hungry => {
                    match self.reader.next_pass().with_context(|| format!("read {}", self.name))? {
                        Some(pass) if self.is_stop_in(&pass, until) => self.pipeline.feed(&pass),
                        Some(pass) => self.pipeline.pass(&pass),
                        None => self.pipeline.feed_end(self.reader.closing()),
                    }
                }
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
        }
    }

    /// Returns true if the run may have to stop within this pass.
    fn is_stop_in(&self, pass: &Pass, until: Until) -> bool {
        self.pipeline.reaches(pass, until) || self.pipeline.reaches(pass, self.checkpoints.next_look())
    }

    fn arrive(&mut self, until: Until) {
        self.way = Way::There;
        self.clock = None;
        self.reading = false;
        self.now_ns = self.pipeline.event_ns();
        if let Until::Time(ns) = until {
            self.now_ns = self.now_ns.max(ns.min(self.end_ns()));
        }
        if self.pipeline.has_ended() {
            self.goal = Some(Until::END);
            // Playing on from the end starts at the beginning.
            self.paused = true;
            if std::mem::take(&mut self.then_play) {
                self.paused = false;
                self.go(Until::Event(0), Way::Sent);
            }
        }
    }

    fn end_ns(&self) -> u64 {
        self.end_ns.max(self.checkpoints.read_ns)
    }

    /// True on the way to a place, if there is nothing to show before its end.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.way != Way::There && !self.extends
    }

    #[must_use]
    pub fn position(&self) -> Position {
        Position::Replay(Replay {
            file: self.name.clone(),
            start_ns: self.meta.start_ns,
            end_ns: self.end_ns(),
            read_ns: self.checkpoints.read_ns,
            event: self.pipeline.events(),
            events: self.checkpoints.events,
            reading: self.reading,
            paused: self.paused,
            speed: self.speed,
            ended: self.is_at_end(),
            marks: self.checkpoints.marks(),
        })
    }

    /// The run at this place.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now_ns = if self.way == Way::There { self.now_ns } else { self.pipeline.event_ns() };
        if !self.pipeline.has_ended() {
            return Snapshot { now_ns, ..self.pipeline.snapshot(&self.meta, self.position()) };
        }
        let report =
            self.pipeline.clone().finish(&self.meta, self.reader.closing().cloned(), self.reader.notices());
        Snapshot {
            meta: self.meta.clone(),
            fired: self.pipeline.fired(),
            tail: self.pipeline.tail(),
            last: self.pipeline.last(),
            ..last_snapshot(&report, self.position())
        }
    }
}

impl Clock {
    /// Event time now.
    fn now_ns(&self, speed: f32) -> u64 {
        let ns = self.since.elapsed().as_secs_f64() * f64::from(speed) * 1e9;
        self.since_ns.saturating_add(ns as u64)
    }

    /// Returns true if nothing has happened for too long.
    fn bores(&mut self, events: u64) -> bool {
        if std::mem::replace(&mut self.events, events) != events {
            self.happened = Instant::now();
        }
        self.happened.elapsed() >= GAP_MAX
    }
}

/// Plays a recording for a dashboard until the person leaves it.
///
/// # Errors
/// The recording cannot be read.
pub async fn play(mut player: Player, dashboard: Dashboard) -> anyhow::Result<()> {
    let snapshots = dashboard.snapshots.clone();
    let mut stops = Stops::new(&mut Options { dashboard: Some(dashboard), ..Options::default() })?;
    let mut shown = Shown { due: Instant::now(), news: true };
    let mut next = Next::Again;
    loop {
        let step = tokio::select! {
            biased;
            step = stops.next() => Some(step),
            () = wait(next) => None,
        };
        match step {
            Some(Step::End(_)) => return Ok(()),
            Some(Step::Command(command)) => {
                player.command(command);
                shown = Shown { due: Instant::now(), news: true };
                // Further commands that are already waiting are handled before any work is done.
                next = Next::Again;
                continue;
            }
            _ => {}
        }
        let begun = Instant::now();
        next = player.work(SLICE)?;
        shown.news |= next != Next::Idle;
        if shown.news && !player.is_under_way() {
            let now = Instant::now();
            if now >= shown.due {
                snapshots.send_replace(Arc::new(player.snapshot()));
                shown = Shown { due: begun + after_snapshot(now.elapsed()), news: false };
            } else if next == Next::Idle || matches!(next, Next::At(at) if at > shown.due) {
                next = Next::At(shown.due);
            }
        }
    }
}

/// Time at which a snapshot may be sent, and if there is something to send.
struct Shown {
    due: Instant,
    news: bool,
}

async fn wait(next: Next) {
    match next {
        Next::Again => tokio::task::yield_now().await,
        Next::At(at) => tokio::time::sleep_until(at.into()).await,
        Next::Idle => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
