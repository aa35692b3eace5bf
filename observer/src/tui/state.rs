//! What is shown: view, selection, scroll, filter, freeze, and the past that rates are made of.
//!
//! Decides what a key press changes. Draws nothing, waits for nothing, and knows the terminal only as a size.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;

use super::history::History;
use super::keys::{self, Action};
use super::layout::Layout;
use super::rows::{self, RowKey};
use crate::snapshot::{Command, Position, Snapshot};

/// The views, in the order of their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Windows,
    Locks,
    Tables,
    Coverage,
    Protection,
}

impl Tab {
    pub const ALL: [Tab; 6] =
        [Tab::Overview, Tab::Windows, Tab::Locks, Tab::Tables, Tab::Coverage, Tab::Protection];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tab::Overview => "Overview",
            Tab::Windows => "Windows",
            Tab::Locks => "Locks",
            Tab::Tables => "Tables",
            Tab::Coverage => "Coverage",
            Tab::Protection => "Protect",
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Live,
    Replay,
}

/// Slowest and fastest speed that keys reach; the next step up is as fast as it goes.
const SPEEDS: (f32, f32) = (1.0 / 64.0, 64.0);

fn faster(speed: Option<f32>) -> Option<f32> {
    speed.map(|n| n * 2.0).filter(|n| *n <= SPEEDS.1)
}

fn slower(speed: Option<f32>) -> Option<f32> {
    Some(speed.map_or(SPEEDS.1, |n| (n / 2.0).max(SPEEDS.0)))
}

/// What a key press leads to outside the state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Effect {
    Nothing,
    Redraw,
    Send(Command),
}

/// Selection and filter of one view.
#[derive(Debug, Default)]
struct List {
    /// Rows of the snapshot that pass the filter, by rising index.
    visible: Vec<usize>,
    /// Index into `visible`.
    selected: usize,
    /// First row on the screen, index into `visible`.
    offset: usize,
    /// The row that the selection belongs to while rows come and go; `None`: to the first place.
    pinned: Option<RowKey>,
    filter: String,
}

/// How a recording goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub paused: bool,
    /// Times real time; `None`: as fast as it goes.
    pub speed: Option<f32>,
}

impl Pace {
    fn of(snapshot: &Snapshot) -> Pace {
        match snapshot.position {
            Position::Replay { paused, speed, .. } => Pace { paused, speed },
            Position::Live | Position::Ended => Pace { paused: false, speed: Some(1.0) },
        }
    }
}

/// Everything that the view draws.
#[derive(Debug)]
pub struct State {
    mode: Mode,
    tab: Tab,
    lists: [List; Tab::ALL.len()],
    /// Scroll of the open detail.
    detail: Option<u16>,
    /// Scroll of the open help.
    help: Option<u16>,
    /// The filter as it was before it was opened for typing.
    typing: Option<String>,
    latest: Arc<Snapshot>,
    frozen: Option<Arc<Snapshot>>,
    history: History,
    /// What the person asked for last, or the pipeline told since.
    pace: Pace,
    area: Rect,
}

impl State {
    #[must_use]
    pub fn new(mode: Mode, first: Arc<Snapshot>) -> State {
        let mut state = State {
            mode,
            tab: Tab::Overview,
            lists: Default::default(),
            detail: None,
            help: None,
            typing: None,
            latest: first.clone(),
            frozen: None,
            history: History::default(),
            pace: Pace::of(&first),
            area: Rect::default(),
        };
        state.show(first);
        state
    }

    /// Takes a new snapshot. The header follows it always, the rows unless they are frozen.
    pub fn show(&mut self, snapshot: Arc<Snapshot>) {
        self.history.push(snapshot.now_ns, snapshot.events.iter().map(|(_, total)| *total).collect());
        // Until the pipeline has answered a key press, its former pace is old news.
        let told = Pace::of(&snapshot);
        if told != Pace::of(&self.latest) {
            self.pace = told;
        }
        self.latest = snapshot;
        if self.frozen.is_none() {
            self.list_anew();
        }
    }

    /// Takes the size of the screen.
    pub fn fit(&mut self, area: Rect) {
        self.area = area;
        self.scroll_to_selected();
    }

    #[must_use]
    pub fn key(&mut self, key: KeyEvent) -> Effect {
        if self.typing.is_some() && self.type_filter(key) {
            return Effect::Nothing;
        }
        match keys::action(key, self.mode == Mode::Replay) {
            Some(action) => self.act(action),
            None => Effect::Nothing,
        }
    }

