//! The next step at the end of an error message.
//!
//! Decides how a hint travels with an error: next to the chain, not as a link of it. The code that knows what failed writes
//! the hint.

use std::fmt::Write;

/// An error with a hint. It displays as the error itself.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct Hinted {
    error: anyhow::Error,
    hint: String,
}

/// Adds a hint to a failing result.
pub trait Hint<T> {
    /// `hint` is on a line of its own after the chain: `try: …`.
    ///
    /// # Errors
    /// The error of `self`, unchanged.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Hint<T> for Result<T, E> {
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|e| Hinted { error: e.into(), hint: hint.into() }.into())
    }
}

/// The chain on one line, then the first hint in it on a second one.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = String::from("observer");
    let mut hint = None;
    write_chain(error, &mut text, &mut hint);
    text.push('\n');
    if let Some(hint) = hint {
        let _ = writeln!(text, "try: {hint}");
    }
    text
}

/// The chain and the hint on one line, where there is room for only one.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let (mut text, mut hint) = (String::new(), None);
    write_chain(error, &mut text, &mut hint);
    let hint = hint.map(|hint| format!("; try: {hint}")).unwrap_or_default();
    text.trim_start_matches(": ").to_owned() + &hint
}

fn write_chain<'a>(error: &'a anyhow::Error, text: &mut String, hint: &mut Option<&'a str>) {
    for link in error.chain() {
        if let Some(hinted) = link.downcast_ref::<Hinted>() {
            hint.get_or_insert(&hinted.hint);
            return write_chain(&hinted.error, text, hint);
        }
        let _ = write!(text, ": {link}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_error_chain_is_printed_once_and_then_the_hint() {
        let low = std::io::Error::other("operation not permitted");
        let err =
            Err::<(), _>(low).context("load program").hint("run it as root").context("attach").unwrap_err();
        assert_eq!(
            explain(&err),
            "observer: attach: load program: operation not permitted\ntry: run it as root\n"
        );
        assert_eq!(explain(&anyhow::anyhow!("plain")), "observer: plain\n");
    }
}
