//! Scripts of the stack's images, against what they call.

use std::path::Path;
use std::process::{Command, Output};

const ARCHIVE_WAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stack/images/postgres/archive-wal");
/// Timelines 25 and 26 were left in their segments 0x34 and 0x13C, timeline 27 is written.
const HISTORY: &str =
    "25\t0/340000A0\tno recovery target specified\n\n26\t1/3C00AE78\tno recovery target specified\n";

/// With an archive that refuses everything with 45, as pgBackRest refuses a segment that it has with other content.
fn archive(data: &Path, name: &str) -> Output {
    let path = format!("{}:/usr/bin:/bin", data.join("bin").display());
    let mut command = Command::new("sh");
    let file = format!("pg_wal/{name}");
    command.args([ARCHIVE_WAL, &file, "pgbackrest", "archive-push", &file]);
    command.env("PATH", path).current_dir(data);
    command.output().expect("a shell")
}

fn data() -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a directory");
    for directory in ["bin", "pg_wal"] {
        std::fs::create_dir(data.path().join(directory)).expect("made");
    }
    let program = data.path().join("bin/pgbackrest");
    std::fs::write(&program, "#!/bin/sh\necho \"$@\"\nexit 45\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&program, mode).expect("executable");
    data
}

#[test]
fn only_what_lies_behind_a_fork_of_its_own_history_is_kept_from_the_archive() {
    let data = data();
    let wal = data.path().join("pg_wal");
    std::fs::write(wal.join("0000001A.history"), "25\t0/340000A0\tno recovery target specified\n")
        .expect("written");
    std::fs::write(wal.join("0000001B.history"), HISTORY).expect("written");
    let table = [
        ("the one it writes", "0000001B000000010000003C", false),
        ("of its history, before the fork", "0000001A000000010000003B", false),
        ("a step of the upper half earlier", "0000001A00000000000000FF", false),
        ("the one with the fork", "0000001A000000010000003C", true),
        ("behind the fork", "0000001A0000000200000001", true),
        ("of a timeline before", "000000190000000000000034", true),
        ("of a timeline before, before its fork", "000000190000000000000033", false),
        ("of a timeline that is not in its history", "00000018000000000000003C", false),
        ("of a timeline to come", "0000001C000000010000003C", false),
        ("what it had begun", "0000001A000000010000003C.partial", false),
        ("a history", "0000001B.history", false),
        ("a backup's label", "0000001A000000010000003C.00000028.backup", false),
    ];
    for (name, file, passed_over) in table {
        let output = archive(data.path(), file);
        let (said, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if passed_over {
            assert_eq!(output.status.code(), Some(0), "{name}: {said}{told}");
            assert!(told.contains(&format!("{file} is passed over")), "{name}: {told}");
        } else {
            assert_eq!(output.status.code(), Some(45), "{name}: {told}");
            assert_eq!(said.trim(), format!("archive-push pg_wal/{file}"), "{name}");
        }
    }
}

#[test]
fn the_first_timeline_has_no_fork() {
    let output = archive(data().path(), "000000010000000000000002");
    assert_eq!(output.status.code(), Some(45), "{output:?}");
}

#[test]
fn a_history_that_cannot_be_understood_archives_nothing() {
    let data = data();
    std::fs::write(data.path().join("pg_wal/00000002.history"), "1\tnothing\twhy\n").expect("written");
    let output = archive(data.path(), "000000010000000000000002");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}
