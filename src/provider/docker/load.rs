//! Images from our cache into the nodes: the archive that Docker or buildah saved, imported by each node's containerd.

use std::time::Duration;

use super::super::error::{ProviderError, Result, exec};
use super::super::host::Host;
use super::super::images::Image;
use super::super::progress::Step;
use super::record::{Place, Record};

const LOAD_DEADLINE: Duration = Duration::from_secs(300);

/// Loads what a node lacks, and looks that it has it then: an archive that names its image otherwise would be imported
/// without an error, and its pods would wait for a registry.
pub fn load(host: &Host, place: &Place, record: &Record, images: &[Image]) -> Result<()> {
    if images.is_empty() {
        return Ok(());
    }
    let lacks = lacking(host, place, record, images)?;
    if lacks.is_empty() {
        return Ok(());
    }
    let step = Step::counted(format!("loading {} images into the nodes", lacks.len()), lacks.len() as u64);
    for (done, (image, nodes)) in lacks.iter().enumerate() {
        step.message(&image.reference);
        let archive = image.archive.display().to_string();
        host.exec(place.flavour.name())
            .args(place.flavour.load_arguments(&place.name, &archive, nodes))
            .deadline(LOAD_DEADLINE)
            .run()
            .map_err(exec(format!("load {} into {}", image.reference, nodes.join(", "))))?;
        step.position(done as u64 + 1);
    }
    match lacking(host, place, record, images)?.first() {
        None => {
            step.done("");
            Ok(())
        }
        Some((image, nodes)) => {
            let what = format!("{} on {}", image.reference, nodes.join(", "));
            let tried = format!("the import of {}", image.archive.display());
            Err(ProviderError::NotFound { what, tried })
        }
    }
}

/// Each image that some nodes lack, with those nodes. Pods run on the workers.
fn lacking<'a>(
    host: &Host,
    place: &Place,
    record: &Record,
    images: &'a [Image],
) -> Result<Vec<(&'a Image, Vec<String>)>> {
    let mut have = Vec::new();
    for member in record.workers(place.flavour) {
        let listed = host
            .exec("docker")
            .args(["exec", &member.id, "ctr", "--namespace", "k8s.io", "images", "list", "--quiet"])
            .run()
            .map_err(exec(format!("list the images of {}", member.name)))?;
        have.push((member.name.clone(), listed));
    }
    let without = |image: &Image| {
        let lacks = have.iter().filter(|(_, listed)| !listed.lines().any(|line| line == image.reference));
        lacks.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let each = images.iter().map(|image| (image, without(image)));
    Ok(each.filter(|(_, nodes)| !nodes.is_empty()).collect())
}
