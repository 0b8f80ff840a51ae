//! Faults that a component makes itself when it is asked: a command in the target's own container, and its inverse.
//! A command proves its own effect: it prints a line that begins with `effect` only when it has seen it.

use rand_chacha::ChaCha8Rng;

use super::agents::container_of;
use super::pods::reference;
use super::{PlanError, select};
use crate::model::{
    Change, Command, Component, FaultKind, FaultSpec, PlannedChange, PodInfo, Snapshot, Target, Undo,
};

/// What is run, and what takes it back; `None`: it is over when it was done.
struct Script {
    component: Component,
    run: String,
    undo: Option<String>,
}

pub fn changes(
    spec: &FaultSpec,
    snapshot: &Snapshot,
    random: &mut ChaCha8Rng,
) -> Result<Vec<PlannedChange>, PlanError> {
    select::on_pods(spec, snapshot, random, |pod, target| change(spec, pod, target))
}

fn change(spec: &FaultSpec, pod: &PodInfo, target: Target) -> Result<PlannedChange, PlanError> {
    let Script { component, run, undo } = script(spec);
    if pod.component != Some(component) {
        let (wanted, kind) = (component.as_str(), spec.kind.as_str());
        return Err(PlanError::WrongComponent { object: target.object, wanted, kind });
    }
    let container = container_of(pod, &target, component.as_str())?;
    let command = |script: String| Command {
        pod: reference(pod),
        container: container.clone(),
        line: vec!["sh".to_owned(), "-euc".to_owned(), script],
    };
    let undo = match undo {
        Some(script) => Undo::Exec { command: command(script) },
        None => Undo::AwaitReady { pod: reference(pod), agent: None },
    };
    Ok(PlannedChange { target, change: Change::Exec { command: command(run) }, undo })
}

const PSQL: &str = "psql --no-psqlrc -qtA -h /run/postgresql -U postgres -c";
const REDIS: &str = "redis-cli -h 127.0.0.1";

fn script(spec: &FaultSpec) -> Script {
    match spec.kind {
        FaultKind::PostgresSwitchover | FaultKind::PostgresReplayPause | FaultKind::PostgresDisconnect => {
            postgres(spec.kind)
        }
        FaultKind::PgbouncerPause => pgbouncer(),
        FaultKind::RedisFailover | FaultKind::RedisClientPause | FaultKind::RedisMemoryFull => redis(spec),
        _ => rabbitmq(spec.kind),
    }
}

fn postgres(kind: FaultKind) -> Script {
    let component = Component::Postgres;
    match kind {
        // The cluster chooses who takes over. 412: nobody is in sync right now, as after another fault; that passes.
        FaultKind::PostgresSwitchover => Script {
            component,
            run: format!(
                "leads() {{ {PSQL} 'select not pg_is_in_recovery()'; }}; [ \"$(leads)\" = t ]; \
                 python3 -c 'import http.client, json, os, time\nfor turn in range(13):\n \
                 c = http.client.HTTPConnection(\"127.0.0.1\", 8008, timeout=20)\n \
                 c.request(\"POST\", \"/switchover\", json.dumps({{\"leader\": os.environ.get(\"PATRONI_NAME\") or os.uname().nodename}}))\n \
                 r = c.getresponse(); said = r.read().decode(); print(r.status, said)\n \
                 if r.status < 300: break\n \
                 if r.status != 412 or turn == 12: raise SystemExit(1)\n \
                 time.sleep(2)'; \
                 for i in 1 2 3 4 5 6 7 8 9 10; do [ \"$(leads)\" = t ] || {{ echo effect: no longer the primary; exit 0; }}; sleep 1; done"
            ),
            undo: None,
        },
        FaultKind::PostgresReplayPause => Script {
            component,
            run: format!(
                "{PSQL} 'select pg_wal_replay_pause()'; for i in 1 2 3 4 5 6 7 8 9 10; do \
                 state=$({PSQL} 'select pg_get_wal_replay_pause_state()'); \
                 [ \"$state\" != paused ] || {{ echo effect: replay is $state; exit 0; }}; sleep 0.3; done"
            ),
            undo: Some(format!(
                "[ \"$({PSQL} 'select pg_is_in_recovery()')\" = f ] || {PSQL} 'select pg_wal_replay_resume()'"
            )),
        },
        _ => Script {
            component,
            run: format!(
                "n=$({PSQL} \"select count(pg_terminate_backend(pid)) from pg_stat_activity where backend_type = 'client backend' \
                 and pid <> pg_backend_pid() and usename not in ('postgres', 'replicator') and application_name <> 'mettle'\"); \
                 [ \"$n\" -eq 0 ] || echo effect: $n sessions were ended"
            ),
            undo: None,
        },
    }
}

