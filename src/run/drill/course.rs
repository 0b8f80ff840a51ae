//! The course of a drill, step by step.

use std::time::Duration;

use tokio::time::Instant;

use super::{Course, DrillWorld, Drilling, End, chain};
use crate::component::Moment;
use crate::ledger::{Found, acknowledged_between};
use crate::model::{
    Change, DrillMethod, DrillTarget, Fact, OnConflict, OpId, Operation, OperationOutcome, Phase, Store,
    Undo, Window,
};
use crate::run::{Entry, Journal, Load, RunningLoad, Undone, all_restored};

const APPLY_DEADLINE: Duration = Duration::from_secs(90);
/// The restore job, the members before and after it.
const RESTORE_DEADLINE: Duration = Duration::from_secs(1400);
const READ_DEADLINE: Duration = Duration::from_secs(60);
/// A segment is archived after a minute at the latest.
const ARCHIVE_DEADLINE: Duration = Duration::from_secs(150);
/// Until an empty Redis Cluster has found itself together, it cannot say what it holds.
const LOOK_DEADLINE: Duration = Duration::from_secs(90);
/// A database that is gone stays silent: so long is waited for another word.
const SILENCE: Duration = Duration::from_secs(10);
/// Members that copy what the first has.
const WHOLE_SLACK: Duration = Duration::from_secs(120);
/// Until the load is clean again; then it is judged in any case.
const SETTLE: Duration = Duration::from_secs(60);
const CLEAN_MS: u64 = 3000;
const TICK: Duration = Duration::from_secs(1);
/// What users wanted in the last second is answered, or not, shortly after it.
const DRAIN: Duration = Duration::from_millis(1200);

