//! `mettle verify`: is the stack healthy, one row a workload and a probe's look at each component.

use tabled::builder::Builder;
use tabled::settings::Style;

use crate::cli::Global;
use crate::command::{CommandResult, Failure, session};
use crate::exit::Exit;
use crate::model::Component;
use crate::run::World;
use crate::stack::rows;

#[derive(serde::Serialize)]
struct Check {
    what: String,
    healthy: bool,
    detail: String,
}

pub async fn execute(global: &Global) -> CommandResult {
    let session = session::open(global).await?;
    let set_up = |error| Failure::new(Exit::SetUp, anyhow::Error::new(error));
    let mut checks: Vec<Check> = rows(&session.client)
        .await
        .map_err(set_up)?
        .into_iter()
        .map(|row| Check {
            healthy: row.is_ready(),
            detail: format!("{}/{} ready", row.ready, row.desired),
            what: row.workload,
        })
        .collect();
    if checks.is_empty() {
        let error = anyhow::anyhow!("no workload stands in namespace {}", crate::stack::NAMESPACE);
        return Err(Failure::new(Exit::SetUp, error).hint("`mettle up` brings the stack up"));
    }
    let world = session.world().await?;
    let snapshot = world.snapshot().await.map_err(|error| Failure::new(Exit::SetUp, error))?;
    checks.extend(snapshot.nodes.iter().map(|node| Check {
        what: format!("Node/{}", node.name),
        healthy: node.ready,
        detail: if node.ready { "Ready".to_owned() } else { "not Ready".to_owned() },
    }));
    // A member whose servers do not agree on its role, or say nothing, has none.
    let members = snapshot.pods.iter().filter_map(|pod| match pod.component? {
        component @ (Component::Postgres | Component::Redis) => Some((component, pod)),
        _ => None,
    });
    checks.extend(members.map(|(component, pod)| {
        let fact = snapshot.roles.iter().find(|fact| fact.pod == pod.name);
        let detail = fact.map(|fact| format!("{} ({})", fact.role.as_str(), fact.source));
        Check {
            what: format!("{component} {}", pod.name),
            healthy: fact.is_some(),
            detail: detail.unwrap_or_else(|| "no role can be confirmed".to_owned()),
        }
    }));
    let healthy = checks.iter().all(|check| check.healthy);
    if global.json {
        println!("{}", serde_json::to_string_pretty(&checks).map_err(anyhow::Error::from)?);
    } else {
        let mut table = Builder::default();
        table.push_record(["what", "healthy", "detail"]);
        for check in &checks {
            table.push_record([
                check.what.as_str(),
                if check.healthy { "yes" } else { "NO" },
                check.detail.as_str(),
            ]);
        }
        println!("{}", table.build().with(Style::sharp()));
    }
    Ok(if healthy { Exit::Pass } else { Exit::Fail })
}