fn pgbouncer() -> Script {
    let signal = |name: &str| {
        format!(
            "for p in /proc/[0-9]*; do read c < $p/comm || continue; \
             [ \"$c\" != pgbouncer ] || kill -{name} ${{p#/proc/}}; done"
        )
    };
    // The exporter beside it says what the server says of itself: how long the client waits that waits longest.
    let waited = "python3 -c 'import socket; s = socket.create_connection((\"127.0.0.1\", 9127), 3); \
                  s.sendall(b\"GET /metrics HTTP/1.0\\r\\n\\r\\n\"); t = b\"\"\nwhile True:\n b = s.recv(65536)\n \
                  if not b: break\n t += b\nprint(int(max([float(l.split()[-1]) for l in t.decode().splitlines() \
                  if l.startswith(\"pgbouncer_pools_client_maxwait_seconds{\")] + [0])))'";
    Script {
        component: Component::Pgbouncer,
        run: format!(
            "{}; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do n=$({waited}) || n=0; [ \"$n\" -lt 2 ] || {{ echo effect: a client has been waiting for $n s; exit 0; }}; sleep 0.5; done",
            signal("USR1")
        ),
        undo: Some(signal("USR2")),
    }
}

fn redis(spec: &FaultSpec) -> Script {
    let component = Component::Redis;
    match spec.kind {
        FaultKind::RedisFailover => Script {
            component,
            run: format!(
                "role() {{ {REDIS} role | head -n 1; }}; [ \"$(role)\" = slave ]; {REDIS} cluster failover; \
                 for i in 1 2 3 4 5 6 7 8 9 10; do [ \"$(role)\" != master ] || {{ echo effect: it is the primary now; exit 0; }}; sleep 0.5; done"
            ),
            undo: None,
        },
        // Redis ends it by itself: the undo only waits for its answer.
        FaultKind::RedisClientPause => Script {
            component,
            run: format!(
                "{REDIS} client pause {} all; timeout 1 {REDIS} ping && exit 0 || echo effect: a ping has no answer within 1 s",
                spec.hold_seconds * 1000
            ),
            undo: Some(format!(
                "for i in 1 2 3 4 5 6 7 8 9 10; do ! timeout 3 {REDIS} ping || exit 0; done; exit 1"
            )),
        },
        // Noted where it outlives the container, as the undo may have to, and goes with the pod, as the effect does.
        _ => Script {
            component,
            run: format!(
                "get() {{ {REDIS} config get maxmemory | tail -n 1; }}; \
                 info() {{ {REDIS} info $1 | tr -d '\\r' | grep \"^$2:\" | {{ IFS=: read k v; echo $v; }}; }}; \
                 [ -e /dev/shm/.mettle-maxmemory ] || get > /dev/shm/.mettle-maxmemory; {}",
                spec.with.leave_mib.map_or_else(refuse, evict)
            ),
            undo: Some(format!(
                "[ -e /dev/shm/.mettle-maxmemory ] || exit 0; {REDIS} config set maxmemory $(cat /dev/shm/.mettle-maxmemory); rm /dev/shm/.mettle-maxmemory"
            )),
        },
    }
}

/// Less than an empty server uses.
fn refuse() -> String {
    format!(
        "{REDIS} config set maxmemory 1mb; n=$(get); [ \"$n\" != 1048576 ] || \
         {{ v=$(info memory used_memory); [ \"$v\" -lt 1048576 ] || echo effect: $v bytes are used of $n; }}"
    )
}

