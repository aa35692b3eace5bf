//! Exports a recording to a file: the recording itself, or the pipeline's report.
//!
//! Decides how a recording that is still growing becomes a complete one. The output is the same as that of the commands
//! `export` and `report`, byte for byte.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, anyhow};

use super::{Export, Library, Parts, stream::Stream};
use crate::{
    hint::Hint,
    output::Output,
    recording::{Input, Reader, Writer, in_memory::Look},
    report::Report,
    run::{Options, run},
    sink::{dot, json, text},
    source::Source,
};

impl Library {
    /// Writes everything recorded up to now; returns the file's length in bytes.
    ///
    /// # Errors
    /// The file exists and `force` is not set, or something cannot be read or written.
    pub fn export(&self, export: Export, to: &Path, force: bool) -> anyhow::Result<u64> {
        // Read errors must occur before the file is created, so that they leave no file behind.
        let look = self.look();
        let stream = Stream::begin(&look.segments).with_context(|| format!("read {}", self.name))?;
        let name = to.display();
        if self.is(to) {
            return Err(anyhow!("{name} is the recording itself")).hint("another name");
        }
        let made = if export == Export::Recording { None } else { Some(report(stream)?) };
        let mut output = Output::create(to, force).with_context(|| format!("create {name}"))?;
        let written = match made {
            Some(report) => write(export, &report, output.file()?),
            None => self.record(&look, output.file()?),
        };
        written.with_context(|| format!("write {name}"))?;
        output.commit().with_context(|| format!("create {name}"))?;
        Ok(output.file()?.metadata()?.len())
    }

    fn record(&self, look: &Look, to: File) -> anyhow::Result<()> {
        match &self.parts {
            Parts::One { input, .. } => copy(input, to),
            Parts::Segments(_) => join(Stream::begin(&look.segments)?, to),
        }
    }

    /// Returns true if the path is that of the recording itself: it would be destroyed before it is read.
    fn is(&self, path: &Path) -> bool {
        let Parts::One { input: Input::File(own), .. } = &self.parts else { return false };
        matches!((own.canonicalize(), path.canonicalize()), (Ok(own), Ok(path)) if own == path)
    }
}

fn write(export: Export, report: &Report, to: File) -> anyhow::Result<()> {
    let mut out = BufWriter::new(to);
    match export {
        Export::Recording => {}
        Export::Text => text::write(&mut out, report)?,
        Export::Json => json::write(&mut out, report)?,
        Export::Jsonl => json::lines::write(&mut out, report)?,
        Export::Dot => dot::write(&mut out, report)?,
    }
    Ok(out.flush()?)
}

/// Runs a stream to its end. Must not be called inside a runtime.
fn report(mut stream: Stream) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(run(&mut stream, Options::default()))?.report)
}

/// Copies a recording; of one that breaks off, the passes that can be read, so that the copy breaks off there too.
fn copy(input: &Input, mut to: File) -> anyhow::Result<()> {
    let mut reader = Reader::new(input.open()?)?;
    while reader.next_pass()?.is_some() {}
    if reader.closing().is_some() {
        io::copy(&mut input.open()?, &mut to)?;
        return Ok(());
    }
    let mut reader = Reader::new(input.open()?)?;
    let mut writer = Writer::new(Box::new(to), reader.meta())?;
    while let Some(pass) = reader.next_pass()? {
        writer.pass(&pass)?;
    }
    writer.break_off()
}

/// Writes parts as one. Each part numbers its channels differently, so chunks cannot be copied.
fn join(mut stream: Stream, to: File) -> anyhow::Result<()> {
    let mut writer = Writer::new(Box::new(to), stream.meta())?;
    while let Some(pass) = stream.next_pass()? {
        writer.pass(&pass)?;
    }
    writer.finish(stream.closing())
}
