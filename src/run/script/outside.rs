//! What a script asks of anybody but mettle: the seam that tests replace, and the real one.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use serde_json::Value;

use super::{http, process};
use crate::cluster;
use crate::cluster::chain;
use crate::model::{Facts, HttpCall, ProcessCall, Reading};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// Whoever was asked does not answer, or says that things are not as they should be.
    Silent(String),
    /// Nobody could be asked, or what came is no answer: nothing is known.
    Unasked(String),
}

impl Unanswered {
    #[must_use]
    pub fn why(&self) -> &str {
        let (Self::Silent(why) | Self::Unasked(why)) = self;
        why
    }
}

/// Calls, programs, and reads of the API. Each ends by its own deadline; dropped, it leaves nothing running.
pub trait Outside: Send + Sync + 'static {
    fn http(&self, call: &HttpCall) -> impl Future<Output = Result<Value, Unanswered>> + Send;

    fn process(&self, call: &ProcessCall) -> impl Future<Output = Result<Value, Unanswered>> + Send;

    fn facts(&self, reading: &Reading) -> impl Future<Output = Result<Facts, Unanswered>> + Send;
}

/// One read of the API.
const READ_DEADLINE: Duration = Duration::from_secs(10);

/// The real ones.
#[derive(Default)]
pub struct Reach {
    /// Without one, there is no cluster to ask.
    pub client: Option<Client>,
    /// Programs find it as `KUBECONFIG`, so that their cluster is ours.
    pub kubeconfig: Option<PathBuf>,
}

impl Outside for Reach {
    async fn http(&self, call: &HttpCall) -> Result<Value, Unanswered> {
        http::call(call).await
    }

    async fn process(&self, call: &ProcessCall) -> Result<Value, Unanswered> {
        process::run(call, self.kubeconfig.as_deref()).await
    }

    async fn facts(&self, reading: &Reading) -> Result<Facts, Unanswered> {
        let Some(client) = &self.client else {
            return Err(Unanswered::Unasked("there is no cluster to ask".to_owned()));
        };
        match tokio::time::timeout(READ_DEADLINE, cluster::read_facts(client, reading)).await {
            Ok(Ok(facts)) => Ok(facts),
            Ok(Err(error)) => Err(Unanswered::Unasked(chain(&error))),
            Err(_) => {
                let why = format!("the API gave no answer within {} s", READ_DEADLINE.as_secs());
                Err(Unanswered::Unasked(why))
            }
        }
    }
}
