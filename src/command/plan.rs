//! `mettle plan`: what a run would do now. Changes nothing.

use crate::cli::{Global, PlanArgs};
use crate::command::{CommandResult, Failure, files, session};
use crate::exit::Exit;
use crate::model::{Plan, RunId, Seed};
use crate::run::{World, resolve};

pub async fn execute(global: &Global, args: &PlanArgs) -> CommandResult {
    let loaded = files::load(&args.files)?;
    let session = session::open(global).await?;
    let seed = args.seed.map_or_else(|| Seed(rand::random()), Seed);
    let world = session.world().await?;
    let snapshot = world.snapshot().await.map_err(|error| Failure::new(Exit::SetUp, error))?;
    let run = RunId("plan".to_owned());
    let mut plans = Vec::with_capacity(loaded.len());
    for one in &loaded {
        let plan = resolve(&one.experiment.unrolled(seed), &run, seed, &snapshot).map_err(|error| {
            let error = anyhow::Error::new(error).context(one.path.display().to_string());
            Failure::new(Exit::Usage, error)
                .hint("`mettle status` shows what stands; selectors are in docs/experiments.md")
        })?;
        plans.push(plan);
    }
    if global.json {
        let text = serde_json::to_string_pretty(&plans).map_err(anyhow::Error::from)?;
        println!("{text}");
    } else {
        plans.iter().for_each(|plan| print!("{}", text_of(plan)));
    }
    Ok(Exit::Pass)
}

/// For people. Roles are resolved again at injection: what stands here is how they are now.
pub fn text_of(plan: &Plan) -> String {
    use std::fmt::Write;
    let mut text = format!("experiment {}, seed {}\n", plan.experiment, plan.seed);
    let limits = &plan.limits;
    let _ = writeln!(
        text,
        "  limits: at most {} pods, {} nodes, {} workloads, {} other objects, {} % of a component",
        limits.pods, limits.nodes, limits.workloads, limits.objects, limits.share_percent
    );
    let _ = writeln!(text, "  in namespaces: {}", limits.namespaces.join(", "));
    for fault in &plan.faults {
        let _ = writeln!(
            text,
            "  fault {} {} at {} s, held {} s",
            fault.index,
            fault.kind.as_str(),
            fault.at_ms / 1000,
            fault.hold_ms / 1000
        );
        for change in &fault.changes {
            let target = &change.target;
            let on = target.node.as_deref().unwrap_or("no node");
            let _ = writeln!(text, "    target: {} on {on}", target.object);
            let _ = writeln!(text, "    because: {}", target.because);
            let _ = writeln!(text, "    change: {}", change.change.describe());
            let _ = writeln!(text, "    undo:   {}", change.undo.describe());
        }
    }
    text
}