    fn act(&mut self, action: Action) -> Effect {
        let page = isize::from(i16::try_from(self.page()).unwrap_or(i16::MAX)).max(1);
        match action {
            Action::Quit => return Effect::Send(Command::Quit),
            Action::Redraw => return Effect::Redraw,
            Action::Help => self.help = if self.help.is_some() { None } else { Some(0) },
            Action::Back => self.back(),
            Action::Open if self.help.is_none() => self.open(),
            Action::Open => {}
            Action::Up => self.move_by(-1),
            Action::Down => self.move_by(1),
            Action::PageUp => self.page_by(-page),
            Action::PageDown => self.page_by(page),
            Action::First => self.first(),
            Action::Last => self.page_by(isize::MAX / 2),
            Action::NextTab => self.go(self.tab_after(1)),
            Action::PreviousTab => self.go(self.tab_after(Tab::ALL.len() - 1)),
            Action::Show(tab) => self.go(tab),
            Action::Freeze => self.freeze(),
            Action::Filter => {
                self.help = None;
                self.typing = Some(self.list().filter.clone());
            }
            Action::Pause => {
                self.pace.paused = !self.pace.paused;
                return Effect::Send(Command::Pause(self.pace.paused));
            }
            Action::Step => {
                self.pace.paused = true;
                return Effect::Send(Command::Step);
            }
            Action::Faster => return self.set_speed(faster(self.pace.speed)),
            Action::Slower => return self.set_speed(slower(self.pace.speed)),
        }
        Effect::Nothing
    }

    fn set_speed(&mut self, speed: Option<f32>) -> Effect {
        self.pace.speed = speed;
        Effect::Send(Command::Speed(speed))
    }

    fn tab_after(&self, n: usize) -> Tab {
        Tab::ALL[(self.tab as usize + n) % Tab::ALL.len()]
    }

    fn go(&mut self, tab: Tab) {
        self.help = None;
        if tab != self.tab {
            self.tab = tab;
            self.detail = None;
        }
        self.scroll_to_selected();
    }

    fn back(&mut self) {
        if self.help.take().is_none() && self.detail.take().is_none() {
            self.list_mut().filter.clear();
            self.list_anew();
        }
        self.scroll_to_selected();
    }

    fn open(&mut self) {
        if self.detail.is_none() && self.selected_row().is_some() {
            self.detail = Some(0);
            self.pin();
            self.scroll_to_selected();
        }
    }

