//! Takes memory and keeps it, in a process of its own: when the kernel takes that process away, the agent is left to
//! put back what it changed.
//!
//! What shall kill a victim is taken as a file in memory that nobody maps: the cgroup is charged for it, and no process'
//! score for the OOM killer grows with it. Taken as a process' own memory, what fills the cgroup dies first.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::process::{self, Process};
use crate::say::Evidence;
use crate::work::Work;

const STEP_MIB: u64 = 16;
/// Less than what any victim gives free: what is left of a step when it is gone must not cost a second one.
const STEP_FILE_MIB: u64 = 1;
const MOST_MIB: u64 = 8 * 1024;
/// Between two steps: what watches memory sees it grow.
const STEP_EVERY_MS: u16 = 10;
const WATCHED_MAX: usize = 200;
/// The kernel takes the highest first; 1000 is the highest.
const RAISED: &str = "1000";

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Memory to take, MiB
    #[arg(long, required_unless_present = "fill_cgroup", conflicts_with = "fill_cgroup")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=MOST_MIB))]
    pub mib: Option<u64>,
    /// Go on until a victim is gone, at most to 8 GiB
    #[arg(long)]
    pub fill_cgroup: bool,
    /// Command name of the processes that the kernel shall take first when memory runs out
    #[arg(long)]
    pub victim: Option<String>,
}

struct Victim {
    process: Process,
    /// What its `oom_score_adj` was.
    before: String,
}

pub struct Memory {
    options: Options,
    victims: Vec<Victim>,
    hog: Option<Child>,
    /// The hog was told to take no more.
    full: bool,
    hog_lost: bool,
}

impl Memory {
    pub fn new(options: Options) -> Self {
        Self { options, victims: Vec::new(), hog: None, full: false, hog_lost: false }
    }

    /// Those that appear later, too: a server's children.
    fn raise(&mut self) -> Result<bool, String> {
        let Some(name) = &self.options.victim else { return Ok(false) };
        let mut any = false;
        for process in process::named(name) {
            if process.is_dead() || self.victims.iter().any(|known| known.process.is(&process)) {
                continue;
            }
            let before = match read_adjustment(process.pid) {
                // A child has its parent's value, which is ours by now: what the parent's was is what it gets back.
                Ok(value) if value == RAISED => {
                    self.victims.first().map_or_else(|| RAISED.to_owned(), |first| first.before.clone())
                }
                Ok(value) => value,
                Err(_) if process.gone() => continue,
                Err(error) => return Err(error),
            };
            let pid = process.pid;
            // Before it is written: what was written half is undone too.
            self.victims.push(Victim { process, before });
            write_adjustment(pid, RAISED)?;
            any = true;
        }
        Ok(any)
    }

    fn victims_gone(&self) -> impl Iterator<Item = &Process> {
        self.victims.iter().map(|victim| &victim.process).filter(|process| process.gone())
    }

    fn taken_mib(&self) -> u64 {
        if self.options.fill_cgroup {
            return self.hog.as_ref().map_or(0, |hog| file_bytes(hog.id()) >> 20);
        }
        let resident = self.hog.as_ref().and_then(|hog| process::status_field(hog.id(), "VmRSS"));
        let kib = resident.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    }

    /// The process that takes memory looks at the victims before each step: we would be too late, and the kernel take
    /// it next.
    fn watched(&self) -> Vec<String> {
        let one = |victim: &Victim| format!("--watch={}:{}", victim.process.pid, victim.process.started);
        self.victims.iter().take(WATCHED_MAX).map(one).collect()
    }

    fn say_to_hog(&mut self, word: &[u8]) {
        if let Some(pipe) = self.hog.as_mut().and_then(|hog| hog.stdin.as_mut()) {
            let _ = pipe.write_all(word);
        }
    }
}

