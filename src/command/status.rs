//! `mettle status`.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tabled::builder::Builder;
use tabled::settings::Style;
use tokio::task::spawn_blocking;

use crate::cli::{Global, ProviderKind};
use crate::cluster;
use crate::command::{CommandResult, Failure, elsewhere, provider_failure};
use crate::exit::Exit;
use crate::provider::error::ProviderError;
use crate::provider::local::layout::Layout;
use crate::provider::local::node::NodeState;
use crate::provider::local::status::{self, ClusterStatus, MemberStatus};
use crate::stack;

pub async fn execute(global: &Global) -> CommandResult {
    if global.cluster != ProviderKind::Local {
        return elsewhere::show(global).await;
    }
    let name = global.name.clone();
    let found = spawn_blocking(move || measured(&name)).await;
    let (found, cost) =
        found.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    let absent = absent(&found).await;
    if global.json {
        let mut value = serde_json::json!(found);
        value["cost"] = serde_json::json!(cost);
        value["not_run_here"] = serde_json::json!(absent);
        println!("{value:#}");
        return Ok(Exit::Pass);
    }
    print(&found);
    println!(
        "cost now: {:.2} cores (Kubernetes {:.2}, pods {:.2}, over {} s), {:.1} GiB resident (shared pages counted in each process)",
        cost.kubernetes_cores + cost.pods_cores,
        cost.kubernetes_cores,
        cost.pods_cores,
        WINDOW.as_secs(),
        found.memory_bytes as f64 / f64::from(1 << 30),
    );
    for part in absent.iter().flatten() {
        println!("{part}: not run here");
    }
    Ok(Exit::Pass)
}

/// Long enough for a figure with two digits, short enough to wait for.
const WINDOW: Duration = Duration::from_secs(3);

/// Processor cores in use, over the window.
#[derive(serde::Serialize)]
struct Cost {
    kubernetes_cores: f64,
    pods_cores: f64,
}

fn measured(name: &str) -> Result<(ClusterStatus, Cost), ProviderError> {
    let before = read(name)?;
    let started = Instant::now();
    let bar = ProgressBar::new_spinner().with_message("measuring what it costs");
    bar.enable_steady_tick(Duration::from_millis(200));
    std::thread::sleep(WINDOW);
    let after = read(name)?;
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    let cost = cost(&before, &after, seconds);
    Ok((after, cost))
}

/// A process, or a node's pods, that ended in between takes its time with it: each counts for itself.
fn cost(before: &ClusterStatus, after: &ClusterStatus, seconds: f64) -> Cost {
    let mut cost = Cost { kubernetes_cores: 0.0, pods_cores: 0.0 };
    for now in &after.members {
        let Some(then) = before.members.iter().find(|member| member.name == now.name) else { continue };
        cost.pods_cores += (now.pods_cpu_seconds - then.pods_cpu_seconds).max(0.0) / seconds;
        for process in &now.processes {
            let same = then.processes.iter().find(|one| one.name == process.name && one.pid == process.pid);
            let used = same.map_or(process.cpu_seconds, |same| process.cpu_seconds - same.cpu_seconds);
            cost.kubernetes_cores += used.max(0.0) / seconds;
        }
    }
    cost
}

/// What the guide has and this stack has not; absent when no stack stands, or its API does not answer.
async fn absent(cluster: &ClusterStatus) -> Option<Vec<String>> {
    let client = cluster::connect(&cluster.kubeconfig).await.ok()?;
    let rows = tokio::time::timeout(Duration::from_secs(5), stack::rows(&client)).await.ok()?.ok()?;
    if rows.is_empty() {
        return None;
    }
    stack::not_run_here(&client).await.ok()
}

fn read(name: &str) -> Result<ClusterStatus, ProviderError> {
    let not_standing = || ProviderError::NotStanding { name: name.to_owned() };
    status::status(&Layout::new(name)?)?.ok_or_else(not_standing)
}

fn print(cluster: &ClusterStatus) {
    let api = if cluster.api_ready { "ready" } else { "NOT ready" };
    println!("cluster {}: Kubernetes {}, API {api}", cluster.name, cluster.kubernetes);
    println!("kubeconfig {}", cluster.kubeconfig.display());
    let mut table = Builder::default();
    table.push_record(["member", "state", "process", "pid", "memory", "cpu", "restarts", "last exit"]);
    for member in &cluster.members {
        push(&mut table, member);
    }
    println!("{}", table.build().with(Style::blank()));
    let mut sources: Vec<(String, &str)> =
        cluster.programs.iter().map(|(name, program)| (program.source.clone(), name.as_str())).collect();
    sources.sort();
    for (source, name) in sources {
        println!("{name:<24} {source}");
    }
}

fn push(table: &mut Builder, member: &MemberStatus) {
    let state = match (member.power, member.ready) {
        (NodeState::Off, _) => "off",
        (NodeState::On, Some(true)) => "ready",
        (NodeState::On, Some(false)) => "not ready",
        (NodeState::On, None) => "on",
    };
    let row = |process: [String; 6]| {
        let [name, pid, memory, cpu, restarts, exit] = process;
        [member.name.clone(), state.to_owned(), name, pid, memory, cpu, restarts, exit]
    };
    if member.processes.is_empty() {
        table.push_record(row(Default::default()));
    }
    for process in &member.processes {
        table.push_record(row([
            process.name.clone(),
            process.pid.map_or_else(|| "waits".to_owned(), |pid| pid.to_string()),
            mib(process.memory_bytes),
            format!("{:.1} s", process.cpu_seconds),
            process.restarts.to_string(),
            process.last_exit.clone().unwrap_or_default(),
        ]));
    }
    if member.pods_memory_bytes > 0 {
        let pods = ["(pods)", "", &mib(member.pods_memory_bytes), "", "", ""];
        table.push_record(row(pods.map(str::to_owned)));
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::local::status::ProcessStatus;

    fn cluster(kubelet_pid: i32, kubelet_seconds: f64, pods_seconds: [f64; 2]) -> ClusterStatus {
        let member = |name: &str, pods_cpu_seconds| MemberStatus {
            name: name.to_owned(),
            power: NodeState::On,
            ready: None,
            processes: vec![ProcessStatus {
                name: "kubelet".to_owned(),
                pid: Some(kubelet_pid),
                memory_bytes: 0,
                cpu_seconds: kubelet_seconds,
                restarts: 0,
                last_exit: None,
            }],
            pods_memory_bytes: 0,
            pods_cpu_seconds,
        };
        ClusterStatus {
            name: String::new(),
            kubernetes: String::new(),
            created: String::new(),
            kubeconfig: std::path::PathBuf::new(),
            api_ready: true,
            members: vec![member("n1", pods_seconds[0]), member("n2", pods_seconds[1])],
            memory_bytes: 0,
            kubernetes_cpu_seconds: 0.0,
            pods_cpu_seconds: 0.0,
            programs: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn a_node_that_goes_takes_only_its_own_time_along() {
        let before = cluster(7, 10.0, [100.0, 100.0]);
        let found = cost(&before, &cluster(7, 11.0, [104.0, 0.0]), 2.0);
        assert!((found.pods_cores - 2.0).abs() < 1e-9 && (found.kubernetes_cores - 1.0).abs() < 1e-9);
        let restarted = cost(&before, &cluster(8, 0.5, [100.0, 100.0]), 2.0);
        assert!((restarted.kubernetes_cores - 0.5).abs() < 1e-9 && restarted.pods_cores.abs() < 1e-9);
    }
}
