//! `kill -9` at every journal append, and at every call of the cluster before and after it took effect: a fresh
//! process reverts, and the cluster is what it was.

mod fake;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fake::{
    Behaviour, FakeWorld, Meddling, Points, SETTLE, Stage, Trip, equal_but_for_replaced, object_before, small,
};
use mettle::exit::Exit;
use mettle::model::{Change, Experiment, FaultKind, On, OnConflict, RunOutcome, Store, UNDO_ANNOTATION};
use mettle::run::{
    Entry, Hook, Journal, Recorder, Reverted, RunClock, World, find_unreverted, open_changes, revert_all,
};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime")
}

fn kill_backend() -> Experiment {
    small(json!([{"kind": "pod-kill", "target": {"component": "backend"}}]))
}

fn kill_node() -> Experiment {
    small(json!([{"kind": "node-kill", "target": {"node": "n2"}, "holdSeconds": 15}]))
}

fn pause_redis() -> Experiment {
    small(
        json!([{"kind": "process-pause", "target": {"component": "redis", "role": "primary"}, "holdSeconds": 12}]),
    )
}

/// Two changes in one fault, one fault that ends on its own before the others, and all kinds.
fn several() -> Experiment {
    small(json!([
        {"kind": "pod-kill", "target": {"component": "backend", "count": 2}},
        {"kind": "process-pause", "target": {"component": "redis", "role": "replica"}, "atSeconds": 2, "holdSeconds": 3},
        {"kind": "node-kill", "target": {"node": "n2"}, "atSeconds": 8, "holdSeconds": 15},
    ]))
}

/// Runs until it ends or is killed: whether it was killed. Nothing of the process is left afterwards.
fn run(stage: &Stage) -> bool {
    let runtime = runtime();
    let killed = runtime.block_on(async {
        tokio::select! {
            _ = stage.run() => false,
            () = stage.world.points().killed() => true,
        }
    });
    runtime.shutdown_background();
    killed
}

async fn revert(world: &FakeWorld, journal: &Path) -> Reverted {
    revert_with(world, journal, OnConflict::Tell).await
}

async fn revert_with(world: &FakeWorld, journal: &Path, on_conflict: OnConflict) -> Reverted {
    let mut journal = Journal::open(journal, None).expect("it can be opened");
    let recorder = Recorder::in_memory(RunClock::start());
    revert_all(world, &mut journal, &recorder, on_conflict).await.expect("it can be read")
}

/// What `mettle revert` does, and whether the cluster is what it was before the run; how many were undone.
fn assert_reverts(stage: &Stage, point: &str) -> usize {
    let directory = stage.journal.parent().expect("it has one");
    let none: [PathBuf; 0] = [];
    runtime().block_on(async {
        let world = stage.world.attach();
        let mut undone = 0;
        for journal in find_unreverted(directory).expect("they can be read") {
            let reverted = revert(&world, &journal).await;
            assert!(reverted.open.is_empty(), "{point}: {reverted:?}");
            undone += reverted.undone.len();
            assert_eq!(revert(&world, &journal).await, Reverted::default(), "{point}: again is a no-op");
        }
        assert_eq!(find_unreverted(directory).expect("they can be read"), none, "{point}");
        assert!(world.residue().await.expect("it answers").is_empty(), "{point}");
        tokio::time::sleep(SETTLE).await;
        let deleted: BTreeSet<String> = world.with(|state| {
            let changes = state.applied.iter().filter_map(|change| match change {
                Change::DeletePod { pod, .. } | Change::EvictPod { pod, .. } => Some(pod.uid.clone()),
                _ => None,
            });
            changes.collect()
        });
        world.with(|state| {
            for (object, value) in &state.objects {
                assert_eq!(*value, object_before(object), "{point}: {object}");
            }
            // What a command did once and for all has no inverse.
            let lasting = stage.experiment.faults.iter().all(|fault| fault.kind.shape().held);
            let commands = state.commands.iter().filter(|_| lasting).count();
            assert_eq!(
                (state.made.len(), commands),
                (0, 0),
                "{point}: {:?} {:?}",
                state.made,
                state.commands
            );
        });
        equal_but_for_replaced(&stage.before, &world.look(), &deleted)
            .unwrap_or_else(|difference| panic!("{point}: {difference}"));
        undone
    })
}

