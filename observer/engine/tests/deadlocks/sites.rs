//! The probed places of the simulated kernel.

use observer_engine::{
    event::{Event, SiteId},
    setup::{Coverage, Grade, Role, Setup, Site},
};

use super::case::Telling;

pub const NONE: u16 = 0xffff;
pub const DOWN_READ: u16 = 10;
pub const DOWN_WRITE: u16 = 11;
pub const DOWN_READ_TRYLOCK: u16 = 12;
pub const DOWN_WRITE_TRYLOCK: u16 = 13;
pub const MUTEX_LOCK: u16 = 14;
pub const MUTEX_TRYLOCK: u16 = 15;
pub const READ_TRY_THEN_BLOCK: u16 = 16;
pub const WRITE_TRY_THEN_BLOCK: u16 = 17;
pub const RELEASE: u16 = 18;
pub const DOWNGRADE: u16 = 19;
pub const LOOKUP_FOLIO: u16 = 20;
/// Entered right after the folio was locked.
pub const CONTRACT: u16 = 21;
/// Entered some time after.
pub const LATE_CONTRACT: u16 = 26;
pub const FOLIO_SLOW: u16 = 22;
pub const FOLIO_RELEASE: u16 = 23;
pub const CONTENTION: u16 = 24;
pub const SPIN_LOCK: u16 = 25;
pub const FORK: u16 = 30;
pub const EXIT: u16 = 31;

const SITES: &[(u16, Role, &str)] = &[
    (1, Role::Operation, "hugetlb_fault"),
    (2, Role::Operation, "migrate_pages"),
    (3, Role::Operation, "hugetlbfs_fallocate"),
    (DOWN_READ, Role::Lock, "down_read"),
    (DOWN_WRITE, Role::Lock, "down_write"),
    (DOWN_READ_TRYLOCK, Role::Lock, "down_read_trylock"),
    (DOWN_WRITE_TRYLOCK, Role::Lock, "down_write_trylock"),
    (MUTEX_LOCK, Role::Lock, "mutex_lock"),
    (MUTEX_TRYLOCK, Role::Lock, "mutex_trylock"),
    (READ_TRY_THEN_BLOCK, Role::Lock, "rmap_walk_read"),
    (WRITE_TRY_THEN_BLOCK, Role::Lock, "rmap_walk_write"),
    (RELEASE, Role::Lock, "up_read"),
    (DOWNGRADE, Role::Lock, "downgrade_write"),
    (LOOKUP_FOLIO, Role::FolioHeld, "__filemap_get_folio"),
    (CONTRACT, Role::FolioHeld, "try_to_migrate"),
    (LATE_CONTRACT, Role::FolioHeld, "filemap_remove_folio"),
    (FOLIO_SLOW, Role::FolioHeld, "__folio_lock"),
    (FOLIO_RELEASE, Role::FolioRelease, "folio_unlock"),
    (CONTENTION, Role::Wait, "contention_begin"),
    (SPIN_LOCK, Role::Ptl, "_raw_spin_lock"),
    (FORK, Role::Task, "sched_process_fork"),
    (EXIT, Role::Task, "sched_process_exit"),
];

pub fn setup(telling: &Telling) -> Setup {
    let sites = SITES.iter().map(|(id, role, function)| Site {
        id: SiteId(*id),
        function: (*function).into(),
        role: *role,
        foreign_lookup_until: None,
        vma_locked: false,
        last_user: false,
        try_then_block: [READ_TRY_THEN_BLOCK, WRITE_TRY_THEN_BLOCK].contains(id),
    });
    let coverage = (!telling.ptl_release).then(|| Coverage {
        role: Role::Ptl,
        part: "release".into(),
        grade: Grade::Bounded,
        reason: "inline".into(),
    });
    Setup { sites: sites.collect(), coverage: coverage.into_iter().collect(), ..Setup::default() }
}

/// The same for a text trace: what these events need of it.
pub fn text(telling: &Telling, events: &[Event]) -> String {
    let mut out = String::new();
    for (id, role, function) in SITES.iter().filter(|(id, ..)| events.iter().any(|e| e.site.0 == *id)) {
        let block =
            if [READ_TRY_THEN_BLOCK, WRITE_TRY_THEN_BLOCK].contains(id) { " try-then-block" } else { "" };
        out.push_str(&format!("site {id} {} {function}{block}\n", role.name()));
    }
    if !telling.ptl_release {
        out.push_str("coverage ptl/release bounded inline\n");
    }
    out
}
