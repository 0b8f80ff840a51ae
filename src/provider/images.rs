//! Images of the stack: built from `stack/images`, kept by content, imported into every node.
//!
//! Docker builds them where there is one, else buildah does. Either way every image stands on one Debian base; without
//! a registry that base is made by `mmdebstrap` from Debian's own packages. `METTLE_BASE_IMAGE` names another.
//!
//! An image's tag is a hash of everything that goes into it: its directory, its base, and files that are added to its
//! build context. What has that tag already is not built, and not imported, again. An image whose directory holds a file
//! `BASE` stands on the image of ours that it names.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::artifacts;
use super::context::{content_hash, copy, stage};
use super::error::{ProviderError, Result, exec, io};
use super::exec::Exec;
use super::local::binaries::cache_dir;
use super::local::layout::Layout;
use super::local::lock::Lock;
use super::progress::Step;
use super::shelf;

const BUILD_DEADLINE: Duration = Duration::from_secs(20 * 60);
const BUILD_PATIENCE: Duration = Duration::from_secs(30 * 60);
const IMPORT_DEADLINE: Duration = Duration::from_secs(180);
pub(super) const PREFIX: &str = "localhost/mettle";
const BASE: &str = "base";
const DEBIAN: &str = "debian";
const DOCKERFILE: &str = "Dockerfile";
const PARENT: &str = "BASE";
/// Images that stand on one another.
const DEPTH_MAX: usize = 4;

/// An image to be had, by its directory under `stack/images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub name: String,
    /// Files that are added to its build context under their own names.
    pub files: Vec<PathBuf>,
}

impl Request {
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), files: Vec::new() }
    }
}

/// An image that can be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `localhost/mettle/<name>:<content>`.
    pub reference: String,
    pub archive: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Builder {
    Docker,
    Buildah,
}

impl Builder {
    fn detect() -> Self {
        let docker = Exec::line("docker info").deadline(Duration::from_secs(5)).run().is_ok();
        if docker { Self::Docker } else { Self::Buildah }
    }

    fn command(self) -> Exec {
        let exec = match self {
            Self::Docker => Exec::new("docker"),
            Self::Buildah => buildah(),
        };
        exec.deadline(BUILD_DEADLINE)
    }

    fn has(self, reference: &str) -> bool {
        let verb: &[&str] = match self {
            Self::Docker => &["image", "inspect"],
            Self::Buildah => &["inspect", "--type", "image"],
        };
        self.command().args(verb).arg(reference).run().is_ok()
    }

    fn build(self, context: &Path, dockerfile: &str, reference: &str, base: Option<&str>) -> Result<()> {
        let mut exec = self.command().arg("build").arg("--file").arg(context.join(dockerfile));
        if self == Self::Docker {
            // The package sources that the machine reaches, reached in its own way; `COPY --chmod` needs BuildKit,
            // which an older Docker has only when it is asked for.
            exec = exec.args(["--network", "host"]).env("DOCKER_BUILDKIT", "1");
        }
        if let Some(base) = base {
            exec = exec.args(["--build-arg", &format!("BASE={base}")]);
        }
        let exec = exec.args(["--tag", reference]).arg(context);
        exec.run().map(drop).map_err(super::error::exec(format!("build image {reference}")))
    }

    fn save(self, reference: &str, archive: &Path) -> Result<()> {
        let new = archive.with_extension("new");
        let _ = fs::remove_file(&new);
        let path = new.display();
        let exec_line = match self {
            Self::Docker => self.command().args(["save", "--output", &path.to_string(), reference]),
            Self::Buildah => self.command().args([
                "push",
                "--quiet",
                reference,
                &format!("oci-archive:{path}:{reference}"),
            ]),
        };
        exec_line.run().map_err(exec(format!("save image {reference}")))?;
        fs::rename(&new, archive).map_err(io("keep", archive))
    }
}

/// buildah on our own store. In a mount namespace of its own: what it mounts, and forgets, goes with it.
pub(super) fn buildah() -> Exec {
    Exec::new("unshare")
        .args(["--mount", "--propagation", "private", "buildah", "--root"])
        .arg(cache_dir().join("buildah/storage"))
        .arg("--runroot")
        .arg(cache_dir().join("buildah/run"))
        .env("BUILDAH_ISOLATION", "chroot")
}

