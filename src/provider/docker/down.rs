//! Takes a cluster of containers down; never one that is not ours.

use std::time::Duration;

use super::super::error::{ProviderError, Result, exec};
use super::super::host::Host;
use super::engine;
use super::flavour::Flavour;
use super::record::{Place, Standing, foreign, standing};

const LOCK_PATIENCE: Duration = Duration::from_secs(60);
const DELETE_DEADLINE: Duration = Duration::from_secs(180);

/// Answers whether there was anything of it.
///
/// # Errors
/// When Docker does not answer, when the cluster is not ours, or when something of it is left.
pub fn down(host: &Host, flavour: Flavour, name: &str) -> Result<bool> {
    let place = Place::new(host, flavour, name)?;
    engine::engine(host)?;
    let lock = place.lock(LOCK_PATIENCE)?;
    let done = take(host, &place);
    lock.remove()?;
    done
}

fn take(host: &Host, place: &Place) -> Result<bool> {
    let (flavour, name) = (place.flavour, place.name.as_str());
    let record = place.load()?;
    let containers = engine::containers(host, flavour, name)?;
    let stood = match standing(flavour, record.as_ref(), &containers) {
        Standing::Foreign(why) => return Err(foreign(flavour, name, why)),
        Standing::Nothing => false,
        Standing::Ours | Standing::HalfMade => {
            delete(host, place)?;
            true
        }
    };
    if record.is_some() {
        place.remove()?;
    }
    Ok(stood || record.is_some())
}

/// Deletes the cluster, whose containers are ours, and looks that none is left.
pub(super) fn delete(host: &Host, place: &Place) -> Result<()> {
    let (flavour, name) = (place.flavour, place.name.as_str());
    let words = flavour.delete_arguments(name, &place.kubeconfig().display().to_string());
    host.exec(flavour.name()).args(words).deadline(DELETE_DEADLINE).run().map_err(exec(format!(
        "delete {} cluster {}",
        flavour.name(),
        flavour.cluster(name)
    )))?;
    let left = engine::containers(host, flavour, name)?;
    if left.is_empty() {
        return Ok(());
    }
    let left: Vec<String> = left.into_iter().map(|one| format!("container {}", one.name)).collect();
    Err(ProviderError::Residue { name: name.to_owned(), left: left.join(", ") })
}
