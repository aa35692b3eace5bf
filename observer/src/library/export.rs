//! What was recorded, written to a file: the recording itself, or what the pipeline makes of it.
//!
//! Decides how a recording that is still growing becomes a whole one. It says what the commands `export` and `report` say,
//! byte for byte.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use anyhow::{Context, anyhow};

use super::{Export, Library, Parts, stream::Stream};
use crate::{
    hint::Hint,
    recording::{Input, Reader, Writer, keep::Look, writer},
    report::Report,
    run::{Options, run},
    sink::{dot, json, text},
    source::Source,
};

impl Library {
    /// Writes what was recorded so far; the file's length in bytes.
    ///
    /// # Errors
    /// It exists and `force` is not set, or it cannot be read or written.
    pub fn export(&self, what: Export, to: &Path, force: bool) -> anyhow::Result<u64> {
        // Before the file is made: what cannot be read leaves none behind.
        let look = self.look();
        let stream = Stream::begin(&look.segments).with_context(|| format!("read {}", self.name))?;
        let name = to.display();
        if self.is(to) {
            return Err(anyhow!("{name} is the recording itself")).hint("another name");
        }
        let made = if what == Export::Recording { None } else { Some(report(stream)?) };
        let file = writer::open(to, force).with_context(|| format!("create {name}"))?;
        let written = match made {
            Some(report) => write(what, &report, file.try_clone()?),
            None => self.record(&look, file.try_clone()?),
        };
        written.with_context(|| format!("write {name}"))?;
        Ok(file.metadata()?.len())
    }

    fn record(&self, look: &Look, to: File) -> anyhow::Result<()> {
        match &self.parts {
            Parts::One { input, .. } => copy(input, to),
            Parts::Kept(_) => join(Stream::begin(&look.segments)?, to),
        }
    }

    /// Whether a name is that of what is read: it would be gone before it is read.
    fn is(&self, path: &Path) -> bool {
        let Parts::One { input: Input::File(own), .. } = &self.parts else { return false };
        matches!((own.canonicalize(), path.canonicalize()), (Ok(own), Ok(path)) if own == path)
    }
}

fn write(what: Export, report: &Report, to: File) -> anyhow::Result<()> {
    let mut out = BufWriter::new(to);
    match what {
        Export::Recording => {}
        Export::Text => text::write(&mut out, report)?,
        Export::Json => json::write(&mut out, report)?,
        Export::Jsonl => json::lines::write(&mut out, report)?,
        Export::Dot => dot::write(&mut out, report)?,
    }
    Ok(out.flush()?)
}

/// Runs it to its end. Called where no runtime is.
fn report(mut stream: Stream) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run(&mut stream, Options::default()))?.report)
}

/// Copies what is whole, and ends it: the bytes of the chunks are those that are there.
fn copy(input: &Input, mut to: File) -> anyhow::Result<()> {
    let mut reader = Reader::new(input.open()?)?;
    while reader.next_pass()?.is_some() {}
    let mut from = input.open()?;
    if reader.closing().is_some() {
        io::copy(&mut from, &mut to)?;
        return Ok(());
    }
    // Where it stopped believing.
    io::copy(&mut from.take(reader.place().offset), &mut to)?;
    writer::end(&mut to)?;
    Ok(())
}

/// Writes parts as one. Channels have other numbers in each, so that chunks cannot be copied.
fn join(mut stream: Stream, to: File) -> anyhow::Result<()> {
    let mut writer = Writer::new(Box::new(to), stream.meta())?;
    while let Some(pass) = stream.next_pass()? {
        writer.pass(&pass)?;
    }
    writer.finish(stream.closing())
}
