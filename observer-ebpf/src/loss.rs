//! Reasons for lost records. Every early exit of a program that drops a record counts one of them.

macro_rules! reasons {
    ($( $(#[doc = $doc:literal])+ $number:literal $konst:ident $name:literal )+) => {
        $( $(#[doc = $doc])+ pub const $konst: usize = $number; )+
        /// Name and meaning, indexed by number.
        pub static REASONS: &[(&str, &str)] = &[ $( ($name, concat!($($doc),+)) ),+ ];
        /// Number of loss reasons.
        pub const COUNT: usize = REASONS.len();
    };
}

reasons! {
    /// The CPU's ring had no room: the drain did not keep up.
    0 RING_FULL "ring-full"
    /// The CPU has no ring: it came online after attach, or its number is beyond the outer map.
    1 NO_RING "no-ring"
    /// Another task inside an operation has the task's slot: this one's operation is not seen.
    2 SLOT_BUSY "slot-busy"
    /// The lock table had no free place in the set: records of that lock are missing from here on.
    3 LOCK_TABLE_FULL "lock-table-full"
    /// Retired. A range had more GiB than one snapshot of the entries held.
    4 RANGE_CUT "range-cut"
    /// Retired. The snapshot slot of an enclosing function was taken by another task.
    5 SNAPSHOT_BUSY "snapshot-busy"
    /// Kernel memory could not be read.
    6 READ_FAULT "read-fault"
    /// A lookup on behalf of no watched operation: of a function without a row, or begun before attach.
    7 OUTSIDE_OPERATION "outside-operation"
    /// The kernel gave no stack: its number belongs to another one.
    8 NO_STACK "no-stack"
    /// The kernel did not run a program at a hit: an earlier run of it on that CPU was interrupted or preempted.
    9 SKIPPED "skipped"
}
