//! The kernel's count of runs of each loaded BPF program, which it keeps while its statistics are switched on.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Commands of bpf(2) (include/uapi/linux/bpf.h).
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

/// Size of `struct bpf_prog_info` up to `run_cnt`, its last field that is read here, in words of 8 bytes.
const INFO_WORDS: usize = 26;
const RUN_COUNT: usize = 25;

/// The statistics, switched off on drop.
pub struct Statistics;

impl Statistics {
    pub fn switch_on() -> io::Result<Statistics> {
        fs::write(SWITCH, "1")?;
        Ok(Statistics)
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        fs::write(SWITCH, "0").ok();
    }
}

/// The programs that were loaded when they were listed.
pub struct Counters(Vec<OwnedFd>);

impl Counters {
    /// Opens every loaded program; `None` if there is none.
    pub fn open() -> io::Result<Option<Counters>> {
        let (mut programs, mut id) = (Vec::new(), 0);
        loop {
            let mut next = [id, 0, 0];
            match bpf(PROG_GET_NEXT_ID, &mut next) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                result => result.map(drop)?,
            }
            id = next[1];
            let fd = bpf(PROG_GET_FD_BY_ID, &mut [id, 0, 0])?;
            // SAFETY: a new descriptor that has no other owner.
            programs.push(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        Ok((!programs.is_empty()).then_some(Counters(programs)))
    }

    /// Returns the sum of all programs; a program that cannot be read counts as 0.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|program| runs(program).unwrap_or(0)).sum()
    }
}

fn runs(program: &OwnedFd) -> io::Result<u64> {
    let mut info = [0_u64; INFO_WORDS];
    let address = info.as_mut_ptr() as u64;
    let mut attribute =
        [program.as_raw_fd() as u32, size_of_val(&info) as u32, address as u32, (address >> 32) as u32];
    bpf(OBJ_GET_INFO_BY_FD, &mut attribute)?;
    Ok(std::hint::black_box(info)[RUN_COUNT])
}

fn bpf<const WORDS: usize>(command: libc::c_int, attribute: &mut [u32; WORDS]) -> io::Result<libc::c_int> {
    // SAFETY: the attribute has the size that is passed. Its one pointer, in `runs`, is to an array of the size beside it.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size_of::<u32>() * WORDS) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
