//! Judges a drill: was the data gone, is it back, how much of it is not, how long did it take.

use super::recovered::{Passage, Recovered};
use super::{Found, compare};
use crate::model::{Drill, DrillTarget, Finding, Operation, RecoveryPhases, Samples, Store, Verdict};

/// Share of requests that may fail once everything is back.
const SMOKE_ERRORS_MAX: f64 = 0.02;

/// All that was seen of a drill. What is absent was not reached, or could not be read.
#[derive(Debug, Clone)]
pub struct DrillSeen<'a> {
    pub drill: &'a Drill,
    pub operations: &'a [Operation],
    pub passage: Passage,
    /// What the backup said at its end, or why it failed.
    pub backup: Result<String, String>,
    /// Why nothing was destroyed.
    pub held_back: Option<String>,
    /// Acknowledged writes that the store lacked before anything was destroyed.
    pub missing_before: Option<u64>,
    /// After the destruction: how many of the writes that were acknowledged before it the store still held, `None` when
    /// it holds no data that can be asked for; and what was seen.
    pub left: Option<(Option<u64>, String)>,
    pub restore: Option<Result<String, String>>,
    pub found: Option<&'a Found>,
    /// Members in sync, of how many.
    pub members: Option<(u32, u32)>,
    /// When all of them were, µs.
    pub whole_us: Option<u64>,
    /// Before the destruction, and at the end.
    pub bytes: (Option<u64>, Option<u64>),
    /// Of the time when everything was back.
    pub smoke: Samples,
    /// Reads that were answered in it.
    pub smoke_reads: u64,
}

/// Every finding, and the times of the recovery from the destruction on.
#[must_use]
pub fn judge(seen: &DrillSeen<'_>) -> (Vec<Finding>, RecoveryPhases) {
    let mut findings = vec![backup(seen)];
    if let Some(why) = &seen.held_back {
        let why = format!("nothing was destroyed: {why}");
        findings.push(Finding::new("destruction", Verdict::Inconclusive, why));
        return (findings, RecoveryPhases::default());
    }
    findings.push(destruction(seen));
    let recovered =
        seen.found.map(|found| Recovered::of(seen.operations, seen.drill.store, found, &seen.passage));
    findings.push(match (&seen.restore, &recovered, seen.found) {
        (Some(Ok(_)), Some(recovered), Some(found)) => restored_data(seen, recovered, found),
        (restore, ..) => not_restored("restored-data", restore.as_ref()),
    });
    findings.push(match (&seen.restore, &recovered) {
        (Some(Ok(_)), Some(recovered)) => restore_point(seen, recovered),
        (restore, _) => not_restored("restore-point", restore.as_ref()),
    });
    let phases = phases(seen, recovered.as_ref());
    findings.push(match (&seen.restore, &recovered) {
        (Some(Ok(_)), Some(_)) => restore_time(seen, &phases),
        (restore, _) => not_restored("restore-time", restore.as_ref()),
    });
    findings.push(redundancy(seen));
    findings.push(smoke(seen));
    (findings, phases)
}

fn backup(seen: &DrillSeen<'_>) -> Finding {
    match &seen.backup {
        Ok(said) => Finding::new("backup", Verdict::Pass, "the backup job ended well while writes went on")
            .with_evidence([said.clone()]),
        Err(why) => Finding::new("backup", Verdict::Fail, format!("there is no backup to restore: {why}")),
    }
}

fn destruction(seen: &DrillSeen<'_>) -> Finding {
    let (verdict, reason) = match &seen.left {
        None => (Verdict::Inconclusive, "nobody looked whether the data were gone".to_owned()),
        Some((Some(0), _)) => {
            (Verdict::Pass, format!("{}: none of the writes is left", seen.drill.destroys()))
        }
        Some((None, _)) => {
            (Verdict::Pass, format!("{}: no data are left to be asked for", seen.drill.destroys()))
        }
        Some((Some(left), _)) => (
            Verdict::Inconclusive,
            format!("{left} acknowledged writes were there after the destruction: it did not bite"),
        ),
    };
    let told = seen.left.iter().map(|(_, text)| text.clone());
    Finding::new("destruction", verdict, reason).with_evidence(told)
}

