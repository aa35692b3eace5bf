//! The words for doubts: what could make a finding false, or weaker than it looks.

use observer_engine::finding::Doubt;

use crate::text::plural;

/// A doubt about a finding, in words.
#[must_use]
pub fn doubt(d: &Doubt) -> String {
    match d {
        Doubt::Loss => "records were lost on these CPUs while it happened".into(),
        Doubt::UnlinkInterval => "the moment of the unlink is known as an interval only".into(),
        Doubt::NoOperation => "looked up outside any watched operation: the end of its use is not known".into(),
        Doubt::InferredHold(class) => format!("the hold of {} is inferred", class.name()),
        Doubt::QueuedWriter { class, writer_seen: true } => {
            format!("needs a writer of {} queued between two readers; writers were seen", class.name())
        }
        Doubt::QueuedWriter { class, writer_seen: false } => {
            format!(
                "needs a writer of {} queued between two readers; none was seen in this run",
                class.name()
            )
        }
        Doubt::FewTasks => "fewer tasks than steps were seen".into(),
        Doubt::NotTogether => "the tasks of the sides were not there at one time".into(),
        Doubt::Unreachable => {
            "the tasks cannot all reach the point where they wait: another lock prevents it".into()
        }
        Doubt::Inside => "a task is inside the operation yet: a folio may be locked in it, unseen".into(),
        Doubt::SearchCut => "whether the tasks can all come to where they wait was too much to try".into(),
        Doubt::Moment(class) => format!("when {} was taken is not known to the moment", class.name()),
        Doubt::Merged => "the sides are of different recordings, whose locks cannot be compared".into(),
        Doubt::Bound(what) => {
            format!("incomplete: more {what} were seen than are kept, and what is not kept could change this")
        }
        Doubt::WaitNotSeen { tid, class } => format!(
            "task {}'s wait for {} was not seen: the kernel does not report such waits, and the task was silent since",
            tid.0,
            class.name()
        ),
        Doubt::HolderUnseen => {
            "a task may hold the lock that was not seen to acquire it: before the run began, or where observer does not look"
                .into()
        }
        Doubt::HolderForgotten { releases } => format!(
            "who held the lock last is not remembered: of locks that nobody waits for, only the last {} are",
            plural(*releases as u64, "release")
        ),
        Doubt::CirclesCut(tasks) => format!(
            "the search for circles reached its bound: from {} that wait in the same knot none was looked for",
            plural(*tasks as u64, "more task")
        ),
        Doubt::Coverage(what) => format!("not fully seen on this kernel: {what}"),
    }
}
