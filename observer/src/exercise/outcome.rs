//! The end of a scenario, and its transfer from the process that ran it to the one that reports it. Code at the place of a
//! refusal decides with [`OrSkip`] whether to skip.

use std::fmt;

use super::sys;

/// Result of a scenario or one of its tasks: a short account of what it did, or why it stopped.
pub type Result<T> = std::result::Result<T, Stop>;

/// Reason why a scenario did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// It cannot run here, through no fault of the kernel or the exerciser.
    Skip(String),
    /// It should have run, but something was refused.
    Fail(String),
}

impl Stop {
    /// Prefixes the message with the name of the task.
    pub fn of(self, task: &str) -> Stop {
        match self {
            Stop::Skip(text) => Stop::Skip(format!("{task}: {text}")),
            Stop::Fail(text) => Stop::Fail(format!("{task}: {text}")),
        }
    }
}

impl From<sys::Error> for Stop {
    fn from(error: sys::Error) -> Stop {
        Stop::Fail(error.to_string())
    }
}

/// Turns an errno that means "this kernel lacks the feature" into a skip.
pub trait OrSkip<T> {
    fn or_skip(self, errno: &[i32], reason: &str) -> Result<T>;
}

impl<T> OrSkip<T> for std::result::Result<T, sys::Error> {
    fn or_skip(self, errno: &[i32], reason: &str) -> Result<T> {
        self.map_err(|error| match error.errno() {
            Some(number) if errno.contains(&number) => Stop::Skip(format!("{reason} ({error})")),
            _ => error.into(),
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran; a short account of what it did.
    Done(String),
    Skipped(String),
    Failed(String),
}

impl Outcome {
    /// Encodes the outcome as one message for a pipe. A message cut short by the sender's death does not decode.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (tag, text) = match self {
            Outcome::Done(text) => ('D', text),
            Outcome::Skipped(text) => ('S', text),
            Outcome::Failed(text) => ('F', text),
        };
        format!("{tag}{text}\0").into_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Outcome> {
        let text = String::from_utf8_lossy(bytes.strip_suffix(b"\0")?.get(1..)?).into_owned();
        match bytes[0] {
            b'D' => Some(Outcome::Done(text)),
            b'S' => Some(Outcome::Skipped(text)),
            b'F' => Some(Outcome::Failed(text)),
            _ => None,
        }
    }

    /// Converts back, for a caller that waits for its own task.
    pub fn into_result(self) -> Result<String> {
        match self {
            Outcome::Done(text) => Ok(text),
            Outcome::Skipped(text) => Err(Stop::Skip(text)),
            Outcome::Failed(text) => Err(Stop::Fail(text)),
        }
    }
}

impl From<Result<String>> for Outcome {
    fn from(result: Result<String>) -> Outcome {
        match result {
            Ok(text) => Outcome::Done(text),
            Err(Stop::Skip(text)) => Outcome::Skipped(text),
            Err(Stop::Fail(text)) => Outcome::Failed(text),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Done(text) => write!(f, "done     {text}"),
            Outcome::Skipped(text) => write!(f, "skipped  {text}"),
            Outcome::Failed(text) => write!(f, "failed   {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_the_pipe() {
        for outcome in [
            Outcome::Done(String::new()),
            Outcome::Skipped("one node".into()),
            Outcome::Failed("mmap of 1 GiB: Cannot allocate memory".into()),
        ] {
            assert_eq!(Outcome::from_bytes(&outcome.to_bytes()), Some(outcome));
        }
    }

    #[test]
    fn a_cut_message_is_refused() {
        let whole = Outcome::Done("8 pages".into()).to_bytes();
        for length in 0..whole.len() {
            assert_eq!(Outcome::from_bytes(&whole[..length]), None, "{length} of {} bytes", whole.len());
        }
        assert_eq!(Outcome::from_bytes(b"Xforeign\0"), None);
    }

    #[test]
    fn only_the_named_errno_is_a_skip() {
        let refuse = |errno| {
            Err::<(), _>(sys::Error::new("madvise", std::io::Error::from_raw_os_error(errno)))
                .or_skip(&[libc::EINVAL], "this kernel has none")
        };
        assert!(
            matches!(refuse(libc::EINVAL), Err(Stop::Skip(text)) if text.starts_with("this kernel has none"))
        );
        assert!(matches!(refuse(libc::ENOMEM), Err(Stop::Fail(text)) if text.starts_with("madvise")));
    }
}
