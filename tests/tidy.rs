//! The layout of the source, held by a machine: who may know whom, how long a file may get, what is forbidden.
//! Exceptions are listed here with their reason; a list may shrink, and never grow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, process};

use mettle::fault::info;
use mettle::model::{CheckKind, Component, FaultKind};

#[path = "tidy/source.rs"]
mod source;

/// Who may know whom. `*` marks what design and code differ in, with the reason beside it.
const EDGES: [(&str, &[&str]); 21] = [
    ("main", &["cli", "command"]),
    ("lib", &[]),
    ("exit", &[]),
    // * the providers' names are the values of a flag.
    ("cli", &["provider"]),
    // * the only place that puts everything together, so it also lists faults and checks and opens clusters.
    (
        "command",
        &[
            "cli",
            "exit",
            "check",
            "cluster",
            "component",
            "fault",
            "foreign",
            "load",
            "model",
            "promise",
            "provider",
            "report",
            "run",
            "stack",
            "verify",
        ],
    ),
    // * the report of one experiment is built where its last phase ends.
    ("run", &["check", "cluster", "component", "fault", "ledger", "load", "model", "probe", "report"]),
    ("load", &["model"]),
    // * the pods' addresses and the components' own words are two of the things that it watches.
    ("probe", &["cluster", "component", "model"]),
    // * what a direct read of a store found is the ledger's input.
    ("component", &["cluster", "ledger", "model"]),
    ("stack", &["cluster", "model", "provider"]),
    // * asks the components and the cluster, like a probe, and judges, like a check.
    ("verify", &["cluster", "component", "model"]),
    ("provider", &["cluster", "model"]),
    ("cluster", &["model"]),
    ("fault", &["model"]),
    ("foreign", &["model"]),
    ("check", &["model"]),
    ("promise", &["model"]),
    ("ledger", &["model"]),
    ("report", &["model", "statistics"]),
    ("statistics", &["model"]),
    ("model", &[]),
];

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer, with the most they may have.
const LONG_FILES: [(&str, usize); 0] = [];

/// Functions that are longer, with the most they may have.
const LONG_FUNCTIONS: [(&str, usize); 0] = [];

