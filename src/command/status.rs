//! `mettle status`.

use tabled::builder::Builder;
use tabled::settings::Style;
use tokio::task::spawn_blocking;

use crate::cli::{Global, ProviderKind};
use crate::command::{CommandResult, Failure, elsewhere, provider_failure};
use crate::exit::Exit;
use crate::provider::error::ProviderError;
use crate::provider::local::layout::Layout;
use crate::provider::local::node::NodeState;
use crate::provider::local::status::{self, ClusterStatus, MemberStatus};

pub async fn execute(global: &Global) -> CommandResult {
    if global.cluster != ProviderKind::Local {
        return elsewhere::show(global).await;
    }
    let name = global.name.clone();
    let found = spawn_blocking(move || read(&name)).await;
    let found = found.map_err(|error| Failure::new(Exit::Internal, error))?.map_err(provider_failure)?;
    if global.json {
        println!("{:#}", serde_json::json!(found));
    } else {
        print(&found);
    }
    Ok(Exit::Pass)
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
    println!("memory of all processes: {}", mib(cluster.memory_bytes));
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
