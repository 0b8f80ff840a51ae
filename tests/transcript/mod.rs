//! Programs that replay a transcript: strictly one command line after the other, with what each said and how it ended.
//! An unexpected command line ends with 97 and fails the story, and so does one that never came.
//!
//! A transcript is text. `#` begins a remark; `programs` says which programs are there; then for each command
//!
//! ```text
//! $ docker version --format {{.Server.Version}}
//! 20.10.24                        what it said
//! ! a line on standard error
//! = 0                             how it ended
//! ```
//!
//! `[state]` stands for the directory of the clusters' records, `[archive]` for that of the images.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mettle::provider::host::Host;

pub struct Replay {
    directory: tempfile::TempDir,
    commands: usize,
}

const PROGRAM: &str = r#"#!/bin/sh
d="${0%/*}"
line="${0##*/} $*"
n=$(cat "$d/next")
if [ ! -f "$d/$n.line" ] || [ "$(cat "$d/$n.line")" != "$line" ]; then
    echo "command $n: $line" | tee -a "$d/unexpected" >&2
    exit 97
fi
echo $((n + 1)) > "$d/next"
cat "$d/$n.err" >&2
cat "$d/$n.out"
exit "$(cat "$d/$n.code")"
"#;

impl Replay {
    pub fn of(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts").join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut replay = Self { directory: tempfile::tempdir().unwrap(), commands: 0 };
        let (state, archive) = (replay.state(), replay.archives());
        fs::create_dir_all(&archive).unwrap();
        let text = text.replace("[state]", &state.display().to_string());
        replay.write(&text.replace("[archive]", &archive.display().to_string()));
        replay
    }

    fn write(&mut self, text: &str) {
        let (mut line, mut out, mut err) = (String::new(), String::new(), String::new());
        for said in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(programs) = said.strip_prefix("programs") {
                programs.split_whitespace().for_each(|program| self.program(program));
            } else if let Some(command) = said.strip_prefix("$ ") {
                assert!(line.is_empty(), "{line}: it never ends");
                command.clone_into(&mut line);
            } else if let Some(code) = said.strip_prefix("= ") {
                assert!(!line.is_empty(), "an end without a command");
                let n = self.commands;
                for (part, text) in
                    [("line", &line), ("out", &out), ("err", &err), ("code", &code.to_owned())]
                {
                    fs::write(self.path(&format!("{n}.{part}")), text).unwrap();
                }
                self.commands += 1;
                (line, out, err) = Default::default();
            } else if let Some(complaint) = said.strip_prefix('!') {
                err.push_str(&format!("{}\n", complaint.trim_start_matches(' ')));
            } else if !line.is_empty() {
                out.push_str(&format!("{said}\n"));
            }
        }
        assert!(line.is_empty(), "{line}: it never ends");
        fs::write(self.path("next"), "0").unwrap();
    }

    fn program(&self, name: &str) {
        fs::write(self.path(name), PROGRAM).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn archives(&self) -> PathBuf {
        self.path("archives")
    }

    pub fn host(&self) -> Host {
        Host::at(self.directory.path().to_owned(), self.state())
    }

    /// Every command line came, and no other.
    pub fn end(self) {
        let unexpected = fs::read_to_string(self.path("unexpected")).unwrap_or_default();
        assert_eq!(unexpected, "", "unexpected commands");
        let next: usize = fs::read_to_string(self.path("next")).unwrap().trim().parse().unwrap();
        let missing = fs::read_to_string(self.path(&format!("{next}.line"))).unwrap_or_default();
        assert_eq!(next, self.commands, "a command never came: {missing}");
    }
}
