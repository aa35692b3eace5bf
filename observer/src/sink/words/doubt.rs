//! The words for doubts: what could make a finding false, or weaker than it looks.

use observer_engine::finding::Doubt;

use crate::text::plural;

/// A doubt about a finding, in words.
#[must_use]
pub fn doubt(d: &Doubt) -> String {
    match d {
        Doubt::Loss => "records were lost on these CPUs while it happened".into(),
        Doubt::UnlinkInterval => "the time of the unlink is known only as an interval".into(),
        Doubt::NoOperation => {
            "the lookup was outside any watched operation: the end of the pointer's use is not known".into()
        }
        Doubt::InferredHold(class) => {
            format!("the hold of {} is inferred: its acquisition was not seen", class.name())
        }
        Doubt::QueuedWriter { class, writer_seen } => {
            let seen = if *writer_seen { "a writer was seen in this run" } else { "this run shows no writer" };
            format!("it hangs only if a writer queues for {} between two readers; {seen}", class.name())
        }
        Doubt::FewTasks => "fewer tasks were seen than the cycle has sides".into(),
        Doubt::NotTogether => "the tasks did not exist at the same time".into(),
        Doubt::Unreachable => {
            "the tasks cannot all reach the point where they wait: another lock prevents it".into()
        }
        Doubt::Inside => {
            "a task is still inside the operation: it may hold a folio lock that only the release will show".into()
        }
        Doubt::SearchCut => {
            "the search for a schedule in which all tasks reach their waits ended at its bound, without a result".into()
        }
        Doubt::Moment(class) => format!("the time at which {} was acquired is not known exactly", class.name()),
        Doubt::Merged => "the sides are from different recordings, whose locks cannot be compared".into(),
        Doubt::Bound(what) => {
            format!("incomplete: more {what} were seen than are kept, and one that was not kept could change this")
        }
        Doubt::WaitNotSeen { tid, class } => format!(
            "this kernel does not report waits for {}: task {} requested it, and no later event of that task was seen",
            class.name(),
            tid.0
        ),
        Doubt::HolderUnseen => {
            "a task may hold the lock without a recorded acquisition: since before the run, or in code that is not watched"
                .into()
        }
        Doubt::HolderForgotten { releases } => format!(
            "the last holder may be forgotten: for locks without a waiter, only the last {} are remembered",
            plural(*releases as u64, "release")
        ),
        Doubt::CirclesCut(tasks) => format!(
            "the search for circles of waits reached its bound: it did not start from {} in the same knot",
            plural(*tasks as u64, "more task")
        ),
        Doubt::Coverage(what) => format!("not fully seen on this kernel: {what}"),
    }
}
