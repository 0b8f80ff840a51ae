//! `mettle plan`: what a run would do now. Changes nothing.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::{Global, PlanArgs};
use crate::command::files::{NamedBy, usage};
use crate::command::script::Loaded as Script;
use crate::command::{CommandResult, Failure, files, script, session, translate};
use crate::exit::Exit;
use crate::fault::PlanError;
use crate::foreign::Tool;
use crate::model::{Deed, Plan, Rehearsal, RunId, Seed, Snapshot, parse_yaml, read_text};
use crate::run::{World, resolve, resolve_rehearsal, resolve_script};

/// The files, by what they are.
#[derive(Default)]
struct Asked {
    experiments: Vec<files::Loaded>,
    rehearsals: Vec<(PathBuf, Rehearsal)>,
    scripts: Vec<Script>,
}

pub async fn execute(global: &Global, args: &PlanArgs) -> CommandResult {
    let asked = read(args)?;
    let seed = args.seed.map_or_else(|| Seed(rand::random()), Seed);
    let touches = |one: &Script| one.script.faults().next().is_some();
    let snapshot = if asked.experiments.is_empty()
        && asked.rehearsals.is_empty()
        && !asked.scripts.iter().any(touches)
    {
        // Nothing is to be found in a cluster.
        Snapshot::default()
    } else {
        let session = session::open(global).await?;
        let world = session.world().await?;
        world.snapshot().await.map_err(|error| Failure::new(Exit::SetUp, error))?
    };
    let run = RunId("plan".to_owned());
    let refused = |path: &PathBuf| {
        let path = path.display().to_string();
        move |error: PlanError| {
            let error = anyhow::Error::new(error).context(path);
            Failure::new(Exit::Usage, error)
                .hint("`mettle status` shows what stands; selectors are in docs/experiments.md")
        }
    };
    let (mut values, mut texts) = (Vec::new(), Vec::new());
    let mut plan_of = |plan: &Plan, text: String| {
        values.push(json!(plan));
        texts.push(text);
    };
    for one in &asked.experiments {
        let plan =
            resolve(&one.experiment.unrolled(seed), &run, seed, &snapshot).map_err(refused(&one.path))?;
        plan_of(&plan, text_of(&plan));
    }
    for (path, rehearsal) in &asked.rehearsals {
        let plan = resolve_rehearsal(rehearsal, &run, seed, &snapshot).map_err(refused(path))?;
        plan_of(&plan, rehearsal_text(rehearsal, &plan));
    }
    for one in &asked.scripts {
        let plan =
            resolve_script(&one.script, &one.name, &run, seed, &snapshot).map_err(refused(&one.path))?;
        let lines = script_lines(&one.script, &plan);
        values.push(script_value(&plan, &lines));
        texts.push(script_text(&plan, &lines));
    }
    if global.json {
        let text = serde_json::to_string_pretty(&values).map_err(anyhow::Error::from)?;
        println!("{text}");
    } else {
        texts.iter().for_each(|text| print!("{text}"));
    }
    Ok(Exit::Pass)
}

fn read(args: &PlanArgs) -> Result<Asked, Failure> {
    let mut asked = Asked::default();
    let mut ours = Vec::new();
    for file in &args.files {
        let text = read_text(file).map_err(|error| usage(error, NamedBy::Caller))?;
        // What is no YAML is told by who reads our own files.
        let value = parse_yaml::<Value>(file, &text).unwrap_or_default();
        match Tool::of(&value) {
            Some(Tool::ChaosToolkit) => asked.scripts.extend(script::read(file)?),
            Some(Tool::ChaosMesh) => asked.rehearsals.push((file.clone(), translate::rehearsal(file)?)),
            None if value.get("rehearsal").is_some() => {
                asked.rehearsals.push((file.clone(), translate::rehearsal(file)?));
            }
            None => ours.push(file.clone()),
        }
    }
    asked.experiments = files::load(&ours)?;
    Ok(asked)
}

