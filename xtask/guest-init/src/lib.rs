//! What guest and host say to each other: the job handed in with the initramfs, and the frames that come back over the
//! second serial port while the guest runs. Pure bytes; who carries them is not decided here.
//!
//! A crate of its own, so that the static build for the guest needs nothing but `libc`.

pub mod frame;
pub mod job;
