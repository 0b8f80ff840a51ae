//! Takes an object away, and sees that it is gone.

use std::fmt::Debug;
use std::time::Duration;

use kube::Api;
use kube::api::DeleteParams;
use serde::de::DeserializeOwned;

use super::{ClusterError, poll_until};

/// Deletes the object of this name, and waits until it is gone; one that is not there is gone. `what` is what messages
/// call it.
///
/// # Errors
/// When the API refuses, or the object is still there at the deadline.
pub async fn remove<K: Clone + Debug + DeserializeOwned>(
    api: &Api<K>,
    name: &str,
    what: &str,
    parameters: &DeleteParams,
    deadline: Duration,
) -> Result<(), ClusterError> {
    match api.delete(name, parameters).await.map_err(ClusterError::api(format!("delete {what}"))) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    poll_until(&format!("{what} to be gone"), deadline, || async {
        let found = api.get_opt(name).await.map_err(ClusterError::api(format!("read {what}")))?;
        Ok(if found.is_none() { Ok(()) } else { Err("it is still there".to_owned()) })
    })
    .await
}
