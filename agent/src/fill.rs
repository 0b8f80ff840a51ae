//! Fills a volume of the target with a file.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::process;
use crate::say::{Evidence, say};
use crate::volume::{Directory, size};
use crate::work::Work;

const MIB: u64 = 1 << 20;
const STEP: u64 = 8 * MIB;
/// One tick's writing: the switch is looked at in between.
const BURST: Duration = Duration::from_millis(150);

#[derive(Debug, clap::Args)]
pub struct Options {
    /// Command name of a process that sees the volume
    #[arg(long)]
    pub process: String,
    /// Directory, as that process sees it
    #[arg(long)]
    pub path: PathBuf,
    /// Fill until only so much is free, MiB; 0 when neither is given
    #[arg(long, conflicts_with = "mib")]
    pub leave_mib: Option<u64>,
    /// Write so much, MiB
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub mib: Option<u64>,
}

pub struct Fill {
    options: Options,
    open: Option<Open>,
    /// The file system took no more.
    full: bool,
    /// `fallocate` is not known here: zeros are written.
    by_hand: bool,
}

struct Open {
    directory: Directory,
    file: File,
    /// End of what was written, bytes.
    end: u64,
}

impl Fill {
    pub fn new(options: Options) -> Self {
        Self { options, open: None, full: false, by_hand: false }
    }

    /// How much more is wanted, bytes.
    fn wanted(&self) -> Result<u64, String> {
        let Some(open) = &self.open else { return Ok(0) };
        if let Some(mib) = self.options.mib {
            return Ok(mib.saturating_mul(MIB).saturating_sub(open.end));
        }
        let leave = self.options.leave_mib.unwrap_or(0).saturating_mul(MIB);
        Ok(open.directory.free_bytes()?.saturating_sub(leave))
    }

    fn write_on(&mut self) -> Result<(), String> {
        let began = Instant::now();
        self.full = false;
        while began.elapsed() < BURST {
            let step = self.wanted()?.min(STEP);
            let Some(open) = self.open.as_mut().filter(|_| step > 0) else { return Ok(()) };
            match extend(open, step, &mut self.by_hand) {
                Ok(()) => {}
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) if step > 4096 => {
                    // The last bytes in small pieces.
                    while extend(open, 4096, &mut self.by_hand).is_ok() && began.elapsed() < BURST {}
                    self.full = true;
                    return Ok(());
                }
                Err(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
                    self.full = true;
                    return Ok(());
                }
                Err(error) => return Err(format!("failed to write: {error}")),
            }
        }
        Ok(())
    }
}

/// Adds `bytes` at the end.
fn extend(open: &mut Open, bytes: u64, by_hand: &mut bool) -> Result<(), Errno> {
    let length = i64::try_from(bytes).map_err(|_| Errno::EFBIG)?;
    let offset = i64::try_from(open.end).map_err(|_| Errno::EFBIG)?;
    if !*by_hand {
        match fallocate(&open.file, FallocateFlags::empty(), offset, length) {
            Ok(()) => {
                open.end += bytes;
                return Ok(());
            }
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                use std::io::{Seek, SeekFrom};
                let sought = open.file.seek(SeekFrom::Start(open.end));
                sought.map_err(|error| errno(&error))?;
                *by_hand = true;
            }
            Err(error) => return Err(error),
        }
    }
    let zeros = vec![0u8; usize::try_from(bytes).unwrap_or(4096)];
    let mut rest = zeros.as_slice();
    while !rest.is_empty() {
        let written = open.file.write(rest).map_err(|error| errno(&error))?;
        open.end += written as u64;
        rest = &rest[written.max(1).min(rest.len())..];
    }
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(nix::libc::EIO))
}

impl Work for Fill {
    fn start(&mut self) -> Result<(), String> {
        let name = &self.options.process;
        let processes = process::named(name);
        let Some(first) = processes.iter().find(|process| !process.is_dead()) else {
            return Err(format!("no process is named {name}"));
        };
        let directory = Directory::of_process(first.pid, &self.options.path)?;
        for (file, bytes) in directory.clean()? {
            say("note", &format!("removed {file} of a dead agent: {bytes} bytes"));
        }
        let file = directory.create()?;
        self.open = Some(Open { directory, file, end: 0 });
        self.write_on()
    }

    fn tick(&mut self) -> Result<bool, String> {
        // Also when it was full: what the target freed is taken again.
        self.write_on().map(|()| false)
    }

    fn report(&mut self) -> Evidence {
        let Some(open) = &self.open else { return Evidence::failed("nothing is open") };
        let (free, wanted) = match (open.directory.free_bytes(), self.wanted()) {
            (Ok(free), Ok(wanted)) => (free, wanted),
            (Err(error), _) | (_, Err(error)) => return Evidence::failed(error),
        };
        let written = size(&open.file);
        let text = format!("{written} bytes written, {free} bytes free");
        if written == 0 {
            return Evidence::waiting(format!("{text}: nothing had to be written"));
        }
        if self.full {
            return Evidence::effect(format!("{text}, and it takes no more"));
        }
        // A volume that others use is never exactly as full as wanted.
        if wanted > STEP { Evidence::waiting(format!("{text}, filling")) } else { Evidence::effect(text) }
    }

    fn undo(&mut self) -> Result<String, String> {
        let Some(open) = &self.open else { return Ok("nothing was written".to_owned()) };
        let written = size(&open.file);
        // It has no name. What somebody else may hold open must not go on taking space.
        let _ = open.file.set_len(0);
        let free = open.directory.free_bytes().map(|free| format!(", {free} bytes free")).unwrap_or_default();
        self.open = None;
        Ok(format!("{written} bytes removed{free}"))
    }
}