/// Where the engine may stop itself all the same.
const PANICS: [(&str, &str); 1] = [
    // Its arguments are constants that a test tries.
    ("src/load/seconds.rs", ".expect("),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every file that git knows, and those it would add.
fn tracked() -> Vec<String> {
    let mut git = process::Command::new("git");
    git.args(["-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]);
    let output = git.current_dir(root()).output().expect("git runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("paths are text");
    let there = |path: &&str| root().join(path).is_file();
    text.lines().filter(there).map(str::to_owned).collect()
}

fn is_ours(path: &str) -> bool {
    ["src/", "agent/src/", "stack/platform/src/"].iter().any(|directory| path.starts_with(directory))
}

/// Our sources outside tests: path → code with comments, literals and test items blanked out.
fn sources() -> BTreeMap<String, String> {
    let (mut found, mut tests) = (BTreeMap::new(), BTreeSet::new());
    for path in tracked().into_iter().filter(|path| is_ours(path) && path.ends_with(".rs")) {
        let (code, modules) = source::without_tests(&source::code(&read(&path)));
        let own = Path::new(&path);
        let inside = match own.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod" | "lib" | "main") | None => own.with_file_name(""),
            Some(stem) => own.with_file_name(stem),
        };
        tests.extend(modules.into_iter().map(|module| inside.join(module)));
        found.insert(path, code);
    }
    found.retain(|path, _| {
        let path = Path::new(path).with_extension("");
        !path.ancestors().any(|part| tests.contains(part))
    });
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Fails with everything that is wrong, not with the first.
fn nothing(wrong: Vec<String>) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn everybody_knows_only_whom_they_may() {
    let edges: BTreeMap<&str, &[&str]> = EDGES.into_iter().collect();
    let mut wrong = Vec::new();
    for (path, code) in sources() {
        let Some(inside) = path.strip_prefix("src/") else { continue };
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(known) = edges.get(module) else {
            wrong.push(format!("{path}: module {module} has no line in EDGES"));
            continue;
        };
        for used in source::modules_used(&code.replace("mettle::", "crate::")) {
            if used != module && !known.contains(&used.as_str()) {
                wrong.push(format!("{path}: {module} must not know {used}"));
            }
        }
    }
    nothing(wrong);
}

#[test]
fn files_and_functions_stay_short() {
    let (long_files, long_functions) = (BTreeMap::from(LONG_FILES), BTreeMap::from(LONG_FUNCTIONS));
    let mut wrong = Vec::new();
    let mut ratchet = |what: String, lines: usize, max: usize, exception: Option<&usize>| {
        if lines > *exception.unwrap_or(&max) {
            wrong
                .push(format!("{what} has {lines} lines, at most {} are allowed", exception.unwrap_or(&max)));
        } else if exception.is_some_and(|_| lines <= max) {
            wrong.push(format!("{what} has {lines} lines: it needs no exception any more"));
        }
    };
    for path in tracked().into_iter().filter(|path| path.ends_with(".rs")) {
        let lines = read(&path).lines().count();
        ratchet(path.clone(), lines, FILE_LINES_MAX, long_files.get(path.as_str()));
    }
    for (path, code) in sources() {
        for (name, line, lines) in source::functions(&code) {
            let exception = long_functions.get(format!("{path} {name}").as_str());
            ratchet(format!("{path}:{line}: {name}"), lines, FUNCTION_LINES_MAX, exception);
        }
    }
    nothing(wrong);
}

#[test]
fn nothing_forbidden_is_in_the_engine() {
    let forbidden = [
        ".unwrap()",
        ".expect(",
        ".unwrap_err()",
        "panic!",
        "todo!",
        "unimplemented!",
        "unreachable!",
        "dbg!",
        "unsafe ",
    ];
    let (mut wrong, mut unused) = (Vec::new(), Vec::from(PANICS));
    for (path, code) in sources() {
        for (line, text) in code.lines().enumerate() {
            for word in forbidden.iter().filter(|word| text.contains(**word)) {
                // An exception is for one place.
                match unused.iter().position(|exception| *exception == (path.as_str(), *word)) {
                    Some(at) => drop(unused.remove(at)),
                    None => wrong.push(format!("{path}:{}: {word}", line + 1)),
                }
            }
        }
    }
    wrong.extend(unused.iter().map(|(path, word)| format!("{path}: needs no exception for {word} any more")));
    nothing(wrong);
}

#[test]
fn no_file_speaks_of_one_machine() {
    // In two pieces, so that this file does not speak of them either.
    let forbidden = [concat!("/wor", "k/"), concat!("/tmp/", "wt"), concat!("/home", "/")];
    let mut wrong = Vec::new();
    for path in tracked() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        for (line, text) in text.lines().enumerate() {
            if forbidden.iter().any(|word| text.contains(word)) {
                wrong.push(format!("{path}:{}: a path of one machine", line + 1));
            }
            if text.ends_with([' ', '\t']) && !path.ends_with(".snap") && path != "LICENSE" {
                wrong.push(format!("{path}:{}: trailing whitespace", line + 1));
            }
        }
    }
    nothing(wrong);
}

#[test]
fn manifests_pin_images_and_hold_no_secret() {
    let mut wrong = Vec::new();
    let yaml = |path: &String| path.starts_with("stack/") && path.ends_with(".yaml");
    for path in tracked().into_iter().filter(yaml) {
        let text = read(&path);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        for (at, line) in lines.iter().enumerate() {
            let mut bad = |what: &str| wrong.push(format!("{path}:{}: {what}", at + 1));
            let (key, value) = line.trim_start_matches("- ").split_once(':').unwrap_or_default();
            let (key, value) = (key.trim_matches('"').to_lowercase(), value.trim());
            // A template's own placeholder: what fills it in is in the same file, and is looked at there.
            let filled_in = value.starts_with("{{");
            if key == "image"
                && !filled_in
                && (value.ends_with(":latest") || !value.trim_matches('"').contains(':'))
            {
                bad("an image without a tag of its own");
            }
            let switch = matches!(value.split_whitespace().next(), Some("true" | "false"));
            let secret = |name: &str| !switch && (name.ends_with("password") || name.ends_with("token"));
            if secret(&key) && !value.is_empty() && !value.starts_with(['{', '$', '#', '|', '>', '%']) {
                bad("a secret in the clear");
            }
            let literal = lines.get(at + 1).is_some_and(|next| next.starts_with("value:"));
            if key == "name" && secret(&value.to_lowercase()) && literal {
                bad("a secret in the clear");
            }
        }
    }
    nothing(wrong);
}

#[test]
fn every_fault_and_check_is_whole() {
    let mut wrong = Vec::new();
    let experiments: Vec<String> = tracked()
        .into_iter()
        .filter(|path| path.starts_with("experiments/") && path.ends_with(".yaml"))
        .collect();
    let texts: Vec<String> = experiments.iter().map(|path| read(path)).collect();
    let page = read("docs/experiments.md");
    let faults = read("docs/faults.md");
    for kind in FaultKind::ALL {
        let (info, name) = (info(*kind), kind.as_str());
        for words in [info.level, info.does, info.undone_by, info.evidence] {
            if words.is_empty() || !faults.contains(words) {
                wrong.push(format!("docs/faults.md does not say of {name}: {words:?}"));
            }
        }
        if !texts.iter().any(|text| text.contains(&format!("kind: {name}"))) {
            wrong.push(format!("{name}: no experiment uses it"));
        }
        if !faults.contains(&format!("`{name}`")) {
            wrong.push(format!("docs/faults.md says nothing of {name}"));
        }
    }
    for kind in CheckKind::ALL.map(CheckKind::as_str) {
        let path = format!("src/check/{}.rs", kind.replace('-', "_"));
        let text = read(&path);
        let tests = text.split("#[cfg(test)]").nth(1).unwrap_or_default();
        for verdict in ["Pass", "Fail", "Inconclusive"] {
            if !tests.contains(verdict) {
                wrong.push(format!("{path}: no test for {verdict}"));
            }
        }
    }
    let names =
        CheckKind::ALL.map(CheckKind::as_str).into_iter().chain(Component::ALL.map(Component::as_str));
    wrong.extend(
        names
            .filter(|name| !page.contains(&format!("`{name}`")))
            .map(|name| format!("docs/experiments.md says nothing of {name}")),
    );
    // `mettle list` reads two directories, `mettle rehearse` and `mettle drill` two others, and nobody another.
    let listed = |path: &&String| {
        !matches!(
            path.split('/').collect::<Vec<_>>()[..],
            [_, _] | [_, "suites" | "rehearsals" | "drills", _]
        )
    };
    wrong.extend(
        experiments.iter().filter(listed).map(|path| format!("{path}: `mettle list` does not see it")),
    );
    nothing(wrong);
}

/// Every field of the files has its line on the page for users.
#[test]
fn every_field_is_documented() {
    let mut wrong = Vec::new();
    for (page, sources) in [
        (
            "docs/experiments.md",
            &[
                "src/model/experiment.rs",
                "src/model/fault_spec.rs",
                "src/model/limits.rs",
                "src/model/parameters.rs",
                "src/model/stop_when.rs",
                "src/model/check_spec.rs",
                "src/model/fault_spec.rs",
                "src/model/parameters.rs",
            ] as &[&str],
        ),
        ("docs/scenarios.md", &["src/model/scenario.rs"]),
        ("docs/drills.md", &["src/model/drill.rs"]),
        ("docs/report.md", &["src/model/report.rs", "src/model/repeats.rs", "src/model/comparison.rs"]),
    ] {
        let text = read(page);
        for line in
            sources.iter().flat_map(|source| read(source).lines().map(str::to_owned).collect::<Vec<_>>())
        {
            let Some((name, _)) = line.strip_prefix("    pub ").and_then(|field| field.split_once(": "))
            else {
                continue;
            };
            let name = if page == "docs/report.md" { name.to_owned() } else { camel(name) };
            let is_field = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if is_field && !text.contains(&format!("`{name}`")) {
                wrong.push(format!("{page} says nothing of {name}"));
            }
        }
    }
    nothing(wrong);
}

fn camel(snake: &str) -> String {
    let mut words = snake.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, tail) = word.split_at(1.min(word.len()));
        name + &head.to_uppercase() + tail
    })
}

/// On the line itself, or just above it; one comment may speak for two lines.
fn said(lines: &[&str], at: usize) -> bool {
    let above = &lines[at.saturating_sub(2)..at];
    lines[at].contains(" # ") || above.iter().any(|line| line.starts_with('#'))
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let mut wrong = Vec::new();
    for path in tracked().into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let mut inside = false;
        let text = read(&path);
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.starts_with('[') {
                inside = line.trim_end_matches(']').ends_with("dependencies");
            } else if inside && line.contains('=') && !line.starts_with('#') && !said(&lines, at) {
                wrong.push(format!("{path}:{}: {line}", at + 1));
            }
        }
    }
    nothing(wrong);
}
