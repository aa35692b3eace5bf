//! Prompts and their effects: search, filter, files.

use std::path::{Path, PathBuf};

use crossterm::event::{KeyCode, KeyEvent};

use super::{Body, Effect, State};
use crate::events::Filter;
use crate::snapshot::Command;
use crate::tui::answers::Look;
use crate::tui::help;
use crate::tui::page::Context;
use crate::tui::prompt::{EXPORTS, Prompt, Purpose, Take, Typed};
use crate::tui::target::Page;
use crate::tui::views::FilteredBy;
use crate::tui::{Mode, Written};

/// Width that copied and exported text is wrapped to.
const TEXT_WIDTH: u16 = 110;

impl State {
    pub(super) fn ask(&mut self, purpose: Purpose, text: impl Into<String>) {
        self.prompt = Some(Prompt::new(purpose, text));
    }

    pub(super) fn ask_filter(&mut self) {
        self.help = None;
        match (self.body(), self.top().map(|open| open.page.clone())) {
            (Body::Page, Some(Page::Events(look))) => self.ask(Purpose::Filter, look.filter),
            (Body::List, _) => self.ask(Purpose::Filter, self.list().filter.clone()),
            _ => self.complain("there are no rows to choose from here"),
        }
    }

    pub(super) fn ask_file(&mut self, take: Take) {
        self.ask(Purpose::File(take), "");
    }

    /// Handles a key while a prompt is open; returns `false` if it is not a key of prompts.
    pub(super) fn typed(&mut self, key: KeyEvent) -> bool {
        let Some(mut prompt) = self.prompt.take() else { return false };
        match &prompt.purpose {
            Purpose::Export => {
                self.chosen_export(key);
                return true;
            }
            Purpose::Overwrite(take, path) => {
                if matches!(key.code, KeyCode::Char('y' | 'Y')) {
                    let (take, path) = (*take, PathBuf::from(path));
                    self.write(take, path, true);
                } else {
                    self.say("not written");
                }
                return true;
            }
            _ => {}
        }
        match prompt.key(key) {
            Typed::On => {
                self.tried(&prompt);
                self.prompt = Some(prompt);
            }
            Typed::Done => self.done(prompt),
            Typed::Given => {
                // A list is filtered while the person types; leaving the prompt restores the former filter.
                if prompt.purpose == Purpose::Filter && self.is_filtered_here() {
                    self.list_mut().filter = prompt.former;
                    self.refresh_rows();
                }
            }
            Typed::Other => {
                self.prompt = Some(prompt);
                return false;
            }
        }
        true
    }

    /// Returns true if a list is shown that applies its filter itself.
    fn is_filtered_here(&self) -> bool {
        self.body() == Body::List && self.tab.view().filter == FilteredBy::List
    }

    /// Shows the effect of the text while it is typed.
    fn tried(&mut self, prompt: &Prompt) {
        match prompt.purpose {
            Purpose::Search => {
                self.search = prompt.text.to_lowercase();
                if !self.search.is_empty() {
                    self.find(true, true);
                }
            }
            Purpose::Filter if self.is_filtered_here() => {
                self.list_mut().filter.clone_from(&prompt.text);
                self.refresh_rows();
            }
            _ => {}
        }
    }

    fn done(&mut self, mut prompt: Prompt) {
        let text = prompt.text.trim().to_owned();
        let taken = match prompt.purpose.clone() {
            Purpose::Search if text.is_empty() => {
                self.find(true, false);
                Ok(())
            }
            Purpose::Search => {
                self.search = text.to_lowercase();
                self.find(true, true);
                Ok(())
            }
            Purpose::Filter => self.filter_with(text),
            Purpose::GoTo => self.go_to(&text),
            Purpose::File(take) => {
                let name = if text.is_empty() { take.file() } else { text };
                self.write(take, PathBuf::from(name), false);
                Ok(())
            }
            Purpose::Overwrite(..) | Purpose::Export => Ok(()),
        };
        if let Err(why) = taken {
            prompt.error = Some(why);
            self.prompt = Some(prompt);
        }
    }