impl Work for Memory {
    fn start(&mut self) -> Result<(), String> {
        self.raise()?;
        if let Some(name) = &self.options.victim
            && self.victims.is_empty()
        {
            return Err(format!("no process is named {name}"));
        }
        let mib = self.options.mib.unwrap_or(MOST_MIB);
        let own =
            std::env::current_exe().map_err(|error| format!("failed to find our own program: {error}"))?;
        let hog = Command::new(own)
            .args(["hog", "--mib", &mib.to_string()])
            .args(self.options.fill_cgroup.then_some("--file"))
            .args(if self.options.fill_cgroup { self.watched() } else { Vec::new() })
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        self.hog =
            Some(hog.map_err(|error| format!("failed to start the process that takes memory: {error}"))?);
        Ok(())
    }

    fn tick(&mut self) -> Result<bool, String> {
        if let Some(hog) = &mut self.hog
            && !self.hog_lost
            && !matches!(hog.try_wait(), Ok(None))
        {
            self.hog_lost = true;
        }
        if self.options.fill_cgroup && !self.full && self.victims_gone().next().is_some() {
            self.full = true;
            self.say_to_hog(b"s");
            return Ok(true);
        }
        if self.full { Ok(false) } else { self.raise() }
    }

    fn report(&mut self) -> Evidence {
        let taken = self.taken_mib();
        let mut text = format!("{taken} MiB {}", if self.options.fill_cgroup { "taken" } else { "resident" });
        if let Some(mib) = self.options.mib {
            let _ = write!(text, " of {mib}");
        }
        for gone in self.victims_gone().take(10) {
            let _ = write!(text, "; victim {} is gone", gone.pid);
        }
        if !self.victims.is_empty() {
            let living = self.victims.iter().filter(|victim| {
                !victim.process.gone() && read_adjustment(victim.process.pid).is_ok_and(|now| now == RAISED)
            });
            let _ = write!(text, "; {} victims live with oom_score_adj {RAISED}", living.count());
        }
        let touched = taken >= STEP_MIB.min(self.options.mib.unwrap_or(STEP_MIB));
        if touched || self.victims_gone().next().is_some() {
            Evidence::effect(text)
        } else if self.hog_lost {
            Evidence::failed(text)
        } else {
            Evidence::waiting(text)
        }
    }

    fn finished(&mut self) -> Option<Result<String, String>> {
        if !self.hog_lost {
            return None;
        }
        Some(match self.victims_gone().next() {
            Some(gone) => Ok(format!("victim {} is gone, and then what took memory was killed", gone.pid)),
            None => Err("the process that took memory was killed before it was told to end".to_owned()),
        })
    }

    fn undo(&mut self) -> Result<String, String> {
        let taken = self.taken_mib();
        if let Some(mut hog) = self.hog.take() {
            let _ = hog.kill();
            hog.wait().map_err(|error| format!("failed to end the process that took memory: {error}"))?;
        }
        // One that was forked after we looked last.
        if !self.victims.is_empty() {
            let _ = self.raise();
        }
        let mut back = 0;
        let mut errors = Vec::new();
        for victim in self.victims.iter().filter(|victim| !victim.process.gone()) {
            match write_adjustment(victim.process.pid, &victim.before) {
                Ok(()) => back += 1,
                Err(_) if victim.process.gone() => {}
                Err(error) => errors.push(error),
            }
        }
        if !errors.is_empty() {
            return Err(errors.join(", "));
        }
        let put_back = if self.victims.is_empty() {
            String::new()
        } else {
            format!(", oom_score_adj of {back} of {} victims put back", self.victims.len())
        };
        Ok(format!("{taken} MiB given back{put_back}"))
    }
}

/// Of the file in memory that a process holds.
fn file_bytes(pid: u32) -> u64 {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let ours = entries.flatten().map(|entry| entry.path()).find(|path| {
        fs::read_link(path).is_ok_and(|link| link.to_string_lossy().starts_with(&format!("/memfd:{FILE}")))
    });
    // In units of 512 bytes, as everywhere.
    ours.and_then(|path| fs::metadata(path).ok()).map_or(0, |file| file.blocks() * 512)
}