/// Has every image in the cache; builds what is missing.
pub fn ensure_images(requests: &[Request]) -> Result<BTreeMap<String, Image>> {
    let workshop = Workshop::open()?;
    let mut images = BTreeMap::new();
    let mut missing = Vec::new();
    for request in requests {
        let image = workshop.image(request, DEPTH_MAX)?;
        if !image.archive.exists() {
            missing.push((request, image.clone()));
        }
        images.insert(request.name.clone(), image);
    }
    if missing.is_empty() {
        return Ok(images);
    }
    let lock = Lock::acquire(&workshop.cache.join("build.lock"), "the cache of images", BUILD_PATIENCE)?;
    let builder = Builder::detect();
    for (request, image) in missing.iter().filter(|(_, image)| !image.archive.exists()) {
        let built = workshop.build(builder, request)?;
        let saving = Instant::now();
        builder.save(&image.reference, &image.archive)?;
        shelf::record(&image.archive, built, saving.elapsed())?;
    }
    lock.remove()?;
    Ok(images)
}

/// Where images come from and go to.
struct Workshop {
    sources: PathBuf,
    cache: PathBuf,
    /// Tag of the base that all stand on.
    base: String,
}

impl Workshop {
    fn open() -> Result<Self> {
        let sources = sources_dir()?;
        let base = base_tag(&sources)?;
        Ok(Self { sources, cache: cache_dir().join("images"), base })
    }

    /// The image of ours that one stands on; absent for the base itself.
    fn parent(&self, name: &str) -> Result<Option<Request>> {
        let path = self.sources.join(name).join(PARENT);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(io("read", &path))?;
        Ok(Some(Request::named(text.trim())))
    }

    fn image(&self, request: &Request, depth: usize) -> Result<Image> {
        let below = match self.parent(&request.name)? {
            None => self.base.clone(),
            Some(parent) if depth > 0 => self.image(&parent, depth - 1)?.reference,
            Some(parent) => {
                let path = self.sources.join(&parent.name).join(PARENT);
                let problem = format!("more than {DEPTH_MAX} images stand on one another");
                return Err(ProviderError::Unreadable { path, problem });
            }
        };
        image(request, &self.sources, &self.cache, &below)
    }

    /// Builds into the builder's store; what it stands on first. A build of an hour ago may be there still: then no
    /// time is given. The time is the image's own, without what it stands on and without downloads.
    fn build(&self, builder: Builder, request: &Request) -> Result<Option<Duration>> {
        let reference = self.image(request, DEPTH_MAX)?.reference;
        if builder.has(&reference) {
            return Ok(None);
        }
        let base = match self.parent(&request.name)? {
            None => ensure_base(builder, &self.sources, &self.cache, &self.base)?,
            Some(parent) => {
                self.build(builder, &parent)?;
                self.image(&parent, DEPTH_MAX)?.reference
            }
        };
        let dir = self.sources.join(&request.name);
        let listed = artifacts::listed(&dir)?;
        let downloads = artifacts::ensure(&listed, &cache_dir().join("artifacts"), &request.name)?;
        let step = Step::spinner(format!("building image {}, once", request.name));
        let context = stage(&dir, &request.files, &self.cache)?;
        for (artifact, download) in listed.iter().zip(&downloads) {
            copy(download, &context.join(&artifact.name))?;
        }
        builder.build(&context, DOCKERFILE, &reference, Some(&base))?;
        fs::remove_dir_all(&context).map_err(io("remove", &context))?;
        let took = step.elapsed();
        step.done("");
        Ok(Some(took))
    }
}

/// Hash of what goes into the base.
fn base_tag(sources: &Path) -> Result<String> {
    let other = env::var("METTLE_BASE_IMAGE").unwrap_or_default();
    content_hash(&[sources.join(BASE)], &other)
}

fn image(request: &Request, sources: &Path, cache: &Path, base: &str) -> Result<Image> {
    let mut inputs = vec![sources.join(&request.name)];
    inputs.extend(request.files.iter().cloned());
    let tag = content_hash(&inputs, base)?;
    let archive = cache.join(format!("{}-{tag}.tar", request.name));
    Ok(Image { reference: format!("{PREFIX}/{}:{tag}", request.name), archive })
}

