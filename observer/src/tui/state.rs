//! State of the dashboard: view, page, selection, scroll, prompt, freeze, and the history that rates are computed from.
//!
//! Decides what a key press changes here and what it asks of others ([`Effect`]). Draws nothing, waits for nothing, and knows
//! the terminal only as a size.

mod find;
mod mouse;
mod open;
mod prompts;
mod replay;
mod shown;

use std::path::PathBuf;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent};

use self::open::Open;
use super::Mode;
use super::answers::{Answer, Answers, Look};
use super::groups;
use super::history::History;
use super::kept::Kept;
use super::keys::{self, Action};
use super::layout::{Area, Targets};
use super::list::List;
use super::page::{Context, Line, Shortcut};
use super::prompt::{Prompt, Purpose};
use super::tab::Tab;
use super::target::{Go, Page};
use super::views::VIEWS;
use super::widget::Glyphs;
use crate::events::Filter;
use crate::library::{self, Export, Query};
use crate::snapshot::{Command, Position, Snapshot};

/// Effect of a key press outside the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Quit,
    Redraw,
    Send(Command),
    /// A lookup in the recording; the answer goes to [`State::found`].
    Look(Look, Query),
    /// An export to be written; the answer goes to [`State::written`].
    Export {
        export: Export,
        to: PathBuf,
        force: bool,
    },
    Write {
        text: String,
        to: PathBuf,
        force: bool,
    },
    /// Text for the terminal's clipboard.
    Copy(String),
    Mouse(bool),
}

/// Pace of a replay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    pub paused: bool,
    /// Multiple of real time; `None`: as fast as possible.
    pub speed: Option<f32>,
}

impl Pace {
    fn of(snapshot: &Snapshot) -> Pace {
        match &snapshot.position {
            Position::Replay(r) => Pace { paused: r.paused, speed: r.speed },
            Position::Live | Position::Ended => Pace { paused: false, speed: Some(1.0) },
        }
    }
}

/// Content of the screen's middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Help,
    Page,
    Matrix,
    List,
}

/// A message in the last line, until the next key.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub text: String,
    pub bad: bool,
}

/// Everything that the view draws.
#[derive(Debug)]
pub struct State {
    mode: Mode,
    /// Characters that pictures are made of.
    glyphs: &'static Glyphs,
    tab: Tab,
    lists: [List; Tab::ALL.len()],
    /// Pages open over each list, the shown one last.
    pages: [Vec<Open>; Tab::ALL.len()],
    /// Lines of the page that is shown.
    lines: Vec<Line>,
    /// Scroll of the open help.
    help: Option<usize>,
    /// Selected cell of the matrix, while lock order is shown as a matrix.
    matrix: Option<(usize, usize)>,
    prompt: Option<Prompt>,
    message: Option<Message>,
    /// Text searched for last, in lower case.
    search: String,
    answers: Answers,
    kept: Kept,
    latest: Arc<Snapshot>,
    frozen: Option<Arc<Snapshot>>,
    history: History,
    /// Pace that the person asked for last, or that the run reported since.
    pace: Pace,
    /// Index of the mark that was sought last, and id of the finding to select as soon as it is listed.
    mark: Option<usize>,
    wanted: Option<String>,
    mouse: bool,
    area: Area,
    targets: Targets,
    effects: Vec<Effect>,
}

impl State {
    #[must_use]
    pub fn new(mode: Mode, glyphs: &'static Glyphs, first: Arc<Snapshot>) -> State {
        let mut state = State {
            mode,
            glyphs,
            tab: Tab::Overview,
            lists: VIEWS.each_ref().map(List::of),
            pages: Default::default(),
            lines: Vec::new(),
            help: None,
            matrix: None,
            prompt: None,
            message: None,
            search: String::new(),
            answers: Answers::default(),
            kept: Kept::default(),
            latest: first.clone(),
            frozen: None,
            history: History::default(),
            pace: Pace::of(&first),
            mark: None,
            wanted: None,
            mouse: false,
            area: Area::default(),
            targets: Targets::default(),
            effects: vec![Effect::Send(Command::Tail(Filter::default()))],
        };
        state.show(first);
        state
    }

    /// Takes the effects since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes a new snapshot. The header always follows it, the rest unless the view is frozen.
    pub fn show(&mut self, snapshot: Arc<Snapshot>) {
        self.history.push(snapshot.now_ns, groups::totals(&snapshot));
        // The run's pace replaces the asked one only when it changes: until then the run has not answered the key press.
        let reported = Pace::of(&snapshot);
        if reported != Pace::of(&self.latest) {
            self.pace = reported;
        }
        self.latest = snapshot;
        if self.frozen.is_none() {
            self.refresh_rows();
            self.select_wanted();
        }
    }