fn read_adjustment(pid: i32) -> Result<String, String> {
    let read = fs::read_to_string(format!("/proc/{pid}/oom_score_adj"));
    read.map(|value| value.trim().to_owned())
        .map_err(|error| format!("failed to read oom_score_adj of {pid}: {error}"))
}

fn write_adjustment(pid: i32, value: &str) -> Result<(), String> {
    fs::write(format!("/proc/{pid}/oom_score_adj"), value)
        .map_err(|error| format!("failed to set oom_score_adj of {pid} to {value}: {error}"))
}

#[derive(Debug, clap::Args)]
pub struct Take {
    #[arg(long)]
    mib: u64,
    /// In a file that nobody maps: charged to the cgroup, and in no process' score
    #[arg(long)]
    file: bool,
    /// PID:STARTED; when one of them is gone it is enough
    #[arg(long, value_parser = pinned)]
    watch: Vec<Process>,
}

fn pinned(text: &str) -> Result<Process, String> {
    let (pid, started) = text.split_once(':').ok_or("wanted PID:STARTED")?;
    let pid = pid.parse().map_err(|error| format!("{pid}: {error}"))?;
    Ok(Process { pid, started: started.parse().map_err(|error| format!("{started}: {error}"))?, state: 'S' })
}

const FILE: &str = "mettle";

/// What was taken, as long as it lives.
enum Held {
    Pages(Vec<Vec<u8>>),
    File(File),
}

impl Held {
    fn new(file: bool) -> nix::Result<Self> {
        if !file {
            return Ok(Self::Pages(Vec::new()));
        }
        Ok(Self::File(memfd_create(FILE, MFdFlags::MFD_CLOEXEC)?.into()))
    }

    fn step_mib(&self) -> u64 {
        if matches!(self, Self::File(_)) { STEP_FILE_MIB } else { STEP_MIB }
    }

    /// Whether there was as much.
    fn take(&mut self, mib: u64) -> bool {
        let bytes = usize::try_from(mib << 20).unwrap_or(0);
        let mut block = Vec::new();
        if block.try_reserve_exact(bytes).is_err() {
            return false;
        }
        // Written, not only asked for: a page is there when it was touched, and zeros may be one shared page.
        block.resize(bytes, 0x6d);
        match self {
            Self::Pages(held) => {
                held.push(std::hint::black_box(block));
                true
            }
            Self::File(file) => file.write_all(&block).is_ok(),
        }
    }
}

/// The process that takes: until it has `mib`, and keeps it until its standard input ends (with its parent).
pub fn hog(take: &Take) -> ExitCode {
    let mib = take.mib;
    let Ok(mut held) = Held::new(take.file) else { return ExitCode::FAILURE };
    let mut taken = 0;
    let mut taking = true;
    let born = Instant::now();
    // Nobody needs it longer than this, whatever became of the pipe.
    while born.elapsed() < Duration::from_hours(24) {
        taking &= !take.watch.iter().any(Process::gone);
        if taking && taken < mib {
            let step = held.step_mib().min(mib - taken);
            taking = held.take(step);
            taken += step;
        }
        match input(if taking && taken < mib { STEP_EVERY_MS } else { 1000 }) {
            Input::None => {}
            Input::Enough => taking = false,
            Input::Ended => break,
        }
    }
    drop(held);
    ExitCode::SUCCESS
}

enum Input {
    None,
    Enough,
    Ended,
}

fn input(wait_ms: u16) -> Input {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(wait_ms)) {
        Ok(0) | Err(_) => Input::None,
        Ok(_) => match stdin.lock().read(&mut [0u8; 1]) {
            Ok(0) | Err(_) => Input::Ended,
            Ok(_) => Input::Enough,
        },
    }
}
