//! Scenario of a cycle: a column for each party, time downwards, as lockdep draws it.
//!
//! Draws what the steps say, without judging if it can happen. Readers do not wait for readers. If a party requests to read
//! what another reads, a writer that queues between them gets a column of its own.

use observer_engine::{
    event::Mode,
    finding::{Cycle, Rank, Relock, Step},
    lock_class::LockClass,
};

use super::{super::row, needs_writer};

/// Columns of the terminal for the whole scenario.
const WIDTH: usize = 85;

/// One step of a party in the scenario.
struct Act {
    column: usize,
    text: String,
}

/// Draws a cycle.
pub fn of_cycle(out: &mut Vec<String>, c: &Cycle, rank: Rank) {
    let n = c.steps.len();
    let names = names(&c.steps);
    let act = |column, mode, of: usize, note: &str| Act { column, text: call(mode, &names[of]) + note };
    let mut acts: Vec<Act> = c.steps.iter().enumerate().map(|(at, s)| act(at, s.from_mode, at, "")).collect();
    let mut columns = n;
    for (at, s) in c.steps.iter().enumerate() {
        let next = (at + 1) % n;
        if needs_writer(s, &c.steps[next]) || c.queued.iter().any(|q| q.step == at) {
            acts.push(act(columns, Some(Mode::Write), next, " queued"));
            columns += 1;
        }
    }
    acts.extend(c.steps.iter().enumerate().map(|(at, s)| act(at, s.to_mode, (at + 1) % n, "")));
    let meet = |(at, s): (usize, &Step)| s.to_lock == c.steps[(at + 1) % n].from_lock;
    let same = c.recordings.is_empty() && c.steps.iter().enumerate().all(meet);
    let title = match rank {
        Rank::Confirmed => "how it hangs",
        _ if !same => "possible unsafe locking scenario, if these were the same locks",
        Rank::Guarded => "possible unsafe locking scenario, were it not for the gate",
        _ => "possible unsafe locking scenario",
    };
    draw(out, title, (n, columns - n), &acts);
}

/// Draws a task that requests a lock it holds.
pub fn of_relock(out: &mut Vec<String>, r: &Relock) {
    let name = r.held.class.name().to_owned();
    let act = |column, mode, note: &str| Act { column, text: call(mode, &name) + note };
    let mut acts = vec![act(0, r.held.mode, "")];
    let readers = (r.held.mode, r.asked_mode) == (Some(Mode::Read), Some(Mode::Read));
    if readers {
        acts.push(act(1, Some(Mode::Write), " queued"));
    }
    acts.push(act(0, r.asked_mode, ""));
    draw(out, "possible unsafe locking scenario", (1, usize::from(readers)), &acts);
}

/// Names of the lock that each step holds; equal classes are numbered.
fn names(steps: &[Step]) -> Vec<String> {
    let name = |(at, s): (usize, &Step)| {
        let same = |class: LockClass| move |s: &&Step| s.from == class;
        if steps.iter().filter(same(s.from)).count() == 1 {
            return s.from.name().to_owned();
        }
        format!("{} #{}", s.from.name(), steps[..=at].iter().filter(same(s.from)).count())
    };
    steps.iter().enumerate().map(name).collect()
}

/// Call in the scenario: `rlock` to read, `lock` otherwise.
fn call(mode: Option<Mode>, name: &str) -> String {
    let verb = if mode == Some(Mode::Read) { "rlock" } else { "lock" };
    format!("{verb}({name});")
}

/// Draws one column for each of the `sides`, then one for each of the `writers`.
fn draw(out: &mut Vec<String>, title: &str, (sides, writers): (usize, usize), acts: &[Act]) {
    out.push(row("scenario", title));
    let columns = sides + writers;
    let who = |at| {
        if at < sides { format!("CPU{at} (side {})", at + 1) } else { format!("CPU{at} (a writer)") }
    };
    let width = |at| {
        let texts = acts.iter().filter(|a| a.column == at).map(|a| a.text.len());
        texts.chain([who(at).len()]).max().unwrap_or(0) + 2
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let side_by_side = widths.iter().sum::<usize>() <= WIDTH;
    if side_by_side {
        let line = |text: &dyn Fn(usize) -> String| {
            let cells: String = (0..columns).map(|at| format!("{:<w$}", text(at), w = widths[at])).collect();
            row("", cells.trim_end())
        };
        out.push(line(&who));
        out.push(line(&|_| "----".to_owned()));
    }
    for act in acts {
        let text = if side_by_side {
            format!("{:w$}{}", "", act.text, w = widths[..act.column].iter().sum())
        } else {
            format!("{:<16} {}", who(act.column), act.text)
        };
        out.push(row("", &text));
    }
    out.push(row("", " *** DEADLOCK ***"));
}
