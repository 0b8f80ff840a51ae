//! Whole experiments of Chaos Toolkit, played by the real program: calls to a server of the test, programs of the
//! system, no cluster. Each example is played to its verdict, or refused for its reason.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Case, shown, table};

/// Answers as a shop would, to as many as come; each on a connection of its own.
fn shop() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it has one");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            let mut asked = Vec::new();
            let mut part = [0; 1024];
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(read @ 1..) => asked.extend_from_slice(&part[..read]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer(&String::from_utf8_lossy(&asked)).as_bytes());
        }
    });
    format!("http://{address}")
}

fn answer(asked: &str) -> String {
    let path = asked.split_whitespace().nth(1).unwrap_or_default();
    let token = asked.lines().find_map(|line| line.strip_prefix("x-token: ")).unwrap_or("nothing");
    let items = r#"{"items": [{"name": "a", "stock": 1}, {"name": "b", "stock": 2.5}]}"#;
    let (status, kind, body) = match path {
        "/health" => ("200 OK", "text/plain", "up".to_owned()),
        "/catalog" | "/catalog?n=2&q=a+b" => ("200 OK", "application/json", items.to_owned()),
        "/orders" => ("201 Created", "application/json", "{}".to_owned()),
        "/echo" => ("200 OK", "text/plain", format!("you said {token}")),
        _ => ("503 Service Unavailable", "text/plain", path.to_owned()),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign/scripts").join(name)
}

struct Played {
    case: Case,
    exit: Option<i32>,
    told: String,
}

/// Plays an example in a directory of its own.
fn play(name: &str, flags: &str) -> Played {
    let case = Case::new();
    std::fs::copy(example(name), case.path(name)).expect("it is copied");
    let mut command = case.command();
    command.args(["run", name, "--cluster", "current"]).args(flags.split_whitespace());
    command.env("SHOP_URL", shop()).env("SHOP_TOKEN", "hunter2");
    let output = command.output().expect("it runs");
    let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    Played { exit: output.status.code(), told, case }
}

impl Played {
    /// The files that a run leaves, as one text; the two reports parsed.
    fn out(&self) -> (String, Value, Value) {
        let mut all = String::new();
        let (mut report, mut journal) = (Value::Null, Value::Null);
        let mut places = vec![self.case.path("out")];
        while let Some(place) = places.pop() {
            for entry in std::fs::read_dir(&place).unwrap_or_else(|_| panic!("{}", self.told)) {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    places.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("it is text");
                match path.file_name().and_then(|name| name.to_str()) {
                    Some("report.json") => report = serde_json::from_str(&text).expect("it is JSON"),
                    Some("journal.json") => journal = serde_json::from_str(&text).expect("it is JSON"),
                    _ => {}
                }
                all.push_str(&text);
            }
        }
        (all, report, journal)
    }
}

#[test]
fn every_example_comes_to_its_verdict() {
    for (name, exit, verdict, status, deviated, rolled_back) in [
        ("http-status.json", 0, "pass", "completed", false, true),
        ("regex.yaml", 0, "pass", "completed", false, false),
        ("jsonpath.yaml", 0, "pass", "completed", false, false),
        ("range.yaml", 0, "pass", "completed", false, false),
        ("secrets.yaml", 0, "pass", "completed", false, false),
        ("reference.yaml", 0, "pass", "completed", false, false),
        ("background.yaml", 0, "pass", "completed", false, false),
        ("shell-names.yaml", 0, "pass", "completed", false, false),
        ("deviates.yaml", 1, "fail", "completed", true, false),
        ("not-steady.yaml", 3, "inconclusive", "completed", false, true),
        ("too-slow.yaml", 3, "inconclusive", "completed", false, false),
        ("nobody-there.yaml", 3, "inconclusive", "failed", false, false),
        ("half-a-rollback.yaml", 5, "pass", "completed", false, true),
    ] {
        let played = play(name, "--allow-http --allow-process");
        assert_eq!(played.exit, Some(exit), "{name}: {}", played.told);
        let (all, report, journal) = played.out();
        assert_eq!(report["verdict"], verdict, "{name}");
        assert_eq!((&journal["status"], &journal["deviated"]), (&status.into(), &deviated.into()), "{name}");
        assert_eq!(played.case.path("rolled-back").exists(), rolled_back, "{name}");
        assert!(!played.case.path("broken").exists(), "{name}: it was rolled back, or never done");
        // A secret is in nothing that is told or kept.
        for secret in ["hunter2", "s3cr3t-in-the-file"] {
            assert!(!played.told.contains(secret) && !all.contains(secret), "{name} tells {secret}");
        }
    }
}

#[test]
fn what_a_file_may_not_do_is_not_done() {
    for (name, flags, says) in [
        ("http-status.json", "--allow-process", "--allow-http allows it"),
        ("http-status.json", "--allow-http", "--allow-process allows it"),
        ("deviates.yaml", "", "--allow-process allows it"),
        ("kill-a-pod.json", "", "kubeconfig"),
        ("refused.yaml", "--allow-http --allow-process", "cannot be played, so nothing of it was"),
    ] {
        let played = play(name, flags);
        let exit = if name == "kill-a-pod.json" { 4 } else { 2 };
        assert_eq!(played.exit, Some(exit), "{name}: {}", played.told);
        assert!(played.told.contains(says), "{name}: {}", played.told);
        assert!(!played.case.path("out").exists() && !played.case.path("broken").exists(), "{name}");
    }
}

/// A person's Ctrl-C: what was begun ends, and the rollbacks are played.
#[test]
fn an_interrupt_still_rolls_back() {
    let slow = std::fs::read_to_string(example("deviates.yaml")).expect("it is there");
    let slow = slow.replace(
        "path: touch, arguments: [broken]",
        "path: sh, arguments: [-c, \"touch broken; exec sleep 60\"]",
    );
    let slow = slow.replace("timeout: 5 }\nrollbacks", "timeout: 90 }\nrollbacks");
    let case = Case::new().file("slow.yaml", slow);
    let mut command = case.command();
    command.args(["run", "slow.yaml", "--cluster", "current", "--allow-process"]);
    let mut child = command
        .stderr(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    let broken = case.path("broken");
    for _ in 0..300 {
        if broken.exists() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(broken.exists(), "the method was begun");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a number"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it is there");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(!broken.exists(), "it was rolled back");
    let journal =
        std::fs::read_to_string(case.path("out/it-does-not-hold/journal.json")).expect("it is written");
    let journal: Value = serde_json::from_str(&journal).expect("it is JSON");
    assert_eq!(
        (&journal["status"], &journal["rollbacks"][0]["status"]),
        (&"interrupted".into(), &"succeeded".into())
    );
}

#[test]
fn planned_and_refused() {
    let case = |name: &str| {
        let text = std::fs::read(example(name)).expect("it is there");
        Case::new().file(name, text)
    };
    let with_shop = |line: &str, name: &str| {
        let case = case(name);
        let mut command = case.command();
        command
            .args(line.split_whitespace())
            .arg(name)
            .env("SHOP_URL", "http://127.0.0.1:8080")
            .env("SHOP_TOKEN", "hunter2");
        case.answer(command)
    };
    let mesh = "apiVersion: chaos-mesh.org/v1alpha1\nkind: PodChaos\nmetadata: { name: x }\nspec: {}\n";
    shown(
        "script",
        &table([
            ("plan", with_shop("plan --seed 7", "secrets.yaml")),
            ("plan as JSON", with_shop("plan --seed 7 --json", "background.yaml")),
            ("plan of what needs a cluster", with_shop("plan --cluster current", "kill-a-pod.json")),
            ("refused", with_shop("run", "refused.yaml")),
            ("not allowed", with_shop("run", "http-status.json")),
            ("not in the environment", case("http-status.json").run("run http-status.json")),
            (
                "no such program",
                case("regex.yaml")
                    .file(
                        "regex.yaml",
                        std::fs::read_to_string(example("regex.yaml"))
                            .expect("it is there")
                            .replace("path: echo", "path: nosuch"),
                    )
                    .run("run regex.yaml --allow-process"),
            ),
            ("with one of ours", case("regex.yaml").run("run regex.yaml x.yaml")),
            ("twice", case("regex.yaml").run("run regex.yaml regex.yaml")),
            ("of Chaos Mesh", Case::new().file("mesh.yaml", mesh).run("run mesh.yaml")),
        ]),
    );
}