    /// Takes the size of the screen.
    pub fn fit(&mut self, width: u16, height: u16) {
        let area = Area::new(width, height);
        if area != self.area {
            self.area = area;
            self.refresh_lines();
        }
        self.scroll();
    }

    /// Takes the places of what was drawn, for the mouse.
    pub fn drawn(&mut self, targets: Targets) {
        self.targets = targets;
    }

    /// Takes the answer of a lookup.
    pub fn found(&mut self, look: &Look, answer: Result<library::Page, String>) {
        let answer = match answer {
            Ok(page) => Answer::Found(Arc::new(page)),
            Err(why) => Answer::Failed(why),
        };
        self.answers.put(look, answer);
        self.refresh_lines();
    }

    /// Handles a key press.
    pub fn key(&mut self, key: KeyEvent) {
        self.message = None;
        if self.prompt.is_some() && self.typed(key) {
            return;
        }
        if self.body() == Body::Matrix && self.move_cell(key.code) {
            return;
        }
        if let Some(action) = keys::action(key, self.mode) {
            self.act(action);
        }
    }

    /// Moves left or right in the matrix; returns `false` for other keys.
    fn move_cell(&mut self, code: KeyCode) -> bool {
        let right = match code {
            KeyCode::Left | KeyCode::Char('h') => -1,
            KeyCode::Right | KeyCode::Char('l') => 1,
            _ => return false,
        };
        self.move_in_matrix((0, right));
        true
    }

    fn act(&mut self, action: Action) {
        let page = isize::try_from(self.page_rows()).unwrap_or(isize::MAX).max(2) - 1;
        match action {
            Action::Quit => self.effects.push(Effect::Quit),
            Action::Redraw => self.effects.push(Effect::Redraw),
            Action::Mouse => self.toggle_mouse(),
            Action::Help => self.help = if self.help.is_some() { None } else { Some(0) },
            Action::Back => self.back(),
            Action::Open => self.open(),
            Action::Up => self.move_by(-1),
            Action::Down => self.move_by(1),
            Action::PageUp => self.page_by(-page),
            Action::PageDown => self.page_by(page),
            Action::First => self.go_first(),
            Action::Last => self.go_last(),
            Action::NextTab => self.go(self.tab_after(1)),
            Action::FormerTab => self.go(self.tab_after(Tab::ALL.len() - 1)),
            Action::Show(tab) => self.go(tab),
            Action::Freeze => self.freeze(),
            Action::Search => self.ask(Purpose::Search, String::new()),
            Action::NextMatch => self.find(true, false),
            Action::FormerMatch => self.find(false, false),
            Action::Filter => self.ask_filter(),
            Action::SortNext => self.sort(|list| list.sort_by_next(true)),
            Action::SortFormer => self.sort(|list| list.sort_by_next(false)),
            Action::Reverse => self.sort(|list| list.sort.reversed = !list.sort.reversed),
            Action::Matrix => self.toggle_matrix(),
            Action::Table => self.shortcut(Shortcut::Table),
            Action::Events => self.shortcut(Shortcut::Events),
            Action::Stacks => self.shortcut(Shortcut::Stacks),
            Action::Copy => self.copy(),
            Action::Save => self.ask_file(super::prompt::Take::Of(Export::Recording)),
            Action::Export => self.ask(Purpose::Export, String::new()),
            Action::Pause
            | Action::StepOn
            | Action::StepBack
            | Action::NextFinding
            | Action::FormerFinding
            | Action::SeekOn
            | Action::SeekBack
            | Action::GoTo
            | Action::Faster
            | Action::Slower
            | Action::FlatOut => self.replay(action),
        }
        self.scroll();
    }

    fn tab_after(&self, n: usize) -> Tab {
        Tab::ALL[(self.tab as usize + n) % Tab::ALL.len()]
    }

    fn go(&mut self, tab: Tab) {
        // The number of the view again leads back to the list.
        if tab == self.tab && self.help.is_none() {
            self.pages[tab as usize].clear();
        }
        self.help = None;
        self.tab = tab;
        let snapshot = self.snapshot_arc();
        self.list_mut().renew(&snapshot);
        self.refresh_lines();
    }