/// What it uses now, and a little: the effect is that it evicts, which takes writes.
fn evict(leave_mib: u32) -> String {
    let leave = u64::from(leave_mib) * 1024 * 1024;
    format!(
        "n=$(info stats evicted_keys); {REDIS} config set maxmemory $(($(info memory used_memory) + {leave})); \
         for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do e=$(($(info stats evicted_keys) - n)); \
         [ $e -eq 0 ] || {{ echo effect: $e keys were evicted; exit 0; }}; sleep 0.5; done"
    )
}

/// The client has to call its server by the name that it was started under.
const RABBITMQ_NAME: &str = "for p in /proc/[0-9]*; do read c < $p/comm || continue; [ \"$c\" != beam.smp ] || { \
    export $(tr '\\0' '\\n' < $p/environ | grep -E '^(RABBITMQ_NODENAME|RABBITMQ_USE_LONGNAME|HOME)='); break; }; done; ";

fn rabbitmq(kind: FaultKind) -> Script {
    let alarm = |set: &str, name: &str| {
        format!(
            "rabbitmqctl -q {set}; for i in 1 2 3 4 5; do a=$(rabbitmq-diagnostics -q alarms | tr '\\n' ' '); \
             case \"$a\" in *{name}*) echo effect: $a; exit 0;; esac; sleep 1; done"
        )
    };
    let (run, undo) = match kind {
        FaultKind::RabbitmqMemoryAlarm => (
            alarm("set_vm_memory_high_watermark 0.00001", "emory"),
            "rabbitmqctl -q eval '{ok, V} = application:get_env(rabbit, vm_memory_high_watermark), vm_memory_monitor:set_vm_memory_high_watermark(V).'",
        ),
        FaultKind::RabbitmqDiskAlarm => (
            alarm("set_disk_free_limit 900000GB", "isk"),
            "rabbitmqctl -q eval '{ok, V} = application:get_env(rabbit, disk_free_limit), rabbit_disk_monitor:set_disk_free_limit(V).'",
        ),
        _ => (
            "rabbitmqctl -q stop_app; r=$(rabbitmqctl -q eval 'lists:keymember(rabbit, 1, application:which_applications()).'); \
             [ \"$r\" != false ] || echo effect: the application is stopped"
                .to_owned(),
            "rabbitmqctl -q start_app",
        ),
    };
    let named = |script: &str| format!("{RABBITMQ_NAME}{script}");
    Script { component: Component::Rabbitmq, run: named(&run), undo: Some(named(undo)) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::fault::testing::{redis_snapshot, target};

    #[test]
    fn a_command_is_only_for_its_component() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let redis = FaultSpec::new(FaultKind::RedisClientPause, target(Component::Redis));
        let planned = changes(&redis, &redis_snapshot(), &mut random).unwrap().remove(0);
        let Change::Exec { command, .. } = &planned.change else { panic!("another change") };
        assert!(command.line[2].contains("client pause 5000 all"), "{}", command.line[2]);
        let rabbit = FaultSpec::new(FaultKind::RabbitmqStopApp, target(Component::Redis));
        let error = changes(&rabbit, &redis_snapshot(), &mut random).unwrap_err().to_string();
        assert!(
            error.starts_with("rabbitmq-stop-app needs a pod of rabbitmq, and pod/ai-platform/redis-"),
            "{error}"
        );
    }

    #[test]
    fn every_script_prints_its_effect_and_is_whole() {
        for kind in FaultKind::ALL.iter().filter(|kind| super::super::is_command(**kind)) {
            let spec = FaultSpec::new(*kind, target(Component::Redis));
            let Script { run, undo, .. } = script(&spec);
            for script in [Some(run), undo.clone()].into_iter().flatten() {
                // The shell reads it without running it.
                let read = std::process::Command::new("sh").args(["-nc", &script]).output().unwrap();
                assert!(read.status.success(), "{}: {script}", kind.as_str());
            }
            assert!(script(&spec).run.contains("echo effect"), "{}", kind.as_str());
            assert_eq!(undo.is_some(), kind.shape().held, "{}", kind.as_str());
        }
    }
}
