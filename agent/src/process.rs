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

impl Process {
    /// As it is now; absent when it is gone, or its number is another process' now.
    pub fn now(&self) -> Option<Self> {
        read(self.pid).filter(|now| now.started == self.started)
    }

    /// Dead and not yet buried by its parent counts as gone: it does nothing any more.
    pub fn gone(&self) -> bool {
        self.now().is_none_or(|now| now.is_dead())
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    pub fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.started == other.started
    }
}

/// Every process named `comm`, except ourselves.
pub fn named(comm: &str) -> Vec<Process> {
    // The kernel keeps 15 bytes of a name: a longer one would never be found.
    let comm = comm.as_bytes().get(..15).unwrap_or(comm.as_bytes());
    matching(|name| name.as_bytes() == comm)
}

/// Every process whose name `wanted` takes, except ourselves; by number.
pub fn matching(wanted: impl Fn(&str) -> bool) -> Vec<Process> {
    let own = i32::try_from(std::process::id()).unwrap_or(-1);
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found: Vec<Process> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            wanted(name.trim_end()).then(|| read(pid)).flatten()
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The process as it is now; absent when it is gone.
pub fn read(pid: i32) -> Option<Process> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// At most fifty, so that a line stays a line.
pub fn numbers<'a>(processes: impl Iterator<Item = &'a Process>) -> String {
    processes.take(50).map(|process| process.pid.to_string()).collect::<Vec<_>>().join(" ")
}

/// A field of /proc/PID/status, such as `VmRSS`.
pub fn status_field(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
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
