//! Processes of this PID namespace, from /proc.

use std::fs;

/// A process, pinned by its start time: a number that is used again is another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Clock ticks after boot.
    pub started: u64,
    /// One letter, as in /proc/PID/stat; `T` is stopped.
    pub state: char,
}

/// Every process named `comm`, except ourselves.
pub fn named(comm: &str) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name.trim_end() == comm).then(|| read(pid)).flatten()
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The process as it is now; absent when it is gone.
pub fn read(pid: i32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(pid: i32, stat: &str) -> Option<Process> {
    // The name may hold blanks and parentheses: the fields begin after the last one.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_whitespace().collect();
    Some(Process { pid, state: fields.first()?.chars().next()?, started: fields.get(19)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Process, parse};

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "42 (a) T b) T 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 1";
        assert_eq!(parse(42, stat), Some(Process { pid: 42, started: 98765, state: 'T' }));
        assert_eq!(parse(42, "nonsense"), None);
    }
}
