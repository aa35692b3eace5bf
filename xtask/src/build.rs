//! Builds everything for the guest: the BPF object, `observer` with the object inside, its guest tests, and the guest's init.
//! All but the object are static, so that they run in an initramfs that contains nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{host, setup};

/// Path of the object, relative to the target directory.
pub const BPF_OBJECT: &str = "bpf/observer.bpf.o";
const BPF_TARGET: &str = "bpfel-unknown-none";
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// The loader needs BTF, which bpf-linker makes from the debug information. The crate's macros need the architecture of the
/// kernels that the programs run on.
const BPF_FLAGS: [&str; 3] = ["--cfg=bpf_target_arch=\"x86_64\"", "-Clink-arg=--btf", "-Cdebuginfo=2"];
/// Profile that suits the verifier: one unit, everything possible inlined, no unwinding, no branch to a panic.
const BPF_PROFILE: [(&str, &str); 5] = [
    ("OPT_LEVEL", "3"),
    ("LTO", "true"),
    ("CODEGEN_UNITS", "1"),
    ("PANIC", "abort"),
    ("OVERFLOW_CHECKS", "false"),
];

/// Runs `cargo xtask build`.
pub fn all() -> Result<()> {
    let object = bpf_object()?;
    let observer = observer_with(&object)?;
    eprintln!("{}", object.display());
    println!("{}", observer.display());
    Ok(())
}

/// Builds the static `observer` with the BPF programs inside.
pub fn observer() -> Result<PathBuf> {
    observer_with(&bpf_object()?)
}

pub fn observer_with(object: &Path) -> Result<PathBuf> {
    static_binary("observer", &[("OBSERVER_BPF_OBJECT", object)])
}

/// Builds the BPF programs and returns the path of the object.
pub fn bpf_object() -> Result<PathBuf> {
    let tools = setup::bpf_tools()?;
    let target_dir = host::target_dir()?;
    // A separate directory: with another rustc and other flags, cargo would rebuild everything each time.
    let build_dir = target_dir.join("bpf-build");
    let mut command = host::cargo();
    command.args(["build", "--release", "--package", "observer-ebpf", "--bin", "observer-ebpf"]);
    command.args(["--features", "programs", "--target", BPF_TARGET, "-Z", "build-std=core", "--target-dir"]);
    command.arg(&build_dir);
    // Stable rustc builds `core` only with this variable.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", &tools.rustc);
    command.env("LD_LIBRARY_PATH", &tools.llvm);
    command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &tools.linker);
    command.env("CARGO_ENCODED_RUSTFLAGS", BPF_FLAGS.join("\x1f"));
    for (key, value) in BPF_PROFILE {
        command.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
    }
    host::run(&mut command).context("cannot build the eBPF programs")?;
    let built = build_dir.join(BPF_TARGET).join("release/observer-ebpf");
    let object = target_dir.join(BPF_OBJECT);
    copy_if_changed(&built, &object)?;
    Ok(object)
}

/// Builds a static release binary of a package of the workspace.
pub fn static_binary(package: &str, env: &[(&str, &Path)]) -> Result<PathBuf> {
    let mut command = static_cargo("build");
    command.args(["--package", package, "--bin", package]).envs(env.iter().copied());
    if package != "observer" {
        // These take a second; their lines would precede every guest's output.
        command.arg("--quiet");
    }
    host::run(&mut command).with_context(|| format!("cannot build {package} for the guest"))?;
    Ok(host::target_dir()?.join(GUEST_TARGET).join("release").join(package))
}

/// Builds the static test binary of `observer/tests/guest.rs`.
pub fn guest_tests(object: &Path) -> Result<PathBuf> {
    let mut command = static_cargo("test");
    command.args(["--package", "observer", "--test", "guest", "--no-run", "--message-format=json"]);
    command.env("OBSERVER_BPF_OBJECT", object).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo test")?;
    if !output.status.success() {
        bail!("cannot build the guest tests: {}", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    test_executable(&messages).context("cargo names no executable for the guest tests")
}

fn test_executable(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).find_map(
        |message| {
            let is_test = message["target"]["name"] == "guest" && message["profile"]["test"] == true;
            Some(message["executable"].as_str().filter(|_| is_test)?.into())
        },
    )
}

/// Returns a cargo command that builds static release binaries.
pub fn static_cargo(subcommand: &str) -> Command {
    let mut command = host::cargo();
    command.args([subcommand, "--profile", "release", "--target", GUEST_TARGET]);
    command.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    command
}

/// Copies a file. An equal target is left alone, so that its dependents stay fresh; a partial file never appears.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let write = || {
        let temporary = to.with_extension("new");
        fs::create_dir_all(to.parent().unwrap_or(Path::new(".")))?;
        fs::write(&temporary, &content)?;
        fs::rename(&temporary, to)
    };
    write().with_context(|| format!("cannot write {}", to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_binary_is_found_among_the_artifacts() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"observer"},"profile":{"test":false},"executable":"/t/observer"}
{"reason":"compiler-artifact","target":{"name":"guest"},"profile":{"test":true},"executable":"/t/guest-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(test_executable(messages), Some("/t/guest-1".into()));
        assert_eq!(test_executable(""), None);
    }
}