    fn filter_with(&mut self, text: String) -> Result<(), String> {
        let filter = Filter::parse(&text, &self.snapshot().setup);
        match (self.body(), self.top().map(|open| open.page.clone())) {
            (Body::Page, Some(Page::Events(look))) => {
                filter?;
                let look = Look { filter: text, ..look };
                if let Some(open) = self.top_mut() {
                    *open = super::Open::new(Page::Events(look));
                }
                self.refresh_lines();
                self.settle_link();
            }
            _ => {
                if self.tab.view().filter == FilteredBy::Run {
                    filter?;
                }
                self.give_filter(text);
            }
        }
        Ok(())
    }

    /// Sets the filter of the list.
    pub(super) fn give_filter(&mut self, text: String) {
        if self.tab.view().filter == FilteredBy::Run
            && let Ok(filter) = Filter::parse(&text, &self.snapshot().setup)
        {
            self.effects.push(Effect::Send(Command::Tail(filter)));
        }
        self.list_mut().filter = text;
        self.refresh_rows();
    }

    fn chosen_export(&mut self, key: KeyEvent) {
        let chosen = EXPORTS.iter().find(|(k, _, _, _)| key.code == KeyCode::Char(*k));
        match (chosen, key.code) {
            (Some((_, take, _, _)), _) => self.ask_file(*take),
            (None, KeyCode::Esc) => {}
            (None, _) => self.complain("not one of these"),
        }
    }

    fn write(&mut self, take: Take, path: PathBuf, force: bool) {
        self.say(format!("writing {} to {} ...", take.name(), path.display()));
        self.effects.push(match take {
            Take::Of(export) => Effect::Export { export, to: path, force },
            Take::Shown => Effect::Write { text: self.shown_text(), to: path, force },
        });
    }

    /// Takes the result of writing a file.
    pub fn written(&mut self, take: Take, path: &Path, how: Written) {
        let name = path.display().to_string();
        match how {
            Written::Done { bytes } => {
                let of = if take == Take::Of(crate::library::Export::Recording) && self.mode == Mode::Live {
                    " up to now"
                } else {
                    ""
                };
                let bytes = crate::text::number(bytes);
                self.say(format!("wrote {}{of} to {name}, {bytes} bytes", take.name()));
            }
            Written::Exists => self.prompt = Some(Prompt::new(Purpose::Overwrite(take, name), "")),
            Written::Failed(why) => self.complain(why),
        }
    }

    pub(super) fn copy(&mut self) {
        let text = self.shown_text();
        let lines = text.lines().count() as u64;
        self.effects.push(Effect::Copy(text));
        let copied = crate::text::plural(lines, "line");
        self.say(format!(
            "copied {copied} by OSC 52; where the terminal has no such thing: x p writes a file"
        ));
    }

    /// Text of the page, of the page that the selected row opens, or of the whole help.
    fn shown_text(&self) -> String {
        let page = match self.body() {
            Body::Page => self.top().map(|open| open.page.clone()),
            Body::List => self.selected_page(),
            Body::Help | Body::Matrix => None,
        };
        let lines: Vec<String> = match page {
            Some(page) => {
                let context = Context { replay: false, ..self.context(TEXT_WIDTH) };
                page.lines(&context).iter().map(|l| l.text.plain().trim_end().to_owned()).collect()
            }
            None => {
                let lines = match self.body() {
                    Body::Help => help::lines(self.mode, TEXT_WIDTH, self.glyphs),
                    _ => self.matrix_lines(TEXT_WIDTH),
                };
                lines.iter().map(|l| l.plain().trim_end().to_owned()).collect()
            }
        };
        let s = self.snapshot();
        let head =
            format!("observer: {} ({}), {}", s.meta.kernel.release, s.meta.level.name(), self.where_it_is());
        let all = std::iter::once(head).chain(std::iter::once(String::new())).chain(lines);
        all.map(|line| line + "\n").collect()
    }
}