fn not_restored(check: &str, restore: Option<&Result<String, String>>) -> Finding {
    match restore {
        Some(Err(why)) => Finding::new(check, Verdict::Fail, format!("the restore failed: {why}")),
        Some(Ok(_)) => Finding::new(check, Verdict::Inconclusive, "the store was not read back"),
        None => Finding::new(check, Verdict::Inconclusive, "the restore was not reached"),
    }
}

/// What must be there whatever the target is.
fn restored_data(seen: &DrillSeen<'_>, recovered: &Recovered, found: &Found) -> Finding {
    let totals = compare(seen.operations, seen.drill.store, found);
    let (old, new) = (recovered.before_backup, recovered.after_restore);
    let floor = seen.drill.writes_min;
    let mut wrong = Vec::new();
    if old.missing > 0 {
        wrong.push(format!(
            "{} of {} writes that were acknowledged before the backup are missing",
            old.missing, old.acknowledged
        ));
    }
    if new.missing > 0 {
        let of = new.acknowledged;
        wrong.push(format!(
            "{} of {of} writes that were acknowledged after the restore are missing",
            new.missing
        ));
    }
    if totals.duplicated > 0 {
        wrong.push(format!("{} writes are there more than once", totals.duplicated));
    }
    if let Some(violation) = totals.violations.first() {
        wrong.push(violation.clone());
    }
    let unsure = match seen.missing_before {
        Some(0) => None,
        Some(missing) => Some(format!("{missing} acknowledged writes were missing before the destruction")),
        None => Some("the store was not read before the destruction".to_owned()),
    };
    let few = (old.acknowledged < floor).then(|| {
        format!("{} writes were acknowledged before the backup, a judgement needs {floor}", old.acknowledged)
    });
    let silent = (new.acknowledged == 0).then(|| "no write was acknowledged after the restore".to_owned());
    let (verdict, reason) = match unsure.or(few).or(silent) {
        _ if !wrong.is_empty() => (Verdict::Fail, wrong.join("; ")),
        Some(why) => (Verdict::Inconclusive, why),
        None => (
            Verdict::Pass,
            format!(
                "all {} writes from before the backup are back, and all {} since the restore stay",
                old.acknowledged, new.acknowledged
            ),
        ),
    };
    let meanwhile = recovered.meanwhile;
    let told = (meanwhile.acknowledged > 0).then(|| {
        format!(
            "{} writes were acknowledged between destruction and restore, {} of them are missing",
            meanwhile.acknowledged, meanwhile.missing
        )
    });
    Finding::new("restored-data", verdict, reason)
        .with_evidence(told.into_iter().chain(recovered.examples.iter().cloned()))
}

fn restore_point(seen: &DrillSeen<'_>, recovered: &Recovered) -> Finding {
    let finding = match seen.drill.target {
        DrillTarget::Latest => latest(seen, recovered),
        DrillTarget::Time => moment(seen, recovered),
    };
    let bytes = match seen.bytes {
        (Some(before), Some(after)) => Some(format!("size: {before} bytes before, {after} bytes at the end")),
        _ => None,
    };
    finding.with_evidence(bytes.into_iter().chain(recovered.examples.iter().cloned()))
}

#[allow(clippy::cast_precision_loss)]
fn latest(seen: &DrillSeen<'_>, recovered: &Recovered) -> Finding {
    let since = recovered.since_backup;
    let floor = seen.drill.writes_min;
    if since.acknowledged < floor {
        let why = format!(
            "{} writes were acknowledged since the backup, a judgement needs {floor}",
            since.acknowledged
        );
        return Finding::new("restore-point", Verdict::Inconclusive, why);
    }
    let max_us = u64::from(seen.drill.rpo_max_seconds.unwrap_or(0)) * 1_000_000;
    let lost_us = recovered.lost_us();
    let reason = format!(
        "{} of {} writes since the backup are lost, reaching back {:.1} s; at most {} s are allowed",
        since.missing,
        since.acknowledged,
        seconds(lost_us),
        max_us / 1_000_000
    );
    let verdict = if lost_us <= max_us { Verdict::Pass } else { Verdict::Fail };
    Finding::new("restore-point", verdict, reason)
        .with_figure("recovery_point_ms", Some(seconds(lost_us) * 1000.0))
        .with_figure("recovery_point_writes", Some(since.missing as f64))
}

