//! Embeds the eBPF object if there is one: `OBSERVER_BPF_OBJECT`, set by `cargo xtask build`.
//!
//! Without it, everything but attaching works, so that `cargo test` and replay need no BPF toolchain.

use std::{env, fs, path::PathBuf};

/// The recording that `observer replay` shows if it is given no file.
const SAMPLE: &str = "../fixtures/sample.obs";

fn main() {
    println!("cargo::rustc-check-cfg=cfg(sample)");
    println!("cargo::rerun-if-changed=../fixtures");
    if let Ok(sample) = fs::canonicalize(SAMPLE) {
        println!("cargo::rustc-env=OBSERVER_SAMPLE={}", sample.display());
        println!("cargo::rustc-cfg=sample");
    }
    println!("cargo::rustc-check-cfg=cfg(bpf_object)");
    println!("cargo::rerun-if-env-changed=OBSERVER_BPF_OBJECT");
    let Some(object) = env::var_os("OBSERVER_BPF_OBJECT").map(PathBuf::from) else { return };
    println!("cargo::rerun-if-changed={}", object.display());
    let Some(out) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    if let Err(e) = fs::copy(&object, out.join("observer.bpf.o")) {
        println!("cargo::error=cannot embed {}: {e}", object.display());
        return;
    }
    println!("cargo::rustc-cfg=bpf_object");
}
