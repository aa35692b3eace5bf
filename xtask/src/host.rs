//! The host machine: paths of the workspace, its target directory and the cache, and how to run a program. Other modules
//! decide which program.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use anyhow::{Context as _, Result, bail};

pub fn workspace() -> &'static Path {
    static WORKSPACE: LazyLock<PathBuf> = LazyLock::new(|| {
        // Read at run time, not at build time: checkouts that share a target directory share this binary.
        let package = env::var_os("CARGO_MANIFEST_DIR");
        let package = package.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        package.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
    });
    &WORKSPACE
}

/// Returns cargo's target directory of this workspace, as set by environment or configuration.
pub fn target_dir() -> Result<PathBuf> {
    let metadata = capture(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--offline"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).context("cannot read cargo metadata")?;
    let directory =
        metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
    Ok(directory.into())
}

/// Returns the directory for downloads and builds that outlive a checkout: `$OBSERVER_CACHE`, or below the user's cache
/// directory.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = set("OBSERVER_CACHE") {
        return std::path::absolute(&directory)
            .with_context(|| format!("cannot use the cache directory {}", directory.display()));
    }
    if let Some(directory) = set("XDG_CACHE_HOME") {
        return Ok(directory.join("observer"));
    }
    match set("HOME") {
        Some(home) => Ok(home.join(".cache/observer")),
        None => bail!("no cache directory: HOME is not set\ntry: set OBSERVER_CACHE to a directory"),
    }
}

/// Returns a cargo command that the cargo that started this program does not influence.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    for name in ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_BUILD_TARGET", "LD_LIBRARY_PATH"] {
        command.env_remove(name);
    }
    command
}

/// Runs a program whose output the user should see.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        bail!("{}: {status}", words(command));
    }
    Ok(())
}

/// Runs a program and returns its standard output; an error contains its standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", words(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        bail!("{}: {}: {}", words(command), output.status, last.join(" · "));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{}: its output is not text", words(command)))
}

pub fn in_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// Returns the command as typed in a shell, shortened for an error message.
fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let mut words: Vec<String> = std::iter::once(program).chain(command.get_args()).map(short).collect();
    if words.len() > 8 {
        words.truncate(8);
        words.push("…".into());
    }
    words.join(" ")
}

fn short(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    match word.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.into_owned(),
    }
}
