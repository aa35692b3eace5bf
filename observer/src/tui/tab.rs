//! The views by name, in the order of their keys.

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

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tab::Overview => "Overview",
            Tab::Windows => "Windows",
            Tab::Tables => "Tables",
            Tab::Locks => "Locks",
            Tab::Events => "Events",
            Tab::Coverage => "Coverage",
            Tab::Protection => "Protect",
        }
    }
}
