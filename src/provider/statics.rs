//! Programs that go into images: linked statically, so that they run on whatever base an image has, whatever machine
//! built them. Ours come from this source tree; others are built from the Go modules that pin them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::{Result, exec, io};
use super::exec::Exec;
use super::images::{Request, home};
use super::local::binaries::cache_dir;
use super::local::build::{GoBuild, go_build};
use super::local::lock::Lock;
use super::progress::Step;

const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
const BUILD_PATIENCE: Duration = Duration::from_secs(40 * 60);

/// A program that an image carries.
struct Carried {
    image: &'static str,
    /// A package of ours; empty for a Go program, whose package names it.
    binary: &'static str,
    source: Source,
}

enum Source {
    /// A package of our own workspace; the binary has its name.
    Cargo,
    Go {
        /// Directory under `kubernetes/` with its own go.mod.
        module: &'static str,
        /// Its last part is the binary's name.
        package: &'static str,
        /// Build tags, separated by commas.
        tags: &'static str,
        /// Lines that `go build -v` prints on an empty build cache: the length of the progress bar.
        packages_total: u64,
    },
}

const CARRIED: &[Carried] = &[
    Carried { image: "platform", binary: "platform", source: Source::Cargo },
    Carried { image: "agent", binary: "mettle-agent", source: Source::Cargo },
    go("istiod", "istio", "istio.io/istio/pilot/cmd/pilot-discovery", "vtprotobuf,disable_pgv", 1_500),
    go(
        "proxy",
        "istio",
        "istio.io/istio/pilot/cmd/pilot-agent",
        "agent,disable_pgv,grpcnotrace,retrynotrace",
        700,
    ),
    // Of all ways to find targets only the one that is used: the clouds' clients are most of its code.
    go(
        "prometheus",
        "prometheus",
        "github.com/prometheus/prometheus/cmd/prometheus",
        "remove_all_sd,enable_kubernetes_sd",
        1_400,
    ),
    go("metrics-adapter", "prometheus-adapter", "sigs.k8s.io/prometheus-adapter/cmd/adapter", "", 1_300),
    go(
        "exporters",
        "exporters",
        "github.com/prometheus-community/postgres_exporter/cmd/postgres_exporter",
        "",
        400,
    ),
];

const fn go(
    image: &'static str,
    module: &'static str,
    package: &'static str,
    tags: &'static str,
    packages_total: u64,
) -> Carried {
    Carried { image, binary: "", source: Source::Go { module, package, tags, packages_total } }
}

impl Carried {
    fn binary(&self) -> &'static str {
        match &self.source {
            Source::Cargo => self.binary,
            Source::Go { package, .. } => package.rsplit('/').next().unwrap_or(package),
        }
    }

    /// Where it is kept once built. Ours: a place for each source tree, since its content is known only after the build.
    /// A Go program: named by what pins it.
    fn kept(&self) -> PathBuf {
        let key = match &self.source {
            Source::Cargo => short_hash([home().as_os_str().as_encoded_bytes()]),
            Source::Go { module, package, tags, .. } => {
                let pins = ["go.mod", "go.sum"].map(|name| home().join("kubernetes").join(module).join(name));
                let pins = pins.map(|path| fs::read(path).unwrap_or_default());
                short_hash([&pins[0], &pins[1], package.as_bytes(), tags.as_bytes()])
            }
        };
        cache_dir().join("static").join(key).join(self.binary())
    }
}

fn short_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// An image's request, with the programs that it carries.
#[must_use]
pub fn request(image: &str) -> Request {
    let files = CARRIED.iter().filter(|carried| carried.image == image).map(Carried::kept).collect();
    Request { name: image.to_owned(), files }
}

/// Builds the programs that these images carry. Cargo knows what of ours is fresh.
pub fn ensure(requests: &[Request]) -> Result<()> {
    let wanted = |carried: &&Carried| requests.iter().any(|request| request.name == carried.image);
    let (ours, foreign): (Vec<&Carried>, Vec<&Carried>) =
        CARRIED.iter().filter(wanted).partition(|carried| matches!(carried.source, Source::Cargo));
    if !ours.is_empty() {
        build_ours(&ours)?;
    }
    foreign.into_iter().filter(|carried| !carried.kept().exists()).try_for_each(build_foreign)
}

fn build_ours(carried: &[&Carried]) -> Result<()> {
    let step = Step::spinner("building our static programs");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    // Where mettle itself was built: what the compiler needs (procedural macros) is there already.
    let told = env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    let target =
        told.and_then(|dir| std::path::absolute(dir).ok()).unwrap_or_else(|| cache_dir().join("target"));
    let mut cargo = Exec::new("cargo")
        .args(["build", "--locked", "--target", &triple])
        .dir(&home())
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .deadline(BUILD_DEADLINE);
    for carried in carried {
        cargo = cargo.args(["--package", carried.binary]);
    }
    // The target directory may be another checkout's too: what was just built is taken before anybody builds again.
    let lock = Lock::acquire(&cache_dir().join("static.lock"), "the static programs", BUILD_PATIENCE)?;
    cargo.run().map_err(exec("build the static programs".to_owned()))?;
    for carried in carried {
        keep(&target.join(&triple).join("debug").join(carried.binary), &carried.kept())?;
    }
    lock.remove()?;
    step.done("");
    Ok(())
}

fn build_foreign(carried: &Carried) -> Result<()> {
    let Source::Go { module, package, tags, packages_total } = &carried.source else { return Ok(()) };
    let kept = carried.kept();
    let lock = Lock::acquire(&cache_dir().join("static.lock"), "the static programs", BUILD_PATIENCE)?;
    if !kept.exists() {
        let work = kept.with_file_name(format!(".building-{}", carried.binary()));
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).map_err(io("create", &work))?;
        go_build(
            &GoBuild {
                module,
                label: format!("building {} from its Go module, once", carried.binary()),
                packages: vec![package],
                total: *packages_total,
                flags: "-s -w".to_owned(),
                tags,
            },
            &work,
        )?;
        keep(&work.join(carried.binary()), &kept)?;
        fs::remove_dir_all(&work).map_err(io("remove", &work))?;
    }
    lock.remove()
}

/// Whole or not at all: another `up` may read it meanwhile.
fn keep(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(io("create", parent))?;
    }
    let new = to.with_extension("new");
    fs::copy(from, &new).map_err(io("copy", from))?;
    fs::rename(&new, to).map_err(io("keep", to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_asks_for_the_programs_that_it_carries() {
        assert!(request("redis").files.is_empty());
        let platform = request("platform");
        assert_eq!(platform.files.len(), 1);
        assert_eq!(platform.files[0].file_name().unwrap(), "platform");
        assert!(request("istiod").files[0].ends_with("pilot-discovery"), "named by its package");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        assert_ne!(short_hash([b"ab".as_slice(), b"c"]), short_hash([b"a".as_slice(), b"bc"]));
    }
}
