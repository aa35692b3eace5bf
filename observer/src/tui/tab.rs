//! The views by name, in the order of their keys. [`views`](super::views) has what each of them shows.

/// A view of the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Windows,
    Tables,
    Locks,
    Events,
    Coverage,
    Protection,
}

impl Tab {
    pub const ALL: [Tab; 7] =
        [Tab::Overview, Tab::Windows, Tab::Tables, Tab::Locks, Tab::Events, Tab::Coverage, Tab::Protection];
}
