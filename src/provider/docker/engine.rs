//! What we ask of Docker: is it there, which containers has a cluster, power on and off.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::super::error::{ProviderError, Result, exec};
use super::super::exec::ExecError;
use super::super::host::Host;
use super::flavour::{Flavour, version_of};

const POWER_DEADLINE: Duration = Duration::from_secs(60);
const SETTLED_DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(250);
/// Far more than any cluster of ours.
const CONTAINERS_MAX: usize = 64;

/// A container of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub name: String,
    pub id: String,
    pub role: String,
    pub running: bool,
    pub pid: u32,
    /// RFC 3339.
    pub created: String,
}

/// Docker answers, and the flavour's program is new enough.
pub fn require(host: &Host, flavour: Flavour) -> Result<()> {
    engine(host)?;
    let asked = host.exec(flavour.name()).args(flavour.version_arguments()).run();
    let text = asked.map_err(missing(flavour.name(), flavour.next_step()))?;
    let (major, minor) = flavour.version_min();
    match version_of(&text) {
        Some(version) if version >= (major, minor) => Ok(()),
        _ => {
            let found = text.lines().next().unwrap_or_default();
            let problem = format!("{found:?} is older than {major}.{minor}, or no version");
            Err(ProviderError::Program {
                program: flavour.name().to_owned(),
                problem,
                next_step: flavour.next_step(),
            })
        }
    }
}

/// Docker's client is there, and its engine answers.
pub fn engine(host: &Host) -> Result<()> {
    const INSTALL: &str = "install Docker (Debian, Ubuntu: `apt-get install docker.io`), or use --cluster local, which needs none";
    const START: &str = "start it (`systemctl start docker`), and see that this user may use its socket";
    match host.exec("docker").args(["version", "--format", "{{.Server.Version}}"]).run() {
        Ok(_) => Ok(()),
        Err(error @ ExecError::Start { .. }) => Err(missing("docker", INSTALL)(error)),
        Err(error) => {
            let problem = format!("its engine does not answer: {}", said(&error));
            Err(ProviderError::Program { program: "docker".to_owned(), problem, next_step: START })
        }
    }
}

fn said(error: &ExecError) -> String {
    match error {
        ExecError::Failed { stderr, .. } => stderr.clone(),
        other => other.to_string(),
    }
}

/// A program that could not be started is not there; any other failure keeps its own words.
fn missing(program: &str, next_step: &'static str) -> impl FnOnce(ExecError) -> ProviderError {
    let program = program.to_owned();
    move |error| match error {
        ExecError::Start { source, .. } if source.kind() == ErrorKind::NotFound => {
            ProviderError::Program { program, problem: "it is not installed".to_owned(), next_step }
        }
        other => exec(format!("run {program}"))(other),
    }
}

/// Every container that bears the cluster's label, by name; those of no role we know (a load balancer, a helper) too.
pub fn containers(host: &Host, flavour: Flavour, name: &str) -> Result<Vec<Container>> {
    let filter = format!("label={}={}", flavour.cluster_label(), flavour.cluster(name));
    let list = host
        .exec("docker")
        .args(["ps", "--all", "--filter", &filter, "--format", "{{.Names}}"])
        .run()
        .map_err(exec(format!("list the containers of {}", flavour.cluster(name))))?;
    let mut names: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    names.sort_unstable();
    names.truncate(CONTAINERS_MAX);
    if names.is_empty() { Ok(Vec::new()) } else { inspect(host, flavour, &names) }
}

/// How these containers are. One that is not there is an error.
pub fn inspect(host: &Host, flavour: Flavour, names: &[&str]) -> Result<Vec<Container>> {
    let format = format!(
        "{{{{.Name}}}} {{{{.Id}}}} {{{{.State.Running}}}} {{{{.State.Pid}}}} {{{{.Created}}}} \
         {{{{index .Config.Labels \"{}\"}}}}",
        flavour.role_label()
    );
    let text = host
        .exec("docker")
        .args(["inspect", "--type", "container", "--format", &format])
        .args(names)
        .run()
        .map_err(exec(format!("look at the containers {}", names.join(", "))))?;
    let found: Vec<Container> = text.lines().filter_map(parse).collect();
    if found.len() == names.len() {
        return Ok(found);
    }
    let problem = format!("docker inspect told of {} containers instead of {}", found.len(), names.len());
    Err(ProviderError::Toolchain(problem))
}

fn parse(line: &str) -> Option<Container> {
    let mut words = line.split_whitespace();
    let name = words.next()?.trim_start_matches('/').to_owned();
    let id = words.next()?.to_owned();
    let running = words.next()? == "true";
    let pid = words.next()?.parse().ok()?;
    let created = words.next()?.to_owned();
    let role = words.next().unwrap_or_default().to_owned();
    Some(Container { name, id, role, running, pid, created })
}

/// Kills the container's first process: the kernel takes everything in it along, as a power cut does. Docker restarts
/// nothing that was killed by hand.
pub fn power_off(host: &Host, flavour: Flavour, id: &str) -> Result<()> {
    let killed = host.exec("docker").args(["kill", id]).deadline(POWER_DEADLINE).run();
    match settled(host, flavour, id, false) {
        Ok(()) => Ok(()),
        // Why it could not be killed tells more than that it runs.
        Err(still) => Err(killed.map_err(exec(format!("kill container {id}"))).err().unwrap_or(still)),
    }
}

pub fn power_on(host: &Host, flavour: Flavour, id: &str) -> Result<()> {
    host.exec("docker")
        .args(["start", id])
        .deadline(POWER_DEADLINE)
        .run()
        .map_err(exec(format!("start container {id}")))?;
    settled(host, flavour, id, true)
}

fn settled(host: &Host, flavour: Flavour, id: &str, running: bool) -> Result<()> {
    let deadline = Instant::now() + SETTLED_DEADLINE;
    loop {
        if inspect(host, flavour, &[id])?.iter().all(|one| one.running == running) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let what = format!("container {id} is not {}", if running { "running" } else { "off" });
            let detail = format!(": `docker logs {id}` may say why");
            return Err(ProviderError::Deadline { what, seconds: SETTLED_DEADLINE.as_secs(), detail });
        }
        std::thread::sleep(POLL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_docker_inspect() {
        let line = "/mettle-x-worker 0a1b true 4242 2026-01-02T03:04:05.678Z worker";
        let one = parse(line).unwrap();
        assert_eq!(
            (one.name.as_str(), one.id.as_str(), one.role.as_str()),
            ("mettle-x-worker", "0a1b", "worker")
        );
        assert!(one.running && one.pid == 4242);
        let off = parse("/t 0a1b false 0 2026-01-02T03:04:05Z ").unwrap();
        assert!(!off.running && off.role.is_empty());
        assert_eq!(parse("Error: No such object"), None);
    }
}
