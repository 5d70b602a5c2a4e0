//! How much memory this machine has left.

use std::fs;

/// What is assumed when the system does not say.
const UNKNOWN_BYTES: u64 = 2 << 30;

/// Bytes that can be taken without swapping: what the kernel calls available, or what the control group leaves.
pub fn available_memory_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| available(&text)).unwrap_or(UNKNOWN_BYTES);
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let group = match (number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory.current")) {
        (Some(most), Some(used)) => most.saturating_sub(used),
        _ => u64::MAX,
    };
    machine.min(group)
}

/// The line `MemAvailable: N kB`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_available_memory_is_read() {
        assert_eq!(available("MemTotal:  10 kB\nMemAvailable:    3 kB\n"), Some(3072));
        assert_eq!(available("MemTotal:  10 kB\n"), None);
        assert!(available_memory_bytes() > 0);
    }
}
