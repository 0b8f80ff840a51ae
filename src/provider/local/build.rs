//! Builds the servers from their Go modules. Nothing of them is ours but the list of CoreDNS' plugins.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::error::{ProviderError, Result, exec, io};
use super::super::exec::Exec;
use super::super::progress::Step;
use super::binaries::{Tool, kubernetes_version};

/// Lines that `go build -v` prints on an empty build cache: the length of the progress bar.
const PACKAGES_KUBERNETES: u64 = 2_980;
const PACKAGES_METRICS_SERVER: u64 = 1_100;
const BUILD_DEADLINE: Duration = Duration::from_secs(40 * 60);

/// One `go build` of one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoBuild {
    /// Directory under `kubernetes/`.
    pub module: &'static str,
    pub label: String,
    pub packages: Vec<&'static str>,
    /// Packages that it compiles on an empty build cache.
    pub total: u64,
    /// For the linker.
    pub flags: String,
    /// Build tags, separated by commas.
    pub tags: &'static str,
}

/// Builds those tools into `into`. Answers with what to note as the source of each.
pub fn build(tools: &[Tool], into: &Path) -> Result<BTreeMap<String, String>> {
    fs::create_dir_all(into).map_err(io("create", into))?;
    let work = into.join(".building");
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).map_err(io("create", &work))?;
    for batch in batches(tools) {
        go_build(&batch, &work)?;
    }
    for tool in tools {
        let made = if *tool == Tool::Etcd { "server" } else { tool.name() };
        let (from, to) = (work.join(made), into.join(tool.name()));
        fs::rename(&from, &to).map_err(io("keep", &from))?;
    }
    fs::remove_dir_all(&work).map_err(io("remove", &work))?;
    let note =
        |tool: &Tool| (tool.name().to_owned(), format!("built from the Go module, {}", tool.version()));
    Ok(tools.iter().map(note).collect())
}

fn package(tool: Tool) -> &'static str {
    match tool {
        Tool::Etcd => "go.etcd.io/etcd/server/v3",
        Tool::Apiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
        Tool::ControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
        Tool::Scheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
        Tool::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
        Tool::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
        Tool::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
        Tool::Coredns => "./coredns",
        Tool::MetricsServer => "sigs.k8s.io/metrics-server/cmd/metrics-server",
    }
}

/// metrics-server pins other versions of Kubernetes' libraries, so it is a module of its own.
fn batches(tools: &[Tool]) -> Vec<GoBuild> {
    let (metrics, servers): (Vec<Tool>, Vec<Tool>) =
        tools.iter().copied().partition(|tool| *tool == Tool::MetricsServer);
    let mut batches = Vec::new();
    if !servers.is_empty() {
        batches.push(GoBuild {
            module: "",
            label: format!("building Kubernetes {} from its Go modules, once", kubernetes_version()),
            packages: servers.iter().map(|tool| package(*tool)).collect(),
            total: PACKAGES_KUBERNETES,
            flags: linker_flags(),
            tags: "",
        });
    }
    if !metrics.is_empty() {
        batches.push(GoBuild {
            module: "metrics-server",
            label: "building metrics-server from its Go module, once".to_owned(),
            packages: metrics.iter().map(|tool| package(*tool)).collect(),
            total: PACKAGES_METRICS_SERVER,
            flags: linker_flags(),
            tags: "",
        });
    }
    batches
}

/// `METTLE_HOME/kubernetes`, or the one of the source tree that this program was built from.
fn modules_dir() -> Result<PathBuf> {
    let home = env::var_os("METTLE_HOME").filter(|value| !value.is_empty());
    let root = home.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let dir = root.join("kubernetes");
    if dir.join("go.mod").is_file() {
        return Ok(dir);
    }
    let what = "the Go module that pins Kubernetes (set METTLE_HOME to mettle's source tree)".to_owned();
    Err(ProviderError::NotFound { what, tried: dir.display().to_string() })
}

/// The language version that a go.mod demands.
fn wanted_go(go_mod: &str) -> Option<(u32, u32)> {
    go_mod.lines().find_map(|line| line.strip_prefix("go ")).and_then(go_version)
}

/// Major and minor of `1.26.4` or `go1.26.8`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().trim_start_matches("go").split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn check_toolchain(modules: &Path) -> Result<()> {
    let file = modules.join("go.mod");
    let text = fs::read_to_string(&file).map_err(io("read", &file))?;
    let Some(wanted) = wanted_go(&text) else { return Ok(()) };
    let need = format!("Go {}.{} or newer is needed to build from Go modules", wanted.0, wanted.1);
    // Asked for outside the module, or Go would fetch another version of itself to answer.
    let found = Exec::new("go").args(["env", "GOVERSION"]).dir(Path::new("/")).run().map_err(|_| {
        ProviderError::Toolchain(format!(
            "{need}, and there is none on PATH: install it from https://go.dev/dl"
        ))
    })?;
    match go_version(&found) {
        Some(version) if version >= wanted => Ok(()),
        _ => Err(ProviderError::Toolchain(format!(
            "{need}, and PATH has {}: install it from https://go.dev/dl",
            found.trim()
        ))),
    }
}

fn linker_flags() -> String {
    let version = kubernetes_version();
    let minor = version.trim_start_matches('v').split('.').nth(1).unwrap_or_default();
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in
            [("gitVersion", version), ("gitMajor", "1"), ("gitMinor", minor), ("gitTreeState", "clean")]
        {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

/// Builds static programs of one module into a directory, under the names that Go gives them.
pub fn go_build(batch: &GoBuild, into: &Path) -> Result<()> {
    let modules = modules_dir()?.join(batch.module);
    check_toolchain(&modules)?;
    let step = Step::counted(batch.label.clone(), batch.total);
    let mut done = 0;
    let mut next_note = Duration::from_secs(30);
    Exec::new("go")
        .args([
            "build",
            "-buildvcs=false",
            "-v",
            "-trimpath",
            "-ldflags",
            &batch.flags,
            "-tags",
            batch.tags,
            "-o",
        ])
        .arg(format!("{}/", into.display()))
        .args(&batch.packages)
        .dir(&modules)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly")
        .deadline(BUILD_DEADLINE)
        .run_with(|line| {
            if line.starts_with("go: downloading") {
                step.message("downloading modules");
                return;
            }
            done += 1;
            step.message("");
            step.position(done);
            if step.elapsed() >= next_note {
                next_note = step.elapsed() + Duration::from_secs(30);
                step.note(&format!("{done} of about {} packages", batch.total));
            }
        })
        .map_err(exec(format!("build {} from its Go module", batch.packages.join(", "))))?;
    step.done("");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_built() {
        let all = batches(&Tool::ALL);
        assert_eq!(all.iter().map(|batch| batch.packages.len()).collect::<Vec<_>>(), [8, 1]);
        let one = batches(&[Tool::MetricsServer]);
        assert_eq!(one.iter().map(|batch| batch.module).collect::<Vec<_>>(), ["metrics-server"]);
        assert!(batches(&[]).is_empty());
    }

    #[test]
    fn go_versions() {
        for (text, version) in [("1.26.4", Some((1, 26))), ("go1.9\n", Some((1, 9))), ("devel", None)] {
            assert_eq!(go_version(text), version, "{text}");
        }
        assert_eq!(wanted_go("module x\n\ngo 1.26.4\n"), Some((1, 26)));
    }

    #[test]
    fn the_version_is_linked_in() {
        let flags = linker_flags();
        assert!(flags.contains(&format!("version.gitVersion={}", kubernetes_version())), "{flags}");
    }
}
