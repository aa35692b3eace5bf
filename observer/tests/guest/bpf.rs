//! Loaded BPF objects, from the kernel's own lists of programs, maps and links.

use std::io;

/// Number of objects of each type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub programs: usize,
    pub maps: usize,
    pub links: usize,
}

/// Commands of bpf(2) (include/uapi/linux/bpf.h).
const PROG_GET_NEXT_ID: libc::c_long = 11;
const MAP_GET_NEXT_ID: libc::c_long = 12;
const LINK_GET_NEXT_ID: libc::c_long = 31;

fn count(command: libc::c_long) -> io::Result<usize> {
    let (mut n, mut from) = (0, 0u32);
    loop {
        // start_id, next_id, open_flags
        let mut attr = [from, 0, 0, 0];
        // SAFETY: a buffer of the size passed, alive across the call.
        let ret = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), size_of_val(&attr)) };
        if ret < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ENOENT) { Ok(n) } else { Err(error) };
        }
        n += 1;
        from = attr[1];
    }
}

impl Loaded {
    /// Reads the counts from the kernel.
    pub fn count() -> io::Result<Loaded> {
        Ok(Loaded {
            programs: count(PROG_GET_NEXT_ID)?,
            maps: count(MAP_GET_NEXT_ID)?,
            links: count(LINK_GET_NEXT_ID)?,
        })
    }
}
