//! The servers' programs, and where they come from: a directory given, PATH, our cache, the projects' downloads,
//! and last a build from the Go modules that `kubernetes/go.mod` pins.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::super::error::{ProviderError, Result, io};
use super::super::exec::Exec;
use super::lock::Lock;
use super::record::{Program, read_json, write_json};
use super::{build, download};

const GO_MOD: &str = include_str!("../../../kubernetes/go.mod");
const GO_SUM: &str = include_str!("../../../kubernetes/go.sum");
const COREDNS: &str = include_str!("../../../kubernetes/coredns/main.go");
const METRICS_MOD: &str = include_str!("../../../kubernetes/metrics-server/go.mod");
const METRICS_SUM: &str = include_str!("../../../kubernetes/metrics-server/go.sum");

/// Only one `up` builds; the others wait for it as long as a slow machine's build may take.
const BUILD_PATIENCE: Duration = Duration::from_secs(45 * 60);

/// A program that the cluster runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    Etcd,
    Apiserver,
    ControllerManager,
    Scheduler,
    Kubelet,
    KubeProxy,
    Kubectl,
    Coredns,
    MetricsServer,
}

impl Tool {
    pub const ALL: [Self; 9] = [
        Self::Etcd,
        Self::Apiserver,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kubelet,
        Self::KubeProxy,
        Self::Kubectl,
        Self::Coredns,
        Self::MetricsServer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::Coredns => "coredns",
            Self::MetricsServer => "metrics-server",
        }
    }

    /// The version that the Go modules pin.
    pub fn version(self) -> &'static str {
        let (text, module) = match self {
            Self::Etcd => (GO_MOD, "go.etcd.io/etcd/server/v3"),
            Self::Coredns => (GO_MOD, "github.com/coredns/coredns"),
            Self::MetricsServer => (METRICS_MOD, "sigs.k8s.io/metrics-server"),
            _ => (GO_MOD, "k8s.io/kubernetes"),
        };
        pinned(text, module).unwrap_or("unknown")
    }

    /// Arguments that make it print its version; metrics-server built from its module does not know its own.
    fn version_args(self) -> Option<&'static [&'static str]> {
        match self {
            Self::MetricsServer => None,
            Self::Kubectl => Some(&["version", "--client"]),
            Self::Coredns => Some(&["-version"]),
            _ => Some(&["--version"]),
        }
    }
}

/// The version of a module in the text of a go.mod.
fn pinned<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten().filter(|word| word.starts_with('v'))
    })
}

/// Kubernetes' version.
pub fn kubernetes_version() -> &'static str {
    Tool::Kubelet.version()
}

/// Where expensive things are kept: `METTLE_CACHE`, or `~/.cache/mettle`.
pub fn cache_dir() -> PathBuf {
    if let Some(dir) = env::var_os("METTLE_CACHE").filter(|value| !value.is_empty()) {
        return PathBuf::from(dir);
    }
    let base = env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache");
    base.unwrap_or_else(home).join("mettle")
}