/// For people. Roles are resolved again at injection: what stands here is how they are now.
pub fn text_of(plan: &Plan) -> String {
    let mut text = head("experiment", plan);
    for fault in &plan.faults {
        let _ = writeln!(
            text,
            "  fault {} {} at {} s, held {} s",
            fault.index,
            fault.kind.as_str(),
            fault.at_ms / 1000,
            fault.hold_ms / 1000
        );
        changes(&mut text, plan, fault.index);
    }
    text
}

fn head(what: &str, plan: &Plan) -> String {
    let limits = &plan.limits;
    format!(
        "{what} {}, seed {}\n  limits: at most {} pods, {} nodes, {} workloads, {} other objects, {} % of a component\n  \
         in namespaces: {}\n",
        plan.experiment,
        plan.seed,
        limits.pods,
        limits.nodes,
        limits.workloads,
        limits.objects,
        limits.share_percent,
        limits.namespaces.join(", ")
    )
}

fn changes(text: &mut String, plan: &Plan, index: usize) {
    for change in plan.faults.iter().filter(|fault| fault.index == index).flat_map(|fault| &fault.changes) {
        let target = &change.target;
        let on = target.node.as_deref().unwrap_or("no node");
        let _ = writeln!(text, "    target: {} on {on}", target.object);
        let _ = writeln!(text, "    because: {}", target.because);
        let _ = writeln!(text, "    change: {}", change.change.describe());
        let _ = writeln!(text, "    undo:   {}", change.undo.describe());
    }
}

/// One after another, so that times have no meaning; or as a schedule, like an experiment.
fn rehearsal_text(rehearsal: &Rehearsal, plan: &Plan) -> String {
    if rehearsal.schedule {
        return text_of(plan).replacen("experiment", "rehearsal", 1);
    }
    let mut text = head("rehearsal", plan);
    for fault in &plan.faults {
        let _ = writeln!(text, "  fault {} {}, by itself", fault.index, fault.kind.as_str());
        changes(&mut text, plan, fault.index);
    }
    text
}

/// One step of a script, and what of the plan belongs to it.
struct Line {
    when: &'static str,
    text: String,
    fault: Option<usize>,
}

fn script_lines(script: &crate::model::Script, plan: &Plan) -> Vec<Line> {
    let describe = |activity: &crate::model::Activity| {
        format!("{}: {}", script.hidden.scrub(&activity.name), activity.describe(&script.hidden))
    };
    let probes = |when| {
        script.probes.iter().map(move |probe| {
            let must = script.hidden.scrub(&probe.tolerance.describe());
            Line { when, text: format!("{}; the answer {must}", describe(&probe.activity)), fault: None }
        })
    };
    let method = script.method.iter().map(|activity| {
        let index = match &activity.deed {
            Deed::Fault { index, .. } => Some(*index).filter(|index| plan.faults.len() > *index),
            _ => None,
        };
        let until = if matches!(&activity.deed, Deed::Fault { spec, .. } if spec.kind.shape().held) {
            ", held until it is taken back, or the end"
        } else {
            ""
        };
        Line { when: "method", text: format!("{}{until}", describe(activity)), fault: index }
    });
    let rollbacks = script.rollbacks.iter().map(|activity| Line {
        when: "rollback",
        text: describe(activity),
        fault: None,
    });
    probes("before").chain(method).chain(probes("after")).chain(rollbacks).collect()
}

fn script_value(plan: &Plan, lines: &[Line]) -> Value {
    let mut value = json!(plan);
    value["script"] = lines.iter().map(|line| json!({ "when": line.when, "does": line.text })).collect();
    value
}

fn script_text(plan: &Plan, lines: &[Line]) -> String {
    let mut text = head("script", plan);
    for line in lines {
        let _ = writeln!(text, "  {:<8}  {}", line.when, line.text);
        if let Some(index) = line.fault {
            changes(&mut text, plan, index);
        }
    }
    text
}
