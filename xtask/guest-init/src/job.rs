//! The job: the command that the guest's init runs, with its environment and terminal. It is one file of the initramfs with
//! NUL-separated `key=value` items, because arguments may contain any other byte.

/// Path of the job file in the guest.
pub const PATH: &str = "/job";
/// Directory in the guest whose files are sent to the host.
pub const OUT: &str = "/out";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Job {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// Environment variables in addition to those that init sets.
    pub env: Vec<(String, String)>,
    /// Rows and columns of the user's terminal. If set, the command gets a controlling terminal in cooked mode.
    pub terminal: Option<(u16, u16)>,
}

impl Job {
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut item = |key: &str, value: &str| {
            out.extend_from_slice(format!("{key}={value}").as_bytes());
            out.push(0);
        };
        for arg in &self.argv {
            item("arg", arg);
        }
        for (name, value) in &self.env {
            item("env", &format!("{name}={value}"));
        }
        if let Some((rows, columns)) = self.terminal {
            item("terminal", &format!("{rows}x{columns}"));
        }
        out
    }

    /// Returns `None` if the bytes are not a valid job.
    pub fn from_bytes(bytes: &[u8]) -> Option<Job> {
        let mut job = Job::default();
        for item in std::str::from_utf8(bytes).ok()?.split_terminator('\0') {
            match item.split_once('=')? {
                ("arg", value) => job.argv.push(value.to_owned()),
                ("env", value) => {
                    let (name, value) = value.split_once('=')?;
                    job.env.push((name.to_owned(), value.to_owned()));
                }
                ("terminal", value) => {
                    let (rows, columns) = value.split_once('x')?;
                    job.terminal = Some((rows.parse().ok()?, columns.parse().ok()?));
                }
                _ => return None,
            }
        }
        (!job.argv.is_empty()).then_some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_survives_a_round_trip() {
        let job = Job {
            argv: vec!["sh".into(), "-c".into(), "echo a=b\nx".into(), String::new()],
            env: vec![("TERM".into(), "xterm=256".into())],
            terminal: Some((40, 132)),
        };
        assert_eq!(Job::from_bytes(&job.to_bytes()), Some(job));
    }

    #[test]
    fn bytes_that_are_not_a_job_are_refused() {
        for bytes in [&b""[..], b"arg", b"what=1\0", b"arg=x\0terminal=9\0", b"env=A=1\0", b"\xff=\0"] {
            assert_eq!(Job::from_bytes(bytes), None, "{bytes:?}");
        }
    }
}
