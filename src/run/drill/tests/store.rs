//! A database in memory, with a backup and an archive, and a load of forty requests a second on it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::StoreMembers;
use crate::component::Moment;
use crate::ledger::Found;
use crate::model::{
    Change, ClaimRef, Component, Fact, LoadSecond, OnConflict, OpId, Operation, OperationOutcome, PodInfo,
    Role, RoleFact, RunId, Snapshot, Store, Undo, Watch,
};
use crate::run::{DrillWorld, Load, LoadStart, Recorder, RunningLoad, Undone, World, WorldError};

/// How the store, its backup and its restore behave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    Good,
    /// The restore ends well and gives an empty database.
    Nothing,
    /// `latest` ends so long before the destruction.
    Archive {
        behind_ms: u64,
    },
    /// A moment is missed by so much.
    Moment {
        off_ms: i64,
    },
    RestoreFails {
        times: u32,
    },
    RestoreHangs,
    BackupFails,
    FewWrites,
    LedgerUnreadable,
    /// One acknowledged write in fifty never was there.
    LosesBefore,
    ArchiveStandsStill,
    DoesNotBite,
    MemberStaysAway,
    ServesErrors,
    NotAllowed,
    NoVolumes,
    /// The owner of a member says that nobody may touch it.
    Protected,
}

struct State {
    /// When each row was committed, ms.
    rows: BTreeMap<OpId, u64>,
    /// All that was ever committed, as backup and archive have it.
    kept: BTreeMap<OpId, u64>,
    up: bool,
    destroyed_ms: Option<u64>,
    restores: u32,
    restored: bool,
}

pub struct FakeStore {
    way: Way,
    origin: Instant,
    state: Mutex<State>,
}

const ARCHIVE_MS: u64 = 5000;

impl FakeStore {
    pub fn new(way: Way) -> Self {
        let state = State {
            rows: BTreeMap::new(),
            kept: BTreeMap::new(),
            up: true,
            destroyed_ms: None,
            restores: 0,
            restored: false,
        };
        Self { way, origin: Instant::now(), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap()
    }

    pub fn is_up(&self) -> bool {
        self.lock().up
    }

    pub fn is_untouched(&self) -> bool {
        self.lock().destroyed_ms.is_none()
    }

    fn write(&self, id: OpId) -> OperationOutcome {
        let now_ms = self.now_ms();
        let mut state = self.lock();
        if !state.up || (self.way == Way::ServesErrors && state.restored && now_ms % 200 < 100) {
            return OperationOutcome::Failed;
        }
        if self.way == Way::LosesBefore && state.kept.len() % 50 == 49 {
            state.kept.insert(OpId::new(&format!("skip-{now_ms}")), now_ms);
            return OperationOutcome::Ok;
        }
        state.rows.insert(id, now_ms);
        state.kept.insert(id, now_ms);
        OperationOutcome::Ok
    }

    /// What the restore gives, by the parameters of its job.
    fn reached(&self, state: &State, target: &str) -> BTreeMap<OpId, u64> {
        let destroyed_ms = state.destroyed_ms.unwrap_or(u64::MAX);
        let until_ms = match (self.way, target.parse::<u64>()) {
            (Way::Nothing, _) => return BTreeMap::new(),
            (Way::Moment { off_ms }, Ok(at_ms)) => at_ms.saturating_add_signed(off_ms),
            (_, Ok(at_ms)) => at_ms,
            (Way::Archive { behind_ms }, Err(_)) => destroyed_ms.saturating_sub(behind_ms),
            (_, Err(_)) => destroyed_ms.saturating_sub(ARCHIVE_MS),
        };
        state.kept.iter().filter(|(_, at_ms)| **at_ms <= until_ms).map(|(id, at)| (*id, *at)).collect()
    }
}

impl World for FakeStore {
    async fn snapshot(&self) -> Result<Snapshot, WorldError> {
        let label = match self.way {
            Way::NotAllowed => "no",
            _ => "allowed",
        };
        let labels = BTreeMap::from([("mettle.dev/chaos".to_owned(), label.to_owned())]);
        let primary = RoleFact {
            component: Component::Postgres,
            role: Role::Primary,
            pod: "p-0".to_owned(),
            slots: Vec::new(),
            leads: Vec::new(),
            follows: Vec::new(),
            source: String::new(),
        };
        Ok(Snapshot {
            namespaces: BTreeMap::from([("a".to_owned(), labels)]),
            roles: vec![primary],
            ..Snapshot::default()
        })
    }

    async fn apply(&self, _run: &RunId, _change: &Change, _recorder: &Recorder) -> Result<(), WorldError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let now_ms = self.now_ms();
        let mut state = self.lock();
        state.destroyed_ms = Some(now_ms);
        if self.way != Way::DoesNotBite {
            state.up = false;
            state.rows.clear();
        }
        Ok(())
    }

    async fn undo(&self, undo: &Undo, _on_conflict: OnConflict) -> Result<Undone, WorldError> {
        let Undo::RestoreStore { restore } = undo else {
            return Err(WorldError::new("only restores are undone here"));
        };
        if self.way == Way::RestoreHangs {
            std::future::pending::<()>().await;
        }
        let retried = self.lock().restores > 0;
        let parameters = if retried { &restore.fallback } else { &restore.parameters };
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut state = self.lock();
        state.restores += 1;
        if matches!(self.way, Way::RestoreFails { times } if state.restores <= times) {
            return Err(WorldError::new("failed to run job drill-r-restore: the archive has a hole"));
        }
        if self.way != Way::DoesNotBite {
            state.rows = self.reached(&state, &parameters["TARGET"]);
        }
        (state.up, state.restored) = (true, true);
        Ok(Undone::Reverted("ok: the database is back".to_owned()))
    }