fn moment(seen: &DrillSeen<'_>, recovered: &Recovered) -> Finding {
    let (before, after) = (recovered.before_target, recovered.after_target);
    let floor = seen.drill.writes_min;
    let Some((target_us, _)) = seen.passage.target_us else {
        return Finding::new("restore-point", Verdict::Inconclusive, "no moment was noted");
    };
    let mut wrong = Vec::new();
    if before.missing > 0 {
        wrong.push(format!(
            "{} of {} writes that were acknowledged before the moment are missing",
            before.missing, before.acknowledged
        ));
    }
    if after.present() > 0 {
        let of = after.acknowledged;
        wrong.push(format!("{} of {of} writes that were sent after the moment are there", after.present()));
    }
    if !wrong.is_empty() {
        return Finding::new("restore-point", Verdict::Fail, wrong.join("; "));
    }
    if before.acknowledged.min(after.acknowledged) < floor {
        let why = format!(
            "{} writes before the moment and {} after it, a judgement needs {floor} each",
            before.acknowledged, after.acknowledged
        );
        return Finding::new("restore-point", Verdict::Inconclusive, why);
    }
    let newest_us = recovered.whole_until_us.unwrap_or(0).min(target_us);
    let reason = format!(
        "all {} writes from before the moment are there, to {:.2} s before it, and none of {} from after it",
        before.acknowledged,
        seconds(target_us - newest_us),
        after.acknowledged
    );
    let behind_ms = seconds(target_us - newest_us) * 1000.0;
    Finding::new("restore-point", Verdict::Pass, reason).with_figure("recovery_point_ms", Some(behind_ms))
}

fn phases(seen: &DrillSeen<'_>, recovered: Option<&Recovered>) -> RecoveryPhases {
    let since_ms = |at_us: u64| at_us.saturating_sub(seen.passage.destroyed_us.0) / 1000;
    let served = recovered.and_then(|recovered| match seen.drill.store {
        // A database that is gone acknowledges nothing: what it holds again it was given by the restore.
        Store::Postgres | Store::Jobs | Store::Kafka => recovered.served_again_us,
        // An empty cache takes writes long before its data are back.
        Store::Redis => recovered.served_after_restore_us,
    });
    let (client, redundancy) = (served.map(since_ms), seen.whole_us.map(since_ms));
    let total = client.zip(redundancy).map(|(client, redundancy)| client.max(redundancy));
    RecoveryPhases { client, redundancy, total, ..RecoveryPhases::default() }
}

fn restore_time(seen: &DrillSeen<'_>, phases: &RecoveryPhases) -> Finding {
    let max = seen.drill.rto_max_seconds;
    let told = |ms: Option<u64>| {
        ms.map_or_else(|| "never".to_owned(), |ms| format!("after {:.1} s", seconds(ms * 1000)))
    };
    let reason = format!(
        "clients were served with the data {}, every member was back {}; at most {max} s are allowed",
        told(phases.client),
        told(phases.redundancy)
    );
    let kept = phases.total.is_some_and(|total| total <= u64::from(max) * 1000);
    Finding::new("restore-time", if kept { Verdict::Pass } else { Verdict::Fail }, reason)
}

fn redundancy(seen: &DrillSeen<'_>) -> Finding {
    let (verdict, reason) = match seen.members {
        None => (Verdict::Inconclusive, "the members were not seen after the restore".to_owned()),
        Some((_, 0)) => (Verdict::Inconclusive, "the store wants no member".to_owned()),
        Some((have, want)) => {
            let verdict = if have >= want { Verdict::Pass } else { Verdict::Fail };
            (verdict, format!("{have} of {want} members are in sync"))
        }
    };
    Finding::new("redundancy", verdict, reason)
}

fn smoke(seen: &DrillSeen<'_>) -> Finding {
    if let Some(why) = seen.smoke.unusable(seen.drill.load.requests_min) {
        return Finding::new("smoke", Verdict::Inconclusive, format!("after the restore: {why}"));
    }
    let share = |tally: &crate::model::Tally| tally.error_share();
    let reason = format!(
        "{} of {} requests failed once everything was back, {} reads were answered",
        seen.smoke.counted.errors, seen.smoke.counted.requests, seen.smoke_reads
    );
    let verdict = if share(&seen.smoke.counted) > SMOKE_ERRORS_MAX {
        Verdict::Fail
    } else if share(&seen.smoke.all) > SMOKE_ERRORS_MAX || seen.smoke_reads == 0 {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    };
    Finding::new("smoke", verdict, reason)
}

#[allow(clippy::cast_precision_loss)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1_000_000.0
}

#[cfg(test)]
mod tests;
