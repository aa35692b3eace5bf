//! The event kinds: number, payload and the meaning of every field.
//!
//! [`TABLE`] is the source of `docs/events.md`; a test keeps the two equal.

/// One field of a record's payload, for documentation and for the text form.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name, with its unit where it has one.
    pub name: &'static str,
    /// Meaning of the field in one sentence.
    pub doc: &'static str,
}

/// One kind of record.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Number on the wire.
    pub number: u16,
    /// Name in text output and text traces.
    pub name: &'static str,
    /// Event that a record of this kind reports, in one sentence.
    pub doc: &'static str,
    /// Meaning of the header's `arg`; an empty name means that it is unused and 0.
    pub arg: Field,
    /// Payload words in wire order, each a `u64`.
    pub words: &'static [Field],
}

macro_rules! kinds {
    ($( $(#[doc = $doc:literal])+ $number:literal $konst:ident $name:literal
        ($aname:literal $adoc:literal) { $($wname:literal $wdoc:literal),* $(,)? } )+) => {
        $( $(#[doc = $doc])+ pub const $konst: u16 = $number; )+
        /// Every kind, sorted by number.
        pub static TABLE: &[Kind] = &[ $( Kind {
            number: $number,
            name: $name,
            doc: concat!($($doc),+),
            arg: Field { name: $aname, doc: $adoc },
            words: &[ $( Field { name: $wname, doc: $wdoc } ),* ],
        } ),+ ];
        /// Returns the number of payload words of a kind, or `None` for an unknown number.
        #[must_use]
        pub const fn words(kind: u16) -> Option<usize> {
            match kind {
                $( $number => Some([$( $wname ),*].len()), )+
                _ => None,
            }
        }
        $( const _: () = assert!({ let n = [$( $wname ),*].len(); n == 1 || n == 3 || n == 5 }); )+
    };
}

kinds! {
    /// A task was seen for the first time, or a new task took over its slot.
    1 TASK "task" ("tgid" "process id") {
        "comm_lo" "first 8 bytes of the command name", "comm_hi" "last 8 bytes",
        "mm" "the task's `mm_struct`, 0 for a kernel thread",
    }
    /// A watched task exits.
    2 TASK_EXIT "task_exit" ("tgid" "process id") { "mm" "the task's `mm_struct`, 0 if already given up" }
    /// A watched task forked. All that the parent did before precedes the child's first event.
    3 FORK "fork" ("child_tid" "thread id of the child") { "child_tgid" "process id of the child" }
    /// A watched operation begins (entry of the site's function).
    4 OP_BEGIN "op_begin" (
        "page_kib" "size of the pages of a walk or callback in KiB, if tables of that size are never shared; else 0"
    ) {
        "mm" "the `mm_struct` worked on, not always the task's own; 0 unknown", "start" "first address or offset",
        "end" "end of the range, exclusive; 0 unknown",
    }
    /// A callback begins that receives a pte pointer: a lease by contract until its `op_end`.
    5 CALLBACK_BEGIN "callback_begin" ("" "") {
        "mm" "the `mm_struct` walked", "addr" "address of the entry", "pte" "the pte pointer",
    }
    /// A watched operation or callback ends (return of the site's function).
    6 OP_END "op_end" ("" "") { "ret" "return value" }
    /// A lookup returned. Repeated lookups of one task that stay in the same table and operation are counted, not sent.
    7 LOOKUP "lookup" ("repeats" "lookups by this task into the previous table that were not sent") {
        "mm" "the `mm_struct` looked up in", "addr" "address", "pte" "the pte pointer, 0: none",
    }
    /// A mapping was linked to a table that others already use.
    8 SHARE "share" ("count" "share count of the table after it, as the kernel keeps it") {
        "mm" "the mm that gets the link", "addr" "the address", "pte" "pte pointer returned: its page is the table",
    }
    /// A new PMD table was allocated inside a watched operation and linked.
    9 TABLE_ALLOC "table_alloc" ("" "") {
        "mm" "the mm that links it", "addr" "address for which it was allocated", "table" "address of the page-table page",
    }
    /// The body of unshare returned 1: it removed the link of (mm, GiB of addr) to the table.
    10 UNSHARE "unshare" ("" "") {
        "mm" "the mm that lost the link", "addr" "address", "pte" "pte pointer: its page is the table",
    }
    /// The upper-level entry behind a lookup changed: the link was removed between `lo_ns` and the time of this record.
    11 UNLINKED "unlinked" ("count" "share count of the table at the end") {
        "mm" "the mm that lost the link", "gib" "address of the GiB", "table" "the table that was linked",
        "lo_ns" "time of the lookup that went through it, nanoseconds", "now" "the upper-level entry now, 0: none",
    }
    /// An mm frees a table's page. The upper-level entry was cleared just before.
    12 TABLE_FREE "table_free" ("count" "users of the table other than the mm that frees it, as the kernel counts them") {
        "mm" "the mm that frees", "table" "the table", "addr" "always 0: the kernel does not report it",
    }
    /// A lookup returned the entry of a page of another size. The entry is in a table that is never shared, such as the PUD
    /// entry of a 1 GiB page. Every such lookup is sent.
    13 LOOKUP_OTHER_SIZE "lookup_other_size" ("page_kib" "size of the page in KiB") {
        "mm" "the `mm_struct` looked up in", "addr" "address", "pte" "pointer to the entry, 0: none",
    }
    /// The task requests a lock in a way that can block. From its next record on it certainly holds the lock.
    20 LOCK_ASK "ask" ("class_mode" "class in bits 0..8, mode in bits 8..16") { "lock" "address of the lock" }
    /// A trylock succeeded.
    21 LOCK_TRY "try" ("class_mode" "as in `ask`") { "lock" "address of the lock" }
    /// A trylock failed: nothing is held.
    22 LOCK_BUSY "busy" ("class_mode" "as in `ask`") { "lock" "address of the lock" }
    /// A killable or interruptible request returned without the lock.
    23 LOCK_GAVE_UP "gave_up" ("class_mode" "as in `ask`") { "lock" "address of the lock" }
    /// The task releases a lock (entry of the release).
    24 LOCK_RELEASE "release" ("class_mode" "as in `ask`") { "lock" "address of the lock" }
    /// Write mode becomes read mode.
    25 LOCK_DOWNGRADE "downgrade" ("class_mode" "class, and mode read") { "lock" "address of the lock" }
    /// The task begins to wait for a contended lock.
    26 WAIT_BEGIN "wait_begin" ("class_mode" "as in `ask`; mode 0: not reported") { "lock" "address of the lock" }
    /// The wait is over; `arg` bit 31 is set if it ended without the lock.
    27 WAIT_END "wait_end" ("class_mode" "as in `ask`") { "lock" "address of the lock" }
    /// Names the class and the owner of a lock. Two of them without a `lock_forget` between them mean that records of this
    /// lock may be missing.
    28 LOCK_NAME "lock_name" ("class_mode" "class") {
        "lock" "address of the lock", "owner" "mm, address_space, inode or table that it belongs to",
        "vma" "the VMA of a vma_lock, else 0",
    }
    /// The object that contains a lock ends.
    29 LOCK_FORGET "lock_forget" ("class_mode" "class") { "lock" "address of the lock" }
    /// The task requests the lock of a page-cache folio by its place in the file, and may block.
    30 FOLIO_ASK "folio_ask" ("" "") {
        "mapping" "the `address_space`", "index" "index as the kernel's function takes it",
        "folio" "the folio, 0 while it is not known",
    }
    /// The task is known to hold a folio lock.
    31 FOLIO_HELD "folio_held" ("how" "see `how`") {
        "folio" "address of the struct page or folio", "mapping" "its mapping word; bit 0 set: anonymous, 0: none",
        "index" "its index in the file",
    }
    /// A folio lock is released.
    32 FOLIO_RELEASE "folio_release" ("" "") {
        "folio" "address of the struct page or folio", "mapping" "its mapping word; bit 0 set: anonymous, 0: none",
        "index" "its index in the file",
    }
    /// The task waits in the folio lock's slow path.
    33 FOLIO_WAIT "folio_wait" ("" "") {
        "folio" "address of the struct page or folio", "mapping" "its mapping word", "index" "its index in the file",
    }
    /// The stack with which this task first began this operation; sent before its `op_begin`.
    40 STACK "stack" ("stack_id" "number in the stack map; user space stores the frames beside it") { "op" "site of the operation" }
}

/// Encodes `kind` for the header: the number in bits 0..14, the size class in bits 14..16 (1, 2, 3 for one, three, five
/// words). A reader can therefore skip kinds that it does not know.
#[must_use]
pub const fn on_wire(kind: u16) -> u16 {
    match words(kind) {
        Some(n) => kind | (n as u16).div_ceil(2) << 14,
        None => kind,
    }
}

/// Decodes a header's `kind` into number and payload words; 0 words means that this is not a record.
#[must_use]
pub const fn from_wire(kind: u16) -> (u16, usize) {
    (kind & 0x3fff, [0, 1, 3, 5][kind as usize >> 14])
}

/// Looks a kind up by number.
#[must_use]
pub fn by_number(number: u16) -> Option<&'static Kind> {
    TABLE.binary_search_by_key(&number, |k| k.number).ok().map(|i| &TABLE[i])
}
