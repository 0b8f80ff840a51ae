//! One program, without a shell: its own process group, a deadline, bounded output. When it is over, or nobody waits
//! for it any more, the whole group is killed.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::task::JoinSet;

use super::Unanswered;
use crate::model::ProcessCall;

/// Of each of the two outputs; the rest is read and dropped.
const OUTPUT_MAX: usize = 64 << 10;
/// For what is still in the pipes when the program is over.
const REST: Duration = Duration::from_secs(1);

/// The program that a path, or a name in `PATH`, means; `~` is the home directory.
#[must_use]
pub fn find_program(path: &str) -> Option<PathBuf> {
    let path = match path.strip_prefix("~/") {
        Some(rest) => PathBuf::from(std::env::var_os("HOME")?).join(rest),
        None => PathBuf::from(path),
    };
    let runs = |path: &PathBuf| {
        let known = std::fs::metadata(path);
        known.is_ok_and(|known| known.is_file() && known.permissions().mode() & 0o111 != 0)
    };
    if path.components().count() > 1 || path.is_absolute() {
        return Some(path).filter(runs);
    }
    let places = std::env::var_os("PATH")?;
    std::env::split_paths(&places).map(|place| place.join(&path)).find(runs)
}

pub async fn run(call: &ProcessCall, kubeconfig: Option<&Path>) -> Result<Value, Unanswered> {
    let Some(program) = find_program(&call.path) else {
        return Err(Unanswered::Unasked(format!("there is no program {:?}", call.path)));
    };
    let mut command = Command::new(program);
    command.args(&call.arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A group of its own: a Ctrl-C is for mettle, which ends it.
    command.process_group(0).kill_on_drop(true);
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let started = command.spawn();
    let mut child =
        started.map_err(|error| Unanswered::Unasked(format!("{:?} did not start: {error}", call.path)))?;
    let group = Group(child.id());
    // Dropped, they end: what left the group could hold a pipe for ever.
    let mut readers = JoinSet::new();
    let outputs = [Output::default(), Output::default()];
    if let Some(pipe) = child.stdout.take() {
        readers.spawn(outputs[0].clone().read(pipe));
    }
    if let Some(pipe) = child.stderr.take() {
        readers.spawn(outputs[1].clone().read(pipe));
    }
    let ended = tokio::time::timeout(Duration::from_millis(call.timeout_ms), child.wait()).await;
    // What it started, too.
    drop(group);
    let _ = tokio::time::timeout(REST, async { while readers.join_next().await.is_some() {} }).await;
    let [stdout, stderr] = outputs.map(|output| output.text());
    match ended {
        Ok(Ok(status)) => Ok(json!({ "status": code(status), "stdout": stdout, "stderr": stderr })),
        Ok(Err(error)) => Err(Unanswered::Unasked(format!("its end was not seen: {error}"))),
        Err(_) => {
            let _ = child.wait().await;
            let why = format!("it was not done within {} s, and was killed", call.timeout_ms as f64 / 1000.0);
            Err(Unanswered::Unasked(why))
        }
    }
}

/// A signal's number, negative, where one ended it.
fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| -status.signal().unwrap_or_default())
}

/// Killed when nobody holds it any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // Nobody left in it is what we want.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
    }
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    async fn read(self, mut pipe: impl AsyncRead + Unpin) {
        let mut part = vec![0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut part).await {
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let room = OUTPUT_MAX.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&part[..room]);
        }
    }

    fn text(self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::json;

    use super::*;

    fn program(path: &str, arguments: &[&str], timeout_ms: u64) -> ProcessCall {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        ProcessCall { path: path.to_owned(), arguments, timeout_ms }
    }

    #[tokio::test]
    async fn a_program_answers_with_status_and_output() {
        for (call, answer) in [
            (program("true", &[], 5000), json!({ "status": 0, "stdout": "", "stderr": "" })),
            (program("false", &[], 5000), json!({ "status": 1, "stdout": "", "stderr": "" })),
            // No shell looks at it.
            (
                program("echo", &["$HOME", "a b;"], 5000),
                json!({ "status": 0, "stdout": "$HOME a b;\n", "stderr": "" }),
            ),
            (
                program("sh", &["-c", "echo no >&2; exit 7"], 5000),
                json!({ "status": 7, "stdout": "", "stderr": "no\n" }),
            ),
            (program("sh", &["-c", "kill -9 $$"], 5000), json!({ "status": -9, "stdout": "", "stderr": "" })),
        ] {
            assert_eq!(run(&call, None).await, Ok(answer), "{call:?}");
        }
        let kubeconfig =
            run(&program("sh", &["-c", "printf %s $KUBECONFIG"], 5000), Some(Path::new("/k"))).await;
        assert_eq!(kubeconfig.unwrap()["stdout"], "/k");
        let missing = run(&program("no-such-program", &[], 5000), None).await;
        assert!(matches!(missing, Err(Unanswered::Unasked(why)) if why.contains("no-such-program")));
    }

    #[tokio::test]
    async fn output_is_bounded_and_the_rest_is_read() {
        let answer = run(&program("sh", &["-c", "head -c 1000000 /dev/zero; echo end >&2"], 20_000), None)
            .await
            .unwrap();
        assert_eq!(answer["stdout"].as_str().map(str::len), Some(OUTPUT_MAX));
        assert_eq!((&answer["status"], &answer["stderr"]), (&json!(0), &json!("end\n")));
    }

    /// Whether a process of this number is there and is no zombie.
    fn lives(pid: &str) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        state.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        let begun = Instant::now();
        let late = run(&program("sh", &["-c", &script], 500), None).await;
        assert!(matches!(late, Err(Unanswered::Unasked(why)) if why.contains("0.5 s")));
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pid = std::fs::read_to_string(&file).unwrap();
        gone(&pid).await;
        // One that ends leaves nothing, either, and what it leaves does not hold its output open.
        let script = format!("sleep 60 & echo $! > {}; echo done", file.display());
        let answer = run(&program("sh", &["-c", &script], 20_000), None).await.unwrap();
        assert_eq!(answer["stdout"], "done\n");
        gone(&std::fs::read_to_string(&file).unwrap()).await;
    }

    #[tokio::test]
    async fn one_that_nobody_waits_for_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("sleep 60 & echo $! > {}; wait", file.display());
        let call = program("sh", &["-c", &script], 60_000);
        let _ = tokio::time::timeout(Duration::from_millis(700), run(&call, None)).await;
        gone(&std::fs::read_to_string(&file).unwrap()).await;
    }

    async fn gone(pid: &str) {
        for _ in 0..100 {
            if !lives(pid) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{pid} lives");
    }
}
