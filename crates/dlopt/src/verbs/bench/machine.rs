//! What this machine is.

use dlopt_bench::Machine;

/// What this machine is, as far as the system says.
pub(super) fn this() -> Machine {
    let read = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let kibibytes = read("/proc/meminfo", "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let uname = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Machine {
        processor: read("/proc/cpuinfo", "model name").unwrap_or_else(|| part(uname.machine())),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: kibibytes.unwrap_or(0) * 1024,
        system: format!("{} {} {}", part(uname.sysname()), part(uname.release()), part(uname.machine())),
        level: dlopt_kernels::level().name().to_owned(),
        pinned: Vec::new(),
    }
}