    fn freeze(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(self.latest.clone()),
        };
        self.list_anew();
    }

    /// A key while the filter is open for typing; `false`: not a key of the filter.
    fn type_filter(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return false;
        }
        match key.code {
            KeyCode::Enter => self.typing = None,
            KeyCode::Esc => {
                if let Some(former) = self.typing.take() {
                    self.list_mut().filter = former;
                }
            }
            KeyCode::Backspace => drop(self.list_mut().filter.pop()),
            KeyCode::Char(c) => self.list_mut().filter.push(c),
            _ => return false,
        }
        self.list_anew();
        true
    }

    fn move_by(&mut self, rows: isize) {
        if let Some(scroll) = &mut self.help {
            *scroll = scroll.saturating_add_signed(rows.clamp(-9999, 9999) as i16);
            return;
        }
        let list = self.list_mut();
        let last = list.visible.len().saturating_sub(1);
        list.selected = list.selected.saturating_add_signed(rows).min(last);
        if self.detail.is_some() {
            self.detail = Some(0);
        }
        self.pin();
        self.scroll_to_selected();
    }

    /// Pages scroll the open text, else they move the selection.
    fn page_by(&mut self, rows: isize) {
        let step = rows.clamp(-9999, 9999) as i16;
        match (&mut self.help, &mut self.detail) {
            (Some(scroll), _) | (None, Some(scroll)) => *scroll = scroll.saturating_add_signed(step),
            (None, None) => self.move_by(rows),
        }
        self.scroll_to_selected();
    }

    fn first(&mut self) {
        match (&mut self.help, &mut self.detail) {
            (Some(scroll), _) | (None, Some(scroll)) => *scroll = 0,
            (None, None) => {
                let list = self.list_mut();
                (list.selected, list.pinned) = (0, None);
                self.scroll_to_selected();
            }
        }
    }

    /// Lets the selection follow its row from here on.
    fn pin(&mut self) {
        let key = self.selected_row().and_then(|i| rows::key(self.snapshot(), self.tab, i));
        self.list_mut().pinned = key;
    }

    /// Finds out anew which rows pass the filters and where the selected ones are.
    fn list_anew(&mut self) {
        let snapshot = self.snapshot_arc();
        for tab in Tab::ALL {
            let list = &mut self.lists[tab as usize];
            let needle = list.filter.to_lowercase();
            list.visible = (0..rows::count(&snapshot, tab))
                .filter(|&i| {
                    needle.is_empty() || rows::text(&snapshot, tab, i).to_lowercase().contains(&needle)
                })
                .collect();
            if let Some(pinned) = &list.pinned {
                let at =
                    list.visible.iter().position(|&i| rows::key(&snapshot, tab, i).as_ref() == Some(pinned));
                // A row that is gone leaves the selection where it was.
                list.selected = at.unwrap_or(list.selected);
            }
            list.selected = list.selected.min(list.visible.len().saturating_sub(1));
        }
        if self.selected_row().is_none() {
            self.detail = None;
        }
        self.scroll_to_selected();
    }

    fn scroll_to_selected(&mut self) {
        let layout = self.layout();
        let page = usize::from(layout.list.height).max(1);
        let list = self.list_mut();
        let lowest = (list.selected + 1).saturating_sub(page);
        list.offset = list.offset.clamp(lowest, list.selected).min(list.visible.len().saturating_sub(page));
        let lines = |n: usize, shown: u16| u16::try_from(n).unwrap_or(u16::MAX).saturating_sub(shown);
        if let (Some(scroll), Some(i)) = (self.detail, self.selected_row()) {
            let n = rows::detail(self.snapshot(), self.tab, i, self.area.width).len();
            self.detail = Some(scroll.min(lines(n, layout.detail_rows())));
        }
        if let Some(scroll) = self.help {
            let body = super::view::help::rows(self.area.height);
            let n = super::view::help::lines(self.mode, self.area.width).len();
            self.help = Some(scroll.min(lines(n, body)));
        }
    }

    fn page(&self) -> u16 {
        let layout = self.layout();
        let shown = match (self.help, self.detail) {
            (Some(_), _) => super::view::help::rows(self.area.height),
            (None, Some(_)) => layout.detail_rows(),
            (None, None) => layout.list.height,
        };
        shown.saturating_sub(1)
    }

    fn list(&self) -> &List {
        &self.lists[self.tab as usize]
    }

    fn list_mut(&mut self) -> &mut List {
        &mut self.lists[self.tab as usize]
    }

    fn snapshot_arc(&self) -> Arc<Snapshot> {
        self.frozen.as_ref().unwrap_or(&self.latest).clone()
    }
}

/// What the view reads.
impl State {
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    #[must_use]
    pub fn tab(&self) -> Tab {
        self.tab
    }

    /// The snapshot that the header tells of.
    #[must_use]
    pub fn latest(&self) -> &Snapshot {
        &self.latest
    }

    /// The snapshot that the rows are from.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        self.frozen.as_ref().unwrap_or(&self.latest)
    }

    #[must_use]
    pub fn frozen(&self) -> bool {
        self.frozen.is_some()
    }

    #[must_use]
    pub fn pace(&self) -> Pace {
        self.pace
    }

    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    #[must_use]
    pub fn layout(&self) -> Layout {
        let panel = super::view::panel_rows(self.tab, self.snapshot());
        Layout::new(self.area, !self.latest.notices.is_empty(), panel, self.detail.is_some())
    }

    /// Rows on the screen: place in the list, and index in the snapshot.
    pub fn rows_on_screen(&self) -> impl Iterator<Item = (usize, usize)> {
        let list = self.list();
        let page = usize::from(self.layout().list.height);
        list.visible.iter().copied().enumerate().skip(list.offset).take(page)
    }

    /// How many rows pass the filter.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.list().visible.len()
    }

    /// Place of the selected row in the list.
    #[must_use]
    pub fn selected(&self) -> usize {
        self.list().selected
    }

    /// Index of the selected row in the snapshot.
    #[must_use]
    pub fn selected_row(&self) -> Option<usize> {
        let list = self.list();
        list.visible.get(list.selected).copied()
    }

    /// Scroll of the open detail.
    #[must_use]
    pub fn detail(&self) -> Option<u16> {
        self.detail
    }

    /// Scroll of the open help.
    #[must_use]
    pub fn help(&self) -> Option<u16> {
        self.help
    }

    /// The view's filter, and whether it is open for typing.
    #[must_use]
    pub fn filter(&self) -> (&str, bool) {
        (&self.list().filter, self.typing.is_some())
    }
}
