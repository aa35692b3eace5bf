//! The words for what happened to a table, told from the removal that a window is about.

use observer_engine::{
    event::Tid,
    finding::WindowCase,
    view::{TableEvent, TableStep},
};

use super::{row, span};

/// A line for each step.
pub fn rows(out: &mut Vec<String>, c: &WindowCase) {
    for (i, e) in c.history.iter().enumerate() {
        let name = if i == 0 { "history" } else { "" };
        out.push(row(name, &format!("{:>11}  {}", since(e.time_ns, c.unlink_hi_ns), step(e, c))));
    }
}

fn since(time_ns: u64, removal_ns: u64) -> String {
    match (time_ns.checked_sub(removal_ns), removal_ns.checked_sub(time_ns)) {
        (Some(0), _) => "then".to_owned(),
        (Some(after), _) => format!("+{}", span(after)),
        (_, before) => format!("-{}", span(before.unwrap_or(0))),
    }
}

fn step(e: &TableEvent, c: &WindowCase) -> String {
    let what = match e.what {
        TableStep::Born => "made and linked",
        TableStep::Shared => "linked by sharing",
        TableStep::Seen => "looked up by a link not known before",
        TableStep::Unshared => "link removed",
        TableStep::Freed => "page given back",
    };
    let link = if e.what == TableStep::Freed {
        String::new()
    } else if e.mm == c.mm && e.gib == c.addr.gib() {
        ", the one looked up by".to_owned()
    } else {
        format!(", mm {}, GiB of {}", e.mm, e.gib)
    };
    let life = if e.generation == c.generation { String::new() } else { format!(", life {}", e.generation) };
    format!("{what}{}{link}{life}", by(e.tid, c))
}

fn by(tid: Tid, c: &WindowCase) -> String {
    match tid {
        Tid(0) => String::new(),
        tid if tid == c.holder.task.tid => " by the holder".to_owned(),
        tid if tid == c.unlinker.task.tid => " by the unlinker".to_owned(),
        tid => format!(" by task {}", tid.0),
    }
}