impl<W: DrillWorld, L: Load> Drilling<'_, W, L> {
    pub(super) async fn go(
        &self,
        load: &mut L::Running,
        course: &mut Course,
        journal: &mut Journal,
    ) -> Result<(), End> {
        let moment = self.write_and_back_up(load, course).await?;
        let undo = self.destroy(load, course, journal, moment.as_deref()).await?;
        self.look(load, course).await?;
        self.restore(course, journal, &undo).await?;
        self.await_whole(course).await?;
        self.serve(load, course).await
    }

    /// Write, back up, write on; gives the noted moment.
    async fn write_and_back_up(
        &self,
        load: &mut L::Running,
        course: &mut Course,
    ) -> Result<Option<String>, End> {
        self.phase(Phase::Baseline);
        self.write(load).await?;
        let store = self.drill.store;
        self.recorder.note(format!("backing {} up while writes go on", store.as_str()));
        course.passage.backup_us.0 = self.now_us();
        let backup = self.world.back_up(store, &self.job("backup")).await;
        course.passage.backup_us.1 = self.after_us();
        course.windows.baseline = Window { start_ms: 0, end_ms: course.passage.backup_us.0 / 1000 };
        course.backup = Some(backup.map_err(|error| error.chain()));
        match &course.backup {
            Some(Ok(said)) => self.recorder.note(format!("backed up: {said}")),
            Some(Err(why)) => return Err(End::HeldBack(format!("the backup failed: {why}"))),
            None => {}
        }
        self.write(load).await?;
        if self.drill.target == DrillTarget::Latest {
            return Ok(None);
        }
        let before_us = self.now_us();
        let moment = self.world.moment(store).await?;
        course.passage.target_us = Some((before_us, self.after_us()));
        self.recorder.note(format!("the moment is {}", moment.time));
        self.write(load).await?;
        if self.drill.method == DrillMethod::Volumes {
            self.await_archived(load).await?;
        }
        Ok(Some(moment.time))
    }

    /// A stretch of writes.
    async fn write(&self, load: &mut L::Running) -> Result<(), End> {
        let end = Instant::now() + Duration::from_secs(u64::from(self.drill.write_seconds));
        while Instant::now() < end {
            self.pause().await?;
            self.alive(load).await?;
        }
        Ok(())
    }

    async fn pause(&self) -> Result<(), End> {
        self.stop.sleep(TICK).await.map_err(|_| End::Stopped)
    }

    async fn alive(&self, load: &mut L::Running) -> Result<(), End> {
        match load.ended().await {
            Some(why) => Err(End::Broken(format!("the load ended early: {why}"))),
            None => Ok(()),
        }
    }

    /// A moment that the archive does not reach cannot be restored when every volume is lost: the drill waits, as whoever
    /// chooses a moment must.
    async fn await_archived(&self, load: &mut L::Running) -> Result<(), End> {
        let later = self.world.moment(self.drill.store).await?;
        let end = Instant::now() + ARCHIVE_DEADLINE;
        self.recorder.note("waiting until the archive holds a write from after the moment");
        loop {
            let now: Result<Moment, _> = self.world.moment(self.drill.store).await;
            if now.is_ok_and(|now| now.has_archived(&later)) {
                return Ok(());
            }
            if Instant::now() >= end {
                let seconds = ARCHIVE_DEADLINE.as_secs();
                return Err(End::HeldBack(format!(
                    "the archive did not reach the moment within {seconds} s"
                )));
            }
            self.pause().await?;
            self.alive(load).await?;
        }
    }

    /// Reads back what was acknowledged so far; nothing is destroyed when that is too little, or not all there.
    async fn hold_back(&self, load: &mut L::Running, course: &mut Course) -> Result<(), End> {
        let store = self.drill.store;
        let asked_us = self.now_us();
        let found = self.found(store).await;
        let found = found.map_err(|why| End::HeldBack(format!("the ledger could not be read: {why}")))?;
        let operations = load.operations().await?;
        let missing = acknowledged_by(&operations, store, asked_us).filter(|id| !holds(&found, *id)).count();
        course.missing_before = Some(missing as u64);
        if missing > 0 {
            return Err(End::HeldBack(format!("{missing} acknowledged writes are missing already")));
        }
        let passage = course.passage;
        let mut stretches = vec![("before the backup", 0, passage.backup_us.0)];
        match passage.target_us {
            None => stretches.push(("since the backup", passage.backup_us.1, asked_us)),
            Some((before, after)) => {
                stretches.push(("between backup and moment", passage.backup_us.1, before));
                stretches.push(("after the moment", after, asked_us));
            }
        }
        for (when, from_us, until_us) in stretches {
            let count = acknowledged_between(&operations, store, from_us, until_us);
            if count < self.drill.writes_min {
                let least = self.drill.writes_min;
                return Err(End::HeldBack(format!(
                    "{count} writes were acknowledged {when}, at least {least} are needed"
                )));
            }
        }
        Ok(())
    }

    async fn found(&self, store: Store) -> Result<Found, String> {
        match tokio::time::timeout(READ_DEADLINE, self.world.found(store, self.run)).await {
            Ok(found) => found.map_err(|error| error.chain()),
            Err(_) => Err(format!("no answer within {} s", READ_DEADLINE.as_secs())),
        }
    }

    async fn destroy(
        &self,
        load: &mut L::Running,
        course: &mut Course,
        journal: &mut Journal,
        moment: Option<&str>,
    ) -> Result<Undo, End> {
        self.hold_back(load, course).await?;
        let store = self.drill.store;
        course.bytes_before = self.world.moment(store).await.ok().map(|moment| moment.bytes);
        let snapshot = self.world.snapshot().await?;
        let members = self.world.members(store).await?;
        let (change, undo) = self.plan(&snapshot, &members, moment).map_err(End::Broken)?;
        if self.stop.is_requested() {
            return Err(End::Stopped);
        }
        let sequence = journal.next_sequence();
        let before = serde_json::json!({ "pods": members.pods.len(), "bytes": course.bytes_before });
        let entry = Entry::Intended { sequence, change: change.clone(), undo: undo.clone(), before };
        journal.append(&entry).await.map_err(|error| End::Broken(chain(&error)))?;
        self.phase(Phase::Fault);
        self.recorder.record(Fact::ChangeIntended { sequence, text: change.describe() });
        self.recorder.note(format!("destroying {}", self.drill.destroys()));
        course.passage.destroyed_us.0 = self.now_us();
        let failed = self.apply(&change).await;
        course.passage.destroyed_us.1 = self.after_us();
        course.windows.fault.start_ms = course.passage.destroyed_us.0 / 1000;
        course.destroyed = Some(match &change {
            Change::DestroyVolumes { claims, .. } => {
                claims.iter().map(|claim| claim.name.as_str()).collect::<Vec<_>>().join(", ")
            }
            other => other.pod().map_or_else(String::new, |pod| format!("pod {pod}")),
        });
        let noted = match &failed {
            None => Entry::Applied { sequence },
            Some(reason) => Entry::ApplyFailed { sequence, reason: reason.clone() },
        };
        journal.append(&noted).await.map_err(|error| End::Broken(chain(&error)))?;
        match failed {
            // It may still have happened: whoever called us restores.
            Some(reason) => Err(End::Broken(format!("failed to destroy the data: {reason}"))),
            None => Ok(undo),
        }
    }

    /// Never raced against a stop: one that is dropped could land after the restore.
    async fn apply(&self, change: &Change) -> Option<String> {
        match tokio::time::timeout(APPLY_DEADLINE, self.world.apply(self.run, change, self.recorder)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.chain()),
            Err(_) => Some(format!("no answer within {} s", APPLY_DEADLINE.as_secs())),
        }
    }

    /// Whether the data are gone. A stop does not end it: the restore comes next in any case.
    async fn look(&self, load: &mut L::Running, course: &mut Course) -> Result<(), End> {
        let (store, begun) = (self.drill.store, Instant::now());
        let operations = load.operations().await?;
        loop {
            match self.found(store).await {
                Ok(found) => {
                    let before = acknowledged_by(&operations, store, course.passage.destroyed_us.0);
                    let left = before.filter(|id| holds(&found, *id)).count() as u64;
                    course.left = Some((Some(left), "the store was read after it".to_owned()));
                    if left == 0 {
                        break;
                    }
                }
                // That the volumes are gone was seen; that the tables are must be said by the database.
                Err(why) if self.drill.method == DrillMethod::Volumes || why.contains(NO_TABLE) => {
                    course.left = Some((None, why));
                    if store == Store::Postgres && begun.elapsed() >= SILENCE {
                        break;
                    }
                }
                Err(why) => self.recorder.note(format!("not seen yet: {why}")),
            }
            if begun.elapsed() >= LOOK_DEADLINE {
                break;
            }
            tokio::time::sleep(TICK).await;
        }
        let told = match &course.left {
            Some((Some(left), _)) => format!("{left} of the writes are left"),
            Some((None, why)) => why.clone(),
            None => "nothing was seen".to_owned(),
        };
        self.recorder.note(format!("after the destruction: {told}"));
        Ok(())
    }

    /// The drill's own try, which is what is judged. What is left open by it is brought back by the caller.
    async fn restore(&self, course: &mut Course, journal: &mut Journal, undo: &Undo) -> Result<(), End> {
        self.phase(Phase::Recovery);
        self.recorder.note(undo.describe());
        let restored = tokio::select! {
            biased;
            () = self.stop.second() => return Err(End::Stopped),
            restored = tokio::time::timeout(RESTORE_DEADLINE, self.world.undo(undo, OnConflict::Tell)) => restored,
        };
        let restored = match restored {
            Ok(Ok(Undone::Reverted(said))) => Ok(said),
            Ok(Ok(Undone::AlreadyClean(why) | Undone::Conflict(why))) => Err(why),
            Ok(Err(error)) => Err(error.chain()),
            Err(_) => Err(format!("no end within {} s", RESTORE_DEADLINE.as_secs())),
        };
        course.passage.restored_us = Some(self.after_us());
        course.restore = Some(restored.clone());
        let said = restored.map_err(|why| End::Broken(format!("the restore failed: {why}")))?;
        self.recorder.note(format!("restored: {said}"));
        for open in crate::run::open_changes(journal.path()).map_err(|error| End::Broken(chain(&error)))? {
            let sequence = open.sequence;
            let entry = Entry::Reverted { sequence, how: said.clone() };
            journal.append(&entry).await.map_err(|error| End::Broken(chain(&error)))?;
            self.recorder.record(Fact::ChangeReverted { sequence, text: said.clone() });
        }
        journal.append(&Entry::Closed).await.map_err(|error| End::Broken(chain(&error)))
    }

    async fn await_whole(&self, course: &mut Course) -> Result<(), End> {
        let limit = Duration::from_secs(u64::from(self.drill.rto_max_seconds)) + WHOLE_SLACK;
        let end = self.recorder.clock().at(course.passage.destroyed_us.0 / 1000) + limit;
        loop {
            if let Ok((have, want)) = self.world.in_sync(self.drill.store).await {
                course.members = Some((have, want));
                if have >= want && want > 0 {
                    course.whole_us = Some(self.after_us());
                    course.windows.fault.end_ms = self.recorder.clock().now_ms();
                    self.recorder.note(format!("{have} of {want} members are in sync"));
                    return Ok(());
                }
            }
            if Instant::now() >= end {
                course.windows.fault.end_ms = self.recorder.clock().now_ms();
                self.recorder.note("the members were not all back in time");
                return Ok(());
            }
            self.pause().await?;
        }
    }

    /// The application on the restored data.
    async fn serve(&self, load: &mut L::Running, course: &mut Course) -> Result<(), End> {
        // Services that lost their store come back a moment after it; how long that took is `restore-time`'s to judge.
        let (since_ms, latest) = (self.recorder.clock().now_ms(), Instant::now() + SETTLE);
        let clean = |now_ms| all_restored(&self.recorder.events(), since_ms, now_ms, CLEAN_MS);
        while Instant::now() < latest && !clean(self.recorder.clock().now_ms()) {
            self.pause().await?;
            self.alive(load).await?;
        }
        let start_ms = self.recorder.clock().now_ms();
        let end = Instant::now() + Duration::from_secs(u64::from(self.drill.smoke_seconds));
        while Instant::now() < end {
            self.pause().await?;
            self.alive(load).await?;
        }
        course.windows.recovery = Window { start_ms, end_ms: self.recorder.clock().now_ms() };
        self.stop.sleep(DRAIN).await.map_err(|_| End::Stopped)
    }

    /// Certainly not before now, whatever the clock rounds.
    fn after_us(&self) -> u64 {
        self.now_us() + 1000
    }
}

/// What PostgreSQL says of a table that is not there.
const NO_TABLE: &str = "42P01";

fn acknowledged_by(operations: &[Operation], store: Store, until_us: u64) -> impl Iterator<Item = OpId> {
    let of_store = operations.iter().filter(move |operation| operation.writes.contains(store));
    let done = of_store
        .filter(move |operation| operation.outcome == OperationOutcome::Ok && operation.done_us <= until_us);
    done.filter_map(|operation| operation.id)
}

fn holds(found: &Found, id: OpId) -> bool {
    found.times(id) > 0
}
