//! The words for the history of a table: in a window, times since its unlink, else since the start of the run.

use observer_engine::{
    event::Tid,
    finding::WindowCase,
    view::{TableEvent, TableStep, TableView},
};

use crate::text::{moment, row, span};

/// Maximum number of steps shown of a window; older ones are only counted.
const STEPS_MAX: usize = 10;

/// Adds a line for each step.
pub fn rows(out: &mut Vec<String>, c: &WindowCase) {
    let before = c.history.len().saturating_sub(STEPS_MAX);
    let cut = (before > 0).then(|| format!("{before} before these"));
    let line = |e: &TableEvent| format!("{:>11}  {}", since(e.time_ns, c.unlink_hi_ns), step(e, c));
    for (i, line) in cut.into_iter().chain(c.history[before..].iter().map(line)).enumerate() {
        out.push(row(if i == 0 { "history" } else { "" }, &line));
    }
}

fn since(time_ns: u64, removal_ns: u64) -> String {
    if time_ns < removal_ns {
        format!("-{}", span(removal_ns - time_ns))
    } else if time_ns > removal_ns {
        format!("+{}", span(time_ns - removal_ns))
    } else {
        "then".to_owned()
    }
}

fn step(e: &TableEvent, c: &WindowCase) -> String {
    let link = if e.mm == c.mm && e.gib == c.addr.gib() { "this link".to_owned() } else { link(e) };
    let by = match e.tid {
        Tid(0) => String::new(),
        tid if tid == c.holder.task.tid => " by the holder".to_owned(),
        tid if tid == c.unlinker.task.tid => " by the unlinker".to_owned(),
        tid => format!(" by task {}", tid.0),
    };
    format!("{}{by}{}", what(e.what, &link), life(e, c.generation))
}

/// Kept steps of a table, one line each.
#[must_use]
pub fn of_table(t: &TableView, start_ns: u64) -> Vec<String> {
    let line = |e: &TableEvent| {
        let by = if e.tid == Tid(0) { String::new() } else { format!(" by task {}", e.tid.0) };
        let (what, life) = (what(e.what, &link(e)), life(e, t.generation));
        format!("{}  {what}{by}{life}", moment(e.time_ns, start_ns))
    };
    t.history.iter().map(line).collect()
}

fn link(e: &TableEvent) -> String {
    format!("link of mm {}, GiB of {},", e.mm, e.gib)
}

fn what(step: TableStep, link: &str) -> String {
    match step {
        TableStep::Born => format!("{link} made, the table with it,"),
        TableStep::Shared => format!("{link} made by sharing"),
        TableStep::Seen => format!("{link} looked through for the first time"),
        TableStep::Unshared => format!("{link} removed"),
        TableStep::Freed => "page given back".to_owned(),
    }
}

fn life(e: &TableEvent, generation: u32) -> String {
    if e.generation == generation { String::new() } else { format!(", life {}", e.generation) }
}
