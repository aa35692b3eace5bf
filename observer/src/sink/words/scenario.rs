//! Scenario of a deadlock: a column for each party, time downwards, as lockdep draws it.
//!
//! Draws steps, without judging if they can happen. A writer that queues between two readers gets a column of its own.

use observer_engine::event::Mode;

use crate::text::row;

/// Columns of the terminal for the whole scenario.
const WIDTH: usize = 85;

/// One step of a party in the scenario.
pub struct Act {
    column: usize,
    text: String,
}

impl Act {
    /// A call in `column`: `rlock` to read, `lock` otherwise.
    pub fn new(column: usize, mode: Option<Mode>, lock: &str, note: &str) -> Act {
        let verb = if mode == Some(Mode::Read) { "rlock" } else { "lock" };
        Act { column, text: format!("{verb}({lock});{note}") }
    }
}

/// Draws one column for each of the `sides`, then one for each of the `writers`.
pub fn draw(out: &mut Vec<String>, title: &str, (sides, writers): (usize, usize), acts: &[Act]) {
    out.push(row("scenario", title));
    let columns = sides + writers;
    let heading = |at| {
        if at < sides { format!("CPU{at} (side {})", at + 1) } else { format!("CPU{at} (a writer)") }
    };
    let width = |at| {
        let texts = acts.iter().filter(|a| a.column == at).map(|a| a.text.len());
        texts.chain([heading(at).len()]).max().unwrap_or(0) + 2
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let side_by_side = widths.iter().sum::<usize>() <= WIDTH;
    if side_by_side {
        let line = |text: &dyn Fn(usize) -> String| {
            let cells: String = (0..columns).map(|at| format!("{:<w$}", text(at), w = widths[at])).collect();
            row("", cells.trim_end())
        };
        out.push(line(&heading));
        out.push(line(&|_| "----".to_owned()));
    }
    for act in acts {
        let text = if side_by_side {
            format!("{:w$}{}", "", act.text, w = widths[..act.column].iter().sum())
        } else {
            format!("{:<16} {}", heading(act.column), act.text)
        };
        out.push(row("", &text));
    }
    out.push(row("", " *** DEADLOCK ***"));
}