/// Kills the run at each of its points; gives their number.
fn kill_everywhere(experiment: &Experiment, changes: usize) -> usize {
    let whole = Stage::new(experiment.clone(), Behaviour::default());
    assert!(!run(&whole));
    let points = whole.world.points();
    let names = points.passed();
    for (name, count) in [
        ("journal:opened", 1),
        ("journal:intended", changes),
        ("apply:before", changes),
        ("apply:after", changes),
        ("journal:applied", changes),
        ("undo:before", changes),
        ("undo:after", changes),
        ("journal:reverted", changes),
        ("journal:closed", 1),
        ("residue:before", 1),
        ("residue:after", 1),
        ("snapshot:before", 1 + experiment.faults.len()),
        ("snapshot:after", 1 + experiment.faults.len()),
        // Every store is read back.
        ("found:before", Store::ALL.len()),
        ("found:after", Store::ALL.len()),
    ] {
        assert_eq!(points.count(name), count, "{name}");
    }
    let (mut tested, mut undone) = (0, 0);
    for (i, name) in names.iter().enumerate() {
        let point = format!("point {} of {}: {name}", i + 1, names.len());
        let stage =
            Stage::with_points(experiment.clone(), Behaviour::default(), Points::new(Trip::KillAt(i + 1)));
        assert!(run(&stage), "{point} was not reached");
        assert_eq!(stage.world.points().passed(), names[..=i], "{point}");
        undone += assert_reverts(&stage, &point);
        tested += 1;
    }
    assert!(undone > 4 * changes, "most points leave something to be undone: {undone}");
    assert_eq!(tested, 7 * changes + 4 + 2 * experiment.faults.len() + 2 + 2 * Store::ALL.len());
    tested
}

#[test]
fn a_killed_pod_comes_back_wherever_the_run_dies() {
    assert_eq!(kill_everywhere(&kill_backend(), 1), 23);
}

#[test]
fn a_killed_node_comes_back_wherever_the_run_dies() {
    assert_eq!(kill_everywhere(&kill_node(), 1), 23);
}

#[test]
fn a_paused_process_goes_on_wherever_the_run_dies() {
    assert_eq!(kill_everywhere(&pause_redis(), 1), 23);
}

#[test]
fn several_faults_are_reverted_wherever_the_run_dies() {
    assert_eq!(kill_everywhere(&several(), 4), 48);
}

/// One fault of the kind, on something that the in-memory cluster has, with what it needs.
fn one(kind: FaultKind) -> Experiment {
    use FaultKind::{NodeDrain, PgbouncerPause, RedisFailover};
    let name = kind.as_str();
    let of_prefix =
        ["postgres", "redis", "rabbitmq"].into_iter().find(|component| name.starts_with(component));
    let target = match kind.shape().on {
        On::Cluster => json!({}),
        _ if kind == FaultKind::ZoneLoss => json!({ "zone": "a" }),
        On::Nodes => json!({ "node": "n2" }),
        On::Objects => json!({ "component": "inference" }),
        On::Workloads => json!({ "component": "redis" }),
        On::Pods if kind == PgbouncerPause => json!({ "component": "pgbouncer" }),
        On::Pods if kind == RedisFailover => json!({ "component": "redis", "role": "replica" }),
        On::Pods => json!({ "component": of_prefix.unwrap_or("redis") }),
    };
    let mut with = serde_json::Map::new();
    for field in kind.shape().needs {
        let value = match *field {
            "path" => json!("/data"),
            "address" => json!("192.0.2.1"),
            "secret" => json!("a-certificate"),
            _ => json!(50),
        };
        with.insert((*field).to_owned(), value);
    }
    let mut fault = json!({ "kind": name, "target": target, "with": with });
    if kind.shape().held {
        fault["holdSeconds"] = json!(8);
    }
    let mut experiment = small(json!([fault]));
    let limits = &mut experiment.limits;
    (limits.workloads, limits.objects, limits.control_plane) = (2, 3, true);
    limits.pods = if kind == NodeDrain { 9 } else { 3 };
    experiment
}

