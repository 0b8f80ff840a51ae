//! Whether a drill may begin, and what it will destroy: the change, with the restore that undoes it.

use std::collections::BTreeMap;

use super::{DrillWorld, Drilling};
use crate::cluster::StoreMembers;
use crate::fault::ALLOWED_LABEL;
use crate::model::{
    Change, Command, DrillMethod, DrillTarget, PodInfo, PodRef, Role, Snapshot, Store, StoreRestore, Undo,
};
use crate::run::Load;

/// Of the pods of PostgreSQL.
const CONTAINER: &str = "postgres";
/// Sessions that hold locks are ended first; a session that comes between can still win the lock.
const DROP_TABLES: &str = r#"for try in 1 2 3 4 5; do
psql --no-psqlrc --quiet --host=/run/postgresql --username=postgres --dbname=ai_platform --set=ON_ERROR_STOP=1 <<'SQL' && echo 'effect: the tables are dropped' && exit 0
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid();
DO $$ DECLARE one record; BEGIN
  FOR one IN SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE 'DROP TABLE IF EXISTS ' || one.name || ' CASCADE';
  END LOOP;
END $$;
SQL
sleep 1; done; exit 1"#;

impl<W: DrillWorld, L: Load> Drilling<'_, W, L> {
    /// Refuses a stack that is not whole: what it lacks would be charged to the restore.
    pub(super) async fn ready_for_it(&self) -> Result<(), String> {
        let store = self.drill.store;
        let snapshot = self.world.snapshot().await.map_err(|error| error.chain())?;
        let members = self.world.members(store).await.map_err(|error| error.chain())?;
        allowed(&snapshot, &members)?;
        if members.want == 0 || members.ready < members.want {
            let (ready, want) = (members.ready, members.want);
            return Err(format!("{} is not whole: {ready} of {want} members are ready", store.as_str()));
        }
        let (have, want) = self.world.in_sync(store).await.map_err(|error| error.chain())?;
        if have < want {
            return Err(format!("{} is not whole: {have} of {want} members are in sync", store.as_str()));
        }
        if self.drill.method == DrillMethod::Volumes {
            if members.claims.len() < members.want as usize {
                return Err(format!(
                    "{} has {} volumes for {want} members",
                    store.as_str(),
                    members.claims.len()
                ));
            }
            if let Some(why) = members.short_of_volumes {
                return Err(format!("{why}; `mettle up` cleans those of earlier drills"));
            }
        }
        Ok(())
    }

    /// `moment`: the noted time, where there is one.
    pub(super) fn plan(
        &self,
        snapshot: &Snapshot,
        members: &StoreMembers,
        moment: Option<&str>,
    ) -> Result<(Change, Undo), String> {
        let store = self.drill.store;
        let change = match self.drill.method {
            DrillMethod::Volumes => Change::DestroyVolumes {
                store,
                claims: members.claims.clone(),
                pods: members.pods.iter().map(pinned).collect(),
            },
            DrillMethod::Tables => {
                let primary = snapshot
                    .roles
                    .iter()
                    .find(|fact| fact.component.as_str() == store.as_str() && fact.role == Role::Primary);
                let pod = primary.and_then(|fact| members.pods.iter().find(|pod| pod.name == fact.pod));
                let pod = pod.ok_or_else(|| "no member says that it is the primary".to_owned())?;
                let line = ["sh", "-c", DROP_TABLES].map(str::to_owned).to_vec();
                Change::Exec { command: Command { pod: pinned(pod), container: CONTAINER.to_owned(), line } }
            }
        };
        let namespace = members.claims.first().map(|claim| claim.namespace.clone());
        let restore = StoreRestore {
            store,
            namespace: namespace.ok_or_else(|| "no volume of it is there".to_owned())?,
            drill: self.jobs(),
            job: self.job("restore"),
            parameters: self.parameters(moment, false),
            fallback: self.parameters(moment, true),
            claims: match self.drill.method {
                DrillMethod::Volumes => members.claims.clone(),
                // Whether tables were dropped is in no object.
                DrillMethod::Tables => Vec::new(),
            },
        };
        Ok((change, Undo::RestoreStore { restore }))
    }

    /// `again`: as much as there is. After dropped tables the latest is that without them, so the moment stays.
    fn parameters(&self, moment: Option<&str>, again: bool) -> BTreeMap<String, String> {
        let to_moment =
            self.drill.target == DrillTarget::Time && (!again || self.drill.method == DrillMethod::Tables);
        let (kind, target) = match moment {
            Some(moment) if to_moment => ("time", moment),
            _ => ("latest", ""),
        };
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        let words = match self.drill.store {
            Store::Postgres => vec![
                ("TARGET_TYPE", kind),
                ("TARGET", target),
                ("TARGET_TIMELINE", ""),
                ("BACKUP", ""),
                ("STOP_DATABASE", "yes"),
                ("ALLOW_HOLE", yes(again)),
            ],
            // Sessions go on while it is restored, so it has keys.
            Store::Redis => vec![("REDIS_BACKUP", ""), ("REDIS_OVERWRITE", "yes")],
            // No drill is of these.
            Store::Jobs | Store::Kafka => Vec::new(),
        };
        words.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Names of Jobs are unique to the run.
    fn jobs(&self) -> String {
        format!("drill-{}", self.run)
    }

    pub(super) fn job(&self, what: &str) -> String {
        format!("{}-{what}", self.jobs())
    }
}

fn pinned(pod: &PodInfo) -> PodRef {
    PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}

/// The owner of a namespace says whether it may be broken.
fn allowed(snapshot: &Snapshot, members: &StoreMembers) -> Result<(), String> {
    let (label, value) = ALLOWED_LABEL;
    for claim in &members.claims {
        let labels = snapshot.namespaces.get(&claim.namespace);
        if labels.and_then(|labels| labels.get(label)).is_none_or(|found| found != value) {
            return Err(format!("namespace {} does not carry the label {label}={value}", claim.namespace));
        }
    }
    match members.pods.iter().find(|pod| pod.is_protected()) {
        Some(pod) => Err(format!("pod {}/{} is protected", pod.namespace, pod.name)),
        None => Ok(()),
    }
}