/// The cache's directory for exactly these sources.
pub fn cached_bin() -> PathBuf {
    let mut hash = Sha256::new();
    for text in [GO_MOD, GO_SUM, COREDNS, METRICS_MOD, METRICS_SUM] {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    cache_dir().join("bin").join(format!("{}-{digest}", kubernetes_version()))
}

/// Says how each program of the cache came there.
const SOURCES: &str = "sources.json";

pub type Programs = BTreeMap<String, Program>;

/// Finds every program; downloads or builds what is nowhere.
pub fn ensure(given: Option<&Path>) -> Result<Programs> {
    let path: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let cache = cached_bin();
    let mut programs = find_all(given, &path, &cache)?;
    if missing(&programs).is_empty() {
        return Ok(programs);
    }
    let lock = Lock::acquire(&cache.with_extension("lock"), "the cache of programs", BUILD_PATIENCE)?;
    // Another `up` may have built them while we waited.
    programs = find_all(given, &path, &cache)?;
    let fetched = download::fetch(&missing(&programs), &cache)?;
    note_sources(&cache, &fetched)?;
    programs = find_all(given, &path, &cache)?;
    let left = missing(&programs);
    if !left.is_empty() {
        let built = build::build(&left, &cache)?;
        note_sources(&cache, &built)?;
        programs = find_all(given, &path, &cache)?;
    }
    lock.remove()?;
    let left = missing(&programs);
    if left.is_empty() {
        return Ok(programs);
    }
    let what = left.iter().map(|tool| tool.name()).collect::<Vec<_>>().join(", ");
    let tried = "the directory given, PATH, the cache, downloads, a build".to_owned();
    Err(ProviderError::NotFound { what, tried })
}

fn missing(programs: &Programs) -> Vec<Tool> {
    Tool::ALL.into_iter().filter(|tool| !programs.contains_key(tool.name())).collect()
}

fn find_all(given: Option<&Path>, path: &[PathBuf], cache: &Path) -> Result<Programs> {
    let sources: BTreeMap<String, String> = read_json(&cache.join(SOURCES))?.unwrap_or_default();
    let found = Tool::ALL.into_iter().filter_map(|tool| {
        let (path, source) = find(tool, given, path, cache, &right_version)?;
        let source = match source {
            Source::Given => "directory given".to_owned(),
            Source::Path => "PATH".to_owned(),
            Source::Cache => sources.get(tool.name()).cloned().unwrap_or_else(|| "cache".to_owned()),
        };
        Some((tool.name().to_owned(), Program { path, source }))
    });
    Ok(found.collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Given,
    Path,
    Cache,
}

/// The first place that has the program. What is in the directory given is taken at its word; what is on PATH
/// must be of the pinned version; what is in the cache is by its name.
fn find(
    tool: Tool,
    given: Option<&Path>,
    path: &[PathBuf],
    cache: &Path,
    right: &dyn Fn(Tool, &Path) -> bool,
) -> Option<(PathBuf, Source)> {
    let at = |dir: &Path| Some(dir.join(tool.name())).filter(|file| file.is_file());
    if let Some(file) = given.and_then(at) {
        return Some((file, Source::Given));
    }
    if let Some(file) = path.iter().filter_map(|dir| at(dir)).find(|file| right(tool, file)) {
        return Some((file, Source::Path));
    }
    at(cache).map(|file| (file, Source::Cache))
}

fn right_version(tool: Tool, program: &Path) -> bool {
    let Some(args) = tool.version_args() else { return false };
    let text = Exec::new(program).args(args).deadline(Duration::from_secs(5)).run().unwrap_or_default();
    let wanted = tool.version().trim_start_matches('v');
    text.split(|c: char| c.is_whitespace() || c == '-' || c == ',')
        .any(|word| word.trim_start_matches('v') == wanted)
}

fn note_sources(cache: &Path, new: &BTreeMap<String, String>) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let file = cache.join(SOURCES);
    let mut sources: BTreeMap<String, String> = read_json(&file)?.unwrap_or_default();
    sources.extend(new.clone());
    write_json(&file, &sources)
}

/// Puts the programs into the cluster's own directory, where its members see them and a clean-up of the cache
/// does not reach.
pub fn install(programs: &Programs, bin: &Path) -> Result<()> {
    fs::create_dir_all(bin).map_err(io("create", bin))?;
    for (name, program) in programs {
        place(&program.path, &bin.join(name), true)?;
    }
    // Not a link: a build may write into the file that runs.
    let own = env::current_exe().map_err(io("find", Path::new("/proc/self/exe")))?;
    place(&own, &bin.join("mettle"), false)
}

fn place(from: &Path, to: &Path, may_link: bool) -> Result<()> {
    let new = to.with_extension("new");
    let _ = fs::remove_file(&new);
    let linked = may_link && fs::hard_link(from, &new).is_ok();
    if !linked {
        fs::copy(from, &new).map_err(io("copy", from))?;
    }
    fs::rename(&new, to).map_err(io("write", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_modules() {
        for tool in Tool::ALL {
            assert!(tool.version().starts_with('v'), "{}", tool.name());
        }
        assert!(kubernetes_version().starts_with("v1.3"));
    }

    #[test]
    fn the_first_source_wins() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        for name in ["given", "right", "wrong", "cache"] {
            fs::create_dir(place(name)).unwrap();
        }
        let right = |_: Tool, file: &Path| file.starts_with(place("right"));
        // Where the program is, and where it is taken from.
        let table: [(&[&str], Option<Source>); 6] = [
            (&["given", "right", "cache"], Some(Source::Given)),
            (&["wrong", "right", "cache"], Some(Source::Path)),
            (&["wrong", "cache"], Some(Source::Cache)),
            (&["cache"], Some(Source::Cache)),
            (&["wrong"], None),
            (&[], None),
        ];
        for (places, expected) in table {
            for name in places {
                fs::write(place(name).join("kubelet"), "").unwrap();
            }
            let path = [place("wrong"), place("right")];
            let found = find(Tool::Kubelet, Some(&place("given")), &path, &place("cache"), &right);
            assert_eq!(found.map(|(_, source)| source), expected, "{places:?}");
            for name in places {
                fs::remove_file(place(name).join("kubelet")).unwrap();
            }
        }
    }

    #[test]
    fn a_version_is_compared_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("kubelet");
        let version = kubernetes_version();
        for (text, right) in [
            (format!("Kubernetes {version}"), true),
            (format!("Kubernetes {version}1"), false),
            (String::new(), false),
        ] {
            fs::write(&program, format!("#!/bin/sh\necho {text}\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(&program, mode).unwrap();
            assert_eq!(right_version(Tool::Kubelet, &program), right, "{text}");
        }
    }
}
