//! Probed sites of the simulated kernel.

use observer_engine::{
    event::{Class, Mode, SiteId},
    setup::{Coverage, Exclusion, Grade, Role, Setup, Site as Row},
};

use super::kernels::{Protocol, UnlinkReport};

macro_rules! sites {
    ($($name:ident $role:ident $function:literal)+) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Site { $($name),+ }

        impl Site {
            pub const ALL: &[Site] = &[$(Site::$name),+];

            pub fn function(self) -> &'static str {
                match self { $(Site::$name => $function),+ }
            }

            fn role(self) -> Role {
                match self { $(Site::$name => Role::$role),+ }
            }
        }
    };
}

sites! {
    Fault Operation "hugetlb_fault"
    Sharing Operation "huge_pmd_share"
    WalkRange Operation "__walk_page_range"
    Smaps Callback "smaps_hugetlb_range"
    Gup Operation "follow_hugetlb_page"
    Restore Operation "remove_migration_pte"
    Poison Operation "hwpoison_hugetlb_range"
    Unmap Operation "__unmap_hugepage_range"
    Protect Operation "hugetlb_change_protection"
    Split Operation "hugetlb_unshare_pmds"
    Move Operation "move_hugetlb_page_tables"
    Migrate Operation "try_to_migrate_one"
    Exit Operation "exit_mmap"
    Sweep Walk "walk_hugetlb_range"
    Offset Lookup "huge_pte_offset"
    AllocPte Lookup "huge_pte_alloc"
    Shared Share "huge_pmd_share()"
    AllocPmd TableAlloc "__pmd_alloc"
    Body Unshare "__huge_pmd_unshare"
    FreePmd TableFree "___pmd_free_tlb"
    Sleeping Lock "down_read"
    Spin Ptl "_raw_spin_lock"
    Contention Wait "contention_begin"
    Tasks Task "sched_process_exit"
}

impl Site {
    pub fn id(self) -> SiteId {
        SiteId(Site::ALL.iter().position(|s| *s == self).expect("all are listed") as u16)
    }

    /// Returns true if the upper-level entries are compared during this operation.
    pub fn is_compared(self) -> bool {
        matches!(self, Site::Unmap | Site::Protect | Site::Split | Site::Move | Site::Migrate)
    }
}

/// Returns the setup that describes this kernel to the engine.
pub fn setup(protocol: &Protocol) -> Setup {
    let excludes = |class, modes: &[Mode], except: &[Site]| Exclusion {
        class,
        modes: modes.to_vec(),
        except_unlink_sites: except.iter().map(|s| s.function().to_owned()).collect(),
    };
    let both = [Mode::Read, Mode::Write];
    let split_takes_i_mmap: &[Site] = if protocol.split_takes_i_mmap { &[] } else { &[Site::Split] };
    Setup {
        sites: Site::ALL
            .iter()
            .map(|s| Row {
                id: s.id(),
                function: s.function().to_owned(),
                role: s.role(),
                foreign_lookup_until: (*s == Site::Sharing).then_some(Class::IMmap),
                folio_taken: None,
                late: false,
                try_then_block: Vec::new(),
                vma_locked: matches!(
                    s,
                    Site::Fault | Site::WalkRange | Site::Smaps | Site::Gup | Site::Sweep
                ),
                last_user: *s == Site::Exit,
            })
            .collect(),
        exclusions: vec![
            excludes(Class::VmaLock, &both, &[Site::Split]),
            excludes(Class::IMmap, &both, split_takes_i_mmap),
            excludes(Class::Ptl, &[Mode::Exclusive], &[Site::Move]),
        ],
        orders: Vec::new(),
        coverage: match protocol.unlink_report {
            UnlinkReport::Entries => Vec::new(),
            UnlinkReport::Body | UnlinkReport::Both => vec![Coverage {
                role: Role::Unshare,
                part: String::new(),
                grade: Grade::Exact,
                reason: String::new(),
            }],
        },
    }
}