    fn freeze(&mut self) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some(self.latest.clone()),
        };
        self.refresh_rows();
    }

    fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), bad: false });
    }

    fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), bad: true });
    }

    fn toggle_matrix(&mut self) {
        if self.tab != Tab::Locks {
            self.go(Tab::Locks);
            self.matrix = None;
        }
        self.pages[Tab::Locks as usize].clear();
        self.matrix = if self.matrix.is_some() { None } else { Some((0, 0)) };
    }

    fn sort(&mut self, change: impl FnOnce(&mut List)) {
        if self.body() != Body::List {
            self.complain("only lists are sorted");
            return;
        }
        change(self.list_mut());
        self.refresh_rows();
    }

    /// Recomputes which rows pass, and the content of the open page.
    fn refresh_rows(&mut self) {
        let snapshot = self.snapshot_arc();
        self.list_mut().renew(&snapshot);
        // Events that were looked up do not change with the run, and may be thousands of lines.
        if self.top().is_some_and(|open| matches!(open.page, Page::Events(_))) {
            self.look_up_needed();
            self.scroll();
        } else {
            self.refresh_lines();
        }
    }

    /// Recomputes the lines of the open page.
    fn refresh_lines(&mut self) {
        self.keep_findings();
        self.look_up_needed();
        let Some(open) = self.top() else {
            self.lines.clear();
            self.scroll();
            return;
        };
        self.lines = open.page.lines(&self.context(self.area.width));
        // The lookup may have brought the page's first lines with links.
        let chosen = self.chosen().is_some_and(|at| self.lines.get(at).is_some_and(|l| l.link.is_some()));
        if !chosen {
            self.begin_page();
        }
        self.scroll();
    }

    /// Scrolls to where the open page begins.
    fn begin_page(&mut self) {
        let context = self.context(self.area.width);
        let first = self.top().and_then(|open| open.page.first_line(&context)).unwrap_or(0);
        let (rows, last) = (self.page_rows(), self.lines.len().saturating_sub(1));
        if let Some(open) = self.top_mut() {
            open.link = None;
            if first > 0 {
                // Some of the earlier lines stay visible.
                (open.link, open.scroll) = (Some(first.min(last)), first.saturating_sub(rows / 3));
            }
        }
        self.scroll();
        self.settle_link();
    }

    /// Context for the pages shown now.
    fn context(&self, width: u16) -> Context<'_> {
        let context = Context {
            snapshot: self.snapshot(),
            kept: &self.kept,
            stacks: &self.snapshot().stacks,
            came_for_ns: None,
            answers: &self.answers,
            glyphs: self.glyphs,
            replay: self.mode == Mode::Replay,
            width,
        };
        let below = self.pages[self.tab as usize].iter().rev().skip(1);
        Context { came_for_ns: below.filter_map(|open| open.page.moment(&context)).next(), ..context }
    }

    /// Keeps the state of the findings whose pages are open.
    fn keep_findings(&mut self) {
        let snapshot = self.snapshot_arc();
        let ids: Vec<&str> = self.pages.iter().flatten().filter_map(|open| open.page.finding()).collect();
        self.kept.renew(&snapshot, &ids);
    }

    /// Asks for what the open page needs, if it was not asked for.
    fn look_up_needed(&mut self) {
        let snapshot = self.snapshot_arc();
        let needs = self.top().and_then(|open| open.page.needs(&self.context(self.area.width)));
        if let Some(look) = needs {
            self.look_up(look, &snapshot);
        }
    }

    fn look_up(&mut self, look: Look, snapshot: &Snapshot) {
        match Filter::parse(&look.filter, &snapshot.setup) {
            Ok(filter) => {
                if let Some(query) = self.answers.ask(&look, filter, self.latest.now_ns) {
                    self.effects.push(Effect::Look(look, query));
                }
            }
            Err(why) => self.answers.put(&look, Answer::Failed(why)),
        }
    }

    /// Opens a page over what is shown. A page of events is about the moment of the page that led there.
    fn show_page(&mut self, mut page: Page) {
        if let Page::Events(look) = &mut page
            && look.around_ns.is_none()
        {
            let (below, context) =
                (self.pages[self.tab as usize].iter().rev(), self.context(self.area.width));
            look.around_ns = below.filter_map(|open| open.page.moment(&context)).next();
        }
        self.pages[self.tab as usize].push(Open::new(page));
        self.help = None;
        self.refresh_lines();
        self.settle_link();
    }

    fn follow(&mut self, go: Go) {
        match go {
            Go::Page(page) => self.show_page(page),
            Go::Seek(_) if self.mode == Mode::Live => {
                self.complain("a running kernel cannot be gone back in")
            }
            Go::Seek(time_ns) => self.seek(crate::snapshot::To::Time(time_ns)),
        }
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
