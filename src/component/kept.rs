//! Connections that outlive a look: a server that is asked every second must not pay for a handshake each time.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::{ClusterError, Dialer, PodAddress, Stream};

/// How one server is asked.
pub(super) trait Ask: Send + Sync {
    type Connection: Send;
    type Answer: Send;
    const PORT: u16;

    /// Whatever must be said before the first question.
    fn open(
        &self,
        stream: Box<dyn Stream>,
        what: &str,
    ) -> impl Future<Output = Result<Self::Connection, ClusterError>> + Send;

    fn ask(
        &self,
        connection: &mut Self::Connection,
        what: &str,
    ) -> impl Future<Output = Result<Self::Answer, ClusterError>> + Send;
}

/// One connection a pod, as long as the pod has the same address.
pub(super) struct Kept<C>(Mutex<BTreeMap<String, (Option<String>, C)>>);

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Kept<C> {
    fn take(&self, pod: &PodAddress) -> Option<C> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (ip, connection) = kept.remove(&pod.name)?;
        (ip == pod.ip).then_some(connection)
    }

    fn put(&self, pod: &PodAddress, connection: C) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.insert(pod.name.clone(), (pod.ip.clone(), connection));
    }
}

/// Asks one server, all within the deadline. A kept connection that broke is replaced once; one that is silent is given
/// up with the deadline, and not kept.
pub(super) async fn ask<A: Ask>(
    how: &A,
    kept: &Kept<A::Connection>,
    dialer: &Dialer,
    pod: &PodAddress,
    deadline: Duration,
) -> Result<A::Answer, ClusterError> {
    let what = format!("ask port {} of {}", A::PORT, pod.name);
    let asking = async {
        if let Some(mut connection) = kept.take(pod)
            && let Ok(answer) = how.ask(&mut connection, &what).await
        {
            kept.put(pod, connection);
            return Ok(answer);
        }
        let mut connection = how.open(dialer.dial(pod, A::PORT, deadline).await?, &what).await?;
        let answer = how.ask(&mut connection, &what).await?;
        kept.put(pod, connection);
        Ok(answer)
    };
    match tokio::time::timeout(deadline, asking).await {
        Ok(result) => result,
        Err(_) => Err(ClusterError::Deadline { what: what.clone(), seconds: deadline.as_secs().max(1) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_kept_for_one_address_only() {
        let pod = |ip: &str| PodAddress {
            namespace: "n".into(),
            name: "p".into(),
            ip: Some(ip.into()),
            node: None,
        };
        let kept = Kept::default();
        kept.put(&pod("10.0.0.1"), 7);
        assert_eq!(kept.take(&pod("10.0.0.1")), Some(7));
        assert_eq!(kept.take(&pod("10.0.0.1")), None, "it is taken while it is in use");
        kept.put(&pod("10.0.0.1"), 7);
        assert_eq!(kept.take(&pod("10.0.0.2")), None, "the pod was replaced");
        assert_eq!(kept.take(&pod("10.0.0.1")), None);
    }
}
