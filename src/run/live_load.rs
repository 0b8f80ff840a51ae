//! The goose child process as a [`Load`].

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};

use super::{Load, LoadStart, Recorder, RunningLoad, WorldError};
use crate::cluster::secret_text;
use crate::load::{ChildLimits, ChildSpec, LoadChild, LoadError, Tls, read_operations};
use crate::model::{Fact, Operation};

const PREPARED_DEADLINE: Duration = Duration::from_secs(45);

/// Starts load children that go straight to a service's cluster address.
pub struct LiveLoad {
    client: Client,
}

impl LiveLoad {
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Not by way of the API server: its loss must not look like the stack's.
    async fn base_url(&self, start: &LoadStart) -> Result<(String, Option<Tls>), WorldError> {
        let Some((namespace, name, port)) = start.scenario.service_parts() else {
            return Err(WorldError::new(format!(
                "service {} is not namespace/service:port",
                start.scenario.service
            )));
        };
        let services = Api::<Service>::namespaced(self.client.clone(), namespace);
        let service = services.get(name).await;
        let service = service.map_err(|error| {
            WorldError::because(format!("failed to read service {namespace}/{name}"), error)
        })?;
        let address = service.spec.and_then(|spec| spec.cluster_ip).filter(|address| address != "None");
        let Some(address) = address else {
            return Err(WorldError::new(format!("service {namespace}/{name} has no cluster address")));
        };
        let Some(authority) = &start.scenario.authority else {
            return Ok((format!("http://{address}:{port}"), None));
        };
        let socket = format!("{address}:{port}").parse::<SocketAddr>();
        let address =
            socket.map_err(|error| WorldError::because(format!("{address}:{port} is no address"), error))?;
        let pem = secret_text(&self.client, namespace, authority, "ca.crt").await;
        let authority_pem =
            pem.map_err(|error| WorldError::because("failed to read the authority of the scenario", error))?;
        let name = format!("{name}.{namespace}.svc");
        Ok((format!("https://{name}:{port}"), Some(Tls { name, address, authority_pem })))
    }
}

fn failed(what: &str) -> impl FnOnce(LoadError) -> WorldError + use<'_> {
    move |error| WorldError::because(what, error)
}

impl Load for LiveLoad {
    type Running = Running;

    async fn start(&self, start: LoadStart, recorder: Recorder) -> Result<Running, WorldError> {
        let operations_path = start.out.join("operations.jsonl");
        let (base_url, tls) = self.base_url(&start).await?;
        let spec = ChildSpec {
            base_url,
            tls,
            scenario: start.scenario,
            users: start.load.users,
            step_users: start.load.step.map(|step| step.users),
            lanes: start.load.lanes.map(|lanes| lanes as usize),
            seed: start.seed,
            run: start.run,
            clock_origin_ns: start.clock_origin_ns,
            operations_path: operations_path.clone(),
            limits: ChildLimits::default(),
        };
        let mut child = LoadChild::spawn(&spec, &start.out).map_err(failed("the load did not start"))?;
        if let Some(mut seconds) = child.seconds() {
            // Ends with the child.
            tokio::spawn(async move {
                while let Some(second) = seconds.recv().await {
                    recorder.record(Fact::Load(second));
                }
            });
        }
        child.prepared(PREPARED_DEADLINE).await.map_err(failed("the load could not be prepared"))?;
        Ok(Running { child, operations_path })
    }
}

pub struct Running {
    child: LoadChild,
    operations_path: PathBuf,
}

impl RunningLoad for Running {
    async fn operations(&mut self) -> Result<Vec<Operation>, WorldError> {
        read_operations(&self.operations_path).map_err(failed("failed to read the operations"))
    }

    async fn ended(&mut self) -> Option<String> {
        let died = tokio::time::timeout(Duration::ZERO, self.child.died_by_itself()).await;
        died.ok().map(|error| error.to_string())
    }

    async fn step(&mut self, up: bool) -> Result<(), WorldError> {
        self.child.step(up).await.map_err(failed("the load did not step"))
    }

    async fn stop(self, deadline: Duration) -> Result<Vec<Operation>, WorldError> {
        self.child.stop(deadline).await.map_err(failed("the load did not end well"))?;
        read_operations(&self.operations_path).map_err(failed("failed to read the operations"))
    }
}