/// The whole catalogue: whatever is broken, and wherever the run dies, nothing is left.
#[test]
fn every_fault_is_reverted_wherever_the_run_dies() {
    for kind in FaultKind::ALL {
        let experiment = one(*kind);
        let whole = Stage::new(experiment.clone(), Behaviour::default());
        assert!(!run(&whole));
        let changes = whole.world.points().count("apply:after");
        assert!(changes > 0, "{} changed nothing", kind.as_str());
        kill_everywhere(&experiment, changes);
    }
}

/// Whatever becomes of a target while its fault is on, nothing is left of the fault, and nothing comes over those who
/// took its place: whether the run reverts it, or another process after its death.
#[test]
fn a_target_that_does_not_stay_is_no_obstacle() {
    for (kind, meddling) in
        FaultKind::ALL.iter().flat_map(|kind| Meddling::ALL.map(|meddling| (*kind, meddling)))
    {
        let what = format!("{} {meddling:?}", kind.as_str());
        let behaviour = Behaviour { meddling: Some(meddling), ..Behaviour::default() };
        let whole = Stage::new(one(kind), behaviour.clone());
        let ran = runtime().block_on(whole.run());
        assert_eq!(ran.report.residue, [] as [&str; 0], "{what}");
        assert_nothing_left(&whole, &whole.world, &what);

        let names = whole.world.points().passed();
        let at = names.iter().position(|name| name == "journal:applied").expect("it was applied") + 1;
        let stage = Stage::with_points(one(kind), behaviour, Points::new(Trip::KillAt(at)));
        assert!(run(&stage), "{what}");
        runtime().block_on(async {
            let world = stage.world.attach();
            tokio::time::sleep(Duration::from_secs(2)).await;
            let reverted = revert(&world, &stage.journal).await;
            assert!(reverted.open.is_empty() && !reverted.undone.is_empty(), "{what}: {reverted:?}");
            assert_eq!(revert(&world, &stage.journal).await, Reverted::default(), "{what}");
            assert!(world.residue().await.expect("it answers").is_empty(), "{what}");
            tokio::time::sleep(SETTLE).await;
            assert_nothing_left(&stage, &world, &what);
        });
    }
}

fn assert_nothing_left(stage: &Stage, world: &FakeWorld, what: &str) {
    let directory = stage.journal.parent().expect("it has one");
    assert_eq!(find_unreverted(directory).expect("they can be read"), [] as [PathBuf; 0], "{what}");
    world.with(|state| {
        assert!(state.agents.is_empty() && state.made.is_empty() && state.stopped.is_empty(), "{what}");
        for (object, value) in &state.objects {
            assert_eq!(*value, object_before(object), "{what}: {object}");
        }
        // What a command did once and for all has no inverse.
        if stage.experiment.faults[0].kind.shape().held {
            assert!(state.commands.is_empty(), "{what}: {:?}", state.commands);
        }
        let broken = state.pods.iter().find(|pod| pod.paused || !pod.ready || !pod.running);
        assert!(broken.is_none(), "{what}: {broken:?}");
        let (there, wanted) = (state.pods.len(), stage.before.pods.len());
        assert_eq!(there, wanted, "{what}: every pod has one that took its place");
    });
}