/// The base image in the builder's store; a build of an hour ago may be there still.
fn ensure_base(builder: Builder, sources: &Path, cache: &Path, tag: &str) -> Result<String> {
    let reference = format!("{PREFIX}/{BASE}:{tag}");
    if builder.has(&reference) {
        return Ok(reference);
    }
    let below = match env::var("METTLE_BASE_IMAGE") {
        Ok(other) if !other.is_empty() => other,
        _ => ensure_debian(builder, sources, cache, tag)?,
    };
    let step = Step::spinner("building the images' base, once");
    builder.build(&sources.join(BASE), DOCKERFILE, &reference, Some(&below))?;
    step.done("");
    Ok(reference)
}

fn ensure_debian(builder: Builder, sources: &Path, cache: &Path, tag: &str) -> Result<String> {
    let reference = format!("{PREFIX}/{DEBIAN}:{tag}");
    if builder.has(&reference) {
        return Ok(reference);
    }
    let step = Step::spinner("making a Debian root file system with mmdebstrap, once");
    let context = stage(&sources.join(BASE), &[], cache)?;
    let script = sources.join(BASE).join("rootfs.sh");
    Exec::new("sh")
        .arg(&script)
        .arg(context.join("debian.tar"))
        .deadline(BUILD_DEADLINE)
        .run()
        .map_err(exec("make a Debian root file system"))?;
    builder.build(&context, "Dockerfile.debian", &reference, None)?;
    fs::remove_dir_all(&context).map_err(io("remove", &context))?;
    step.done("");
    Ok(reference)
}

/// `METTLE_HOME`, or the source tree that this program was built from.
#[must_use]
pub fn home() -> PathBuf {
    let told = env::var_os("METTLE_HOME").filter(|value| !value.is_empty());
    told.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

fn sources_dir() -> Result<PathBuf> {
    let dir = home().join("stack/images");
    if dir.is_dir() {
        return Ok(dir);
    }
    let what = "the images' Dockerfiles (set METTLE_HOME to mettle's source tree)".to_owned();
    Err(ProviderError::NotFound { what, tried: dir.display().to_string() })
}

fn ctr(socket: &Path) -> Exec {
    Exec::new("ctr").arg("--address").arg(socket).args(["--namespace", "k8s.io"])
}

/// Imports images into every one of those nodes, side by side; what a node has already is skipped.
pub fn import(layout: &Layout, nodes: &[String], images: &[Image]) -> Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> =
            nodes.iter().map(|node| scope.spawn(move || import_into(layout, node, images))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or(Ok(())))
    })
}

fn import_into(layout: &Layout, node: &str, images: &[Image]) -> Result<()> {
    let socket = layout.containerd_socket(node);
    let listed = ctr(&socket)
        .args(["images", "list", "--quiet"])
        .run()
        .map_err(exec(format!("list the images of {node}")))?;
    for image in images.iter().filter(|image| !listed.lines().any(|line| line == image.reference)) {
        ctr(&socket)
            .args(["images", "import"])
            .arg(&image.archive)
            .deadline(IMPORT_DEADLINE)
            .run()
            .map_err(exec(format!("import {} into {node}", image.reference)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_changes_with_everything_that_goes_in() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, extra) = (dir.path().join("images"), dir.path().join("platform"));
        fs::create_dir_all(sources.join("web")).unwrap();
        fs::write(sources.join("web/Dockerfile"), "FROM x").unwrap();
        fs::write(&extra, "one").unwrap();
        let request = Request { name: "web".to_owned(), files: vec![extra.clone()] };
        let tag = |base: &str| image(&request, &sources, Path::new("/c"), base).unwrap().reference;
        let first = tag("b");
        assert_eq!(tag("b"), first);
        assert_ne!(tag("c"), first, "the base");
        fs::write(&extra, "two").unwrap();
        let second = tag("b");
        assert_ne!(second, first, "a file of the context");
        fs::rename(sources.join("web/Dockerfile"), sources.join("web/Other")).unwrap();
        assert_ne!(tag("b"), second, "a name");
    }
}