    async fn residue(&self) -> Result<Vec<String>, WorldError> {
        Ok(Vec::new())
    }

    async fn observe(&self, _watch: Watch, _recorder: Recorder, end: CancellationToken) {
        end.cancelled().await;
    }

    async fn found(&self, _store: Store, _run: &RunId) -> Result<Found, WorldError> {
        let state = self.lock();
        if !state.up || self.way == Way::LedgerUnreadable {
            return Err(WorldError::new("no leader to read from: 42P01"));
        }
        Ok(Found::of_ids(state.rows.keys().copied().collect()))
    }
}

impl DrillWorld for FakeStore {
    async fn members(&self, _store: Store) -> Result<StoreMembers, WorldError> {
        let claim = |name: &str| ClaimRef { namespace: "a".into(), name: name.into(), uid: "u".into() };
        let pod = PodInfo {
            namespace: "a".to_owned(),
            name: "p-0".to_owned(),
            uid: "u".to_owned(),
            node: None,
            ip: None,
            ready: true,
            terminating: false,
            component: Some(Component::Postgres),
            labels: (self.way == Way::Protected)
                .then(|| ("mettle.dev/protected".to_owned(), "true".to_owned()))
                .into_iter()
                .collect(),
            controller: None,
            containers: BTreeMap::new(),
        };
        Ok(StoreMembers {
            pods: vec![pod],
            claims: ["d-0", "d-1", "d-2"].map(claim).to_vec(),
            want: 3,
            ready: 3,
            short_of_volumes: (self.way == Way::NoVolumes)
                .then(|| "1 volumes are free, 3 are needed".to_owned()),
        })
    }

    async fn in_sync(&self, _store: Store) -> Result<(u32, u32), WorldError> {
        let away = self.way == Way::MemberStaysAway && self.lock().restored;
        Ok((if away { 2 } else { 3 }, 3))
    }

    async fn back_up(&self, _store: Store, _job: &str) -> Result<String, WorldError> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        if self.way == Way::BackupFails {
            return Err(WorldError::new("the backup job failed: verify found damage"));
        }
        Ok("ok: backup 1".to_owned())
    }

    async fn moment(&self, _store: Store) -> Result<Moment, WorldError> {
        let (now_ms, segment) = (self.now_ms(), |ms: u64| format!("{:024X}", ms / 1000));
        let archived = match self.way {
            Way::ArchiveStandsStill => segment(0),
            _ => segment(now_ms.saturating_sub(ARCHIVE_MS)),
        };
        Ok(Moment {
            time: now_ms.to_string(),
            bytes: 1000,
            segment: segment(now_ms),
            archived: Some(archived),
        })
    }
}

pub struct FakeLoad(pub Arc<FakeStore>);

pub struct Running {
    sent: Arc<Mutex<Vec<Operation>>>,
    task: JoinHandle<()>,
    out: PathBuf,
}

impl Load for FakeLoad {
    type Running = Running;

    async fn start(&self, start: LoadStart, recorder: Recorder) -> Result<Running, WorldError> {
        let sent: Arc<Mutex<Vec<Operation>>> = Arc::default();
        let task = tokio::spawn(drive(self.0.clone(), sent.clone(), recorder, start.run));
        Ok(Running { sent, task, out: start.out })
    }
}

impl RunningLoad for Running {
    async fn operations(&mut self) -> Result<Vec<Operation>, WorldError> {
        Ok(self.sent.lock().unwrap().clone())
    }

    async fn ended(&mut self) -> Option<String> {
        None
    }

    async fn step(&mut self, _up: bool) -> Result<(), WorldError> {
        Err(WorldError::new("no drill takes a step"))
    }

    async fn stop(self, _deadline: Duration) -> Result<Vec<Operation>, WorldError> {
        self.task.abort();
        let operations = std::mem::take(&mut *self.sent.lock().unwrap());
        let lines = operations.iter().map(|one| serde_json::to_string(one).unwrap() + "\n");
        std::fs::write(self.out.join("operations.jsonl"), lines.collect::<String>()).unwrap();
        Ok(operations)
    }
}

/// Reads and writes in turn, one every 25 ms.
async fn drive(store: Arc<FakeStore>, sent: Arc<Mutex<Vec<Operation>>>, recorder: Recorder, run: RunId) {
    let mut tick = tokio::time::interval(Duration::from_millis(25));
    for number in 0_u64.. {
        tick.tick().await;
        let now_ms = recorder.clock().now_ms();
        if number.is_multiple_of(40) {
            recorder.record(Fact::Load(LoadSecond { at_ms: now_ms, intended: 40, ..LoadSecond::default() }));
        }
        let writes = number.is_multiple_of(2) && (store.way != Way::FewWrites || number.is_multiple_of(400));
        let id = writes.then(|| OpId::new(&format!("{run}-{number}")));
        let outcome = match &id {
            Some(id) => store.write(*id),
            None if store.is_up() => OperationOutcome::Ok,
            None => OperationOutcome::Failed,
        };
        let operation = Operation {
            writes: id.map(|_| Store::Postgres).into(),
            reads: None,
            id,
            step: "j.s".into(),
            intended_us: now_ms * 1000,
            sent_us: now_ms * 1000,
            done_us: now_ms * 1000,
            outcome,
            error: None,
            status: None,
            degraded: false,
            seen: None,
        };
        sent.lock().unwrap().push(operation);
    }
}
