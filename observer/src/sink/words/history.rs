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
    let cut = (before > 0).then(|| format!("{before} earlier steps"));
    let line = |e: &TableEvent| format!("{:>11}  {}", since(e.time_ns, c.unlink_hi_ns), step(e, c));
    for (i, line) in cut.into_iter().chain(c.history[before..].iter().map(line)).enumerate() {
        out.push(row(if i == 0 { "history" } else { "" }, &line));
    }
}

fn since(time_ns: u64, unlink_ns: u64) -> String {
    if time_ns < unlink_ns {
        format!("-{}", span(unlink_ns - time_ns))
    } else if time_ns > unlink_ns {
        format!("+{}", span(time_ns - unlink_ns))
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
    format!("{}{by}{}", step_text(e.what, &link), other_generation(e, c.generation))
}

/// Kept steps of a table, one line each.
#[must_use]
pub fn of_table(t: &TableView, start_ns: u64) -> Vec<String> {
    let line = |e: &TableEvent| {
        let by = if e.tid == Tid(0) { String::new() } else { format!(" by task {}", e.tid.0) };
        let (step, generation) = (step_text(e.what, &link(e)), other_generation(e, t.generation));
        format!("{}  {step}{by}{generation}", moment(e.time_ns, start_ns))
    };
    t.history.iter().map(line).collect()
}

fn link(e: &TableEvent) -> String {
    format!("link of mm {}, GiB of {},", e.mm, e.gib)
}

fn step_text(step: TableStep, link: &str) -> String {
    match step {
        TableStep::Born => format!("{link} created with the table"),
        TableStep::Shared => format!("{link} shared"),
        TableStep::Seen => format!("{link} first looked up"),
        TableStep::Unshared => format!("{link} unlinked"),
        TableStep::Freed => "page freed".to_owned(),
    }
}

/// Note about an event of another generation than the one that is shown.
fn other_generation(e: &TableEvent, generation: u32) -> String {
    if e.generation == generation { String::new() } else { format!(", generation {}", e.generation) }
}