/// Somebody scales what we scaled, while our harness is dead: only a person may decide whose word counts.
#[test]
fn a_conflict_stays_open_until_a_person_decides() {
    for (decision, replicas, says) in [
        (OnConflict::Overwrite, 3, "forced: /spec/replicas was 7, and is 3 again"),
        (OnConflict::Accept, 7, "abandoned: /spec/replicas is no longer 0"),
    ] {
        let experiment = one(FaultKind::ScaleDown);
        let whole = Stage::new(experiment.clone(), Behaviour::default());
        assert!(!run(&whole));
        let names = whole.world.points().passed();
        let at = names.iter().position(|name| name == "journal:applied").expect("it was applied") + 1;
        let stage = Stage::with_points(experiment, Behaviour::default(), Points::new(Trip::KillAt(at)));
        assert!(run(&stage));
        runtime().block_on(async {
            let world = stage.world.attach();
            world.with(|state| {
                for object in state.objects.values_mut() {
                    let note = object["metadata"]["annotations"][UNDO_ANNOTATION].as_str().expect("a note");
                    assert!(note.contains(r#""run":"r1""#), "{note}");
                    object["spec"]["replicas"] = json!(7);
                }
            });
            for _ in 0..2 {
                let told = revert(&world, &stage.journal).await;
                assert!(told.undone.is_empty() && told.open.len() == 1 && told.has_conflict(), "{told:?}");
            }
            assert_eq!(world.residue().await.expect("it answers").len(), 1);
            let decided = revert_with(&world, &stage.journal, decision).await;
            assert_eq!((decided.undone, decided.open.len()), (vec![says.to_owned()], 0));
            assert_eq!(revert(&world, &stage.journal).await, Reverted::default());
            assert!(world.residue().await.expect("it answers").is_empty());
            world.with(|state| {
                for object in state.objects.values() {
                    assert_eq!(object["spec"]["replicas"], replicas);
                    assert!(object["metadata"].get("annotations").is_none(), "{object}");
                }
            });
        });
    }
}

#[test]
fn a_line_that_was_cut_by_the_crash_is_no_obstacle() {
    let whole = Stage::new(several(), Behaviour::default());
    assert!(!run(&whole));
    let names = whole.world.points().passed();
    let at = names.iter().rposition(|name| name == "apply:after").expect("there is one") + 1;
    // Cut within a word, and within a character.
    for torn in [&b"{\"entry\":\"appl"[..], "{\"entry\":\"é".as_bytes().split_last().expect("bytes").1] {
        let stage = Stage::with_points(several(), Behaviour::default(), Points::new(Trip::KillAt(at)));
        assert!(run(&stage));
        let mut file = std::fs::OpenOptions::new().append(true).open(&stage.journal).expect("it is there");
        file.write_all(torn).expect("it is written");
        // The pause was reverted at its own end.
        assert_eq!(assert_reverts(&stage, "torn"), 3);
    }
}

/// A journal in memory that takes no more after `full_after` entries.
fn journal_that_fills(full_after: usize) -> (std::os::fd::OwnedFd, PathBuf, Hook) {
    use std::os::fd::AsRawFd;
    let file = memfd_create("journal", MFdFlags::MFD_ALLOW_SEALING).expect("a file in memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let (seal, count) = (file.try_clone().expect("it is open"), Arc::new(std::sync::Mutex::new(0)));
    let seal = Arc::new(seal);
    let hook: Hook = Arc::new(move |_: &Entry| {
        let mut count = count.lock().expect("no panic holds it");
        *count += 1;
        if *count == full_after {
            fcntl(&*seal, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_GROW)).expect("it is sealed");
        }
        Box::pin(async {})
    });
    (file, path, hook)
}

#[test]
fn what_the_journal_does_not_take_is_not_done() {
    // After `opened`: no change is made. After `opened`, `intended`, `applied`: no second change, the first is
    // undone though that cannot be written, and the run says so.
    for (full_after, applied, exit) in [(1, 0, Exit::SetUp), (3, 1, Exit::RevertIncomplete)] {
        let mut stage = Stage::new(several(), Behaviour::default());
        let (_file, path, hook) = journal_that_fills(full_after);
        (stage.journal, stage.hook) = (path, Some(hook));
        let ran = runtime().block_on(stage.run());
        assert_eq!((ran.applied, ran.exit), (applied, exit), "{:?}", ran.report.residue);
        let RunOutcome::Broken(why) = &ran.report.outcome else { panic!("{:?}", ran.report.outcome) };
        assert!(why.starts_with("failed to write journal "), "{why}");
        assert_eq!(open_changes(&stage.journal).expect("whole lines only").len(), applied);
        assert_eq!(ran.report.residue.len(), applied);
        let says = "but the journal does not say so";
        assert!(ran.report.residue.iter().all(|line| line.contains(says)), "{:?}", ran.report.residue);
    }
    // It cannot even be created.
    let mut stage = Stage::new(kill_backend(), Behaviour::default());
    let file = stage.directory.path().join("file");
    std::fs::write(&file, "").expect("it is written");
    stage.journal = file.join("journal.jsonl");
    let ran = runtime().block_on(stage.run());
    assert_eq!((ran.applied, ran.exit), (0, Exit::SetUp));
}
