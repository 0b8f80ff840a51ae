//! Images from our cache into a registry, for clusters whose nodes we cannot reach.

use std::time::Duration;

use super::docker::engine;
use super::error::{ProviderError, Result, exec};
use super::host::Host;
use super::images::{Image, PREFIX, buildah};
use super::progress::Step;

const LOAD_DEADLINE: Duration = Duration::from_secs(180);
const PUSH_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Pushes images and answers with the references that the cluster pulls, in the same order. Docker pushes them where
/// it runs, with the credentials that it has; else buildah does.
pub fn push(host: &Host, images: &[Image], registry: &str) -> Result<Vec<String>> {
    let prefix = prefix(registry)?;
    let docker = engine::engine(host).is_ok();
    let step = Step::counted(format!("pushing {} images to {prefix}", images.len()), images.len() as u64);
    let mut references = Vec::with_capacity(images.len());
    for (done, image) in images.iter().enumerate() {
        let target = target(&image.reference, prefix);
        step.message(&target);
        let pushed = if docker { by_docker(host, image, &target) } else { by_buildah(image, &target) };
        pushed.map_err(exec(format!("push {target}")))?;
        step.position(done as u64 + 1);
        references.push(target);
    }
    step.done("");
    Ok(references)
}

fn by_docker(host: &Host, image: &Image, target: &str) -> std::result::Result<(), super::exec::ExecError> {
    let docker = || host.exec("docker");
    docker().args(["load", "--input"]).arg(&image.archive).deadline(LOAD_DEADLINE).run()?;
    docker().args(["tag", &image.reference, target]).run()?;
    docker().args(["push", target]).deadline(PUSH_DEADLINE).run().map(drop)
}

fn by_buildah(image: &Image, target: &str) -> std::result::Result<(), super::exec::ExecError> {
    let archive = format!("oci-archive:{}", image.archive.display());
    buildah().args(["pull", "--quiet", &archive]).deadline(LOAD_DEADLINE).run()?;
    let to = format!("docker://{target}");
    buildah().args(["push", "--quiet", &image.reference, &to]).deadline(PUSH_DEADLINE).run().map(drop)
}

/// `registry.example/team`, without what a reference must not have.
fn prefix(registry: &str) -> Result<&str> {
    let trimmed = registry.trim_end_matches('/');
    let bad = trimmed.is_empty() || trimmed.contains("://") || trimmed.contains(char::is_whitespace);
    if bad {
        return Err(ProviderError::BadRegistry(registry.to_owned()));
    }
    Ok(trimmed)
}

/// `localhost/mettle/redis:0a1b` → `registry.example/team/redis:0a1b`.
fn target(reference: &str, prefix: &str) -> String {
    let name = reference.strip_prefix(PREFIX).unwrap_or(reference).trim_start_matches('/');
    format!("{prefix}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_images_go() {
        let to = |registry: &str| prefix(registry).map(|prefix| target("localhost/mettle/redis:0a", prefix));
        assert_eq!(to("r.example/team/").unwrap(), "r.example/team/redis:0a");
        assert_eq!(to("127.0.0.1:5000").unwrap(), "127.0.0.1:5000/redis:0a");
        for bad in ["", "/", "https://r.example", "r.example/a b"] {
            assert!(matches!(to(bad), Err(ProviderError::BadRegistry(_))), "{bad:?}");
        }
    }
}
