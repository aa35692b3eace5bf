//! The protocol between guest and host: the job, passed in with the initramfs, and the frames that return over the second
//! serial port while the guest runs. It handles only bytes; other code transports them.
//!
//! It is a separate crate, so that the static build for the guest needs only `libc`.

pub mod frame;
pub mod job;
