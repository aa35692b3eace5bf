//! Judges the kernel's log of a run. A complaint fails the run; effects of emulation on a busy host are notices.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Failure,
    /// Stalls and lockups: a virtual CPU that is not scheduled for a while looks the same from inside.
    Notice,
}

/// Judges one line; `None` if it is ordinary.
pub fn judge(line: &str) -> Option<Severity> {
    let text = message(line);
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| text.starts_with(beginning));
    if begins(&["watchdog: BUG: soft lockup", "BUG: workqueue lockup", "Out of memory: "])
        || (begins(&["rcu: INFO: "]) && text.contains("stall"))
    {
        return Some(Severity::Notice);
    }
    let failed = begins(&[
        "WARNING: ",
        "BUG: ",
        "BUG at ",
        "kernel BUG at ",
        "Oops",
        "general protection fault",
        "divide error",
        "Kernel panic",
        "KASAN: ",
        "UBSAN: ",
        "unregister_netdevice: waiting",
    ]);
    (is_hung_task(line) || failed).then_some(Severity::Failure)
}

/// Returns true if the kernel complains of a task that sleeps too long.
pub fn is_hung_task(line: &str) -> bool {
    let text = message(line);
    text.starts_with("INFO: task ") && text.contains("blocked for more than")
}

/// Returns the line without "[   12.345678] " and, if the kernel prints it, "[    T1] ".
fn message(line: &str) -> &str {
    let mut text = line.trim();
    for _ in 0..2 {
        let rest = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        if let Some((inside, rest)) = rest
            && inside.trim().chars().all(|sign| sign.is_ascii_digit() || ".TC".contains(sign))
        {
            text = rest.trim_start();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_fail_a_run() {
        for line in [
            "[   12.345678] WARNING: CPU: 0 PID: 71 at mm/hugetlb.c:5432 __unmap_hugepage_range+0x1/0x2",
            "[   12.345678][   T71] WARNING: mm/hugetlb.c:123 at unmap+0x3/0x5, CPU#1: x/71",
            "[    3.000000] BUG: kernel NULL pointer dereference, address: 0000000000000010",
            "[    3.000000] kernel BUG at mm/rmap.c:1234!",
            "[    3.000000] Oops: Oops: 0002 [#1] PREEMPT SMP NOPTI",
            "[    3.000000] Oops: general protection fault, probably for non-canonical address",
            "[    3.000000] Kernel panic - not syncing: sysrq triggered crash\r",
            "[  130.000000] INFO: task observer:71 blocked for more than 60 seconds.",
            "[    3.000000] BUG: Bad page state in process x  pfn:1",
        ] {
            assert_eq!(judge(line), Some(Severity::Failure), "{line}");
        }
    }

    #[test]
    fn an_effect_of_a_busy_host_is_a_notice() {
        for line in [
            "[   30.000000] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
            "[   30.000000] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [x:71]",
        ] {
            assert_eq!(judge(line), Some(Severity::Notice), "{line}");
        }
    }

    #[test]
    fn ordinary_lines_are_not_judged() {
        for line in [
            "[    0.000000] Linux version 6.12.95+deb12-cloud-amd64",
            "[    0.500000] Spectre V2 : WARNING: Unprivileged eBPF is enabled",
            "[    1.000000] Warning: unable to open an initial console.",
            "[    1.000000] BUGs are not mentioned: here",
            "[    1.000000] INFO: task accounting enabled",
            "[    1.000000] printk: console [ttyS2] enabled",
            "",
        ] {
            assert_eq!(judge(line), None, "{line}");
        }
    }
}
