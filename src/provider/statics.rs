//! Our own programs that go into images: built from this source tree, linked statically, so that they run on whatever
//! base an image has, whatever machine built them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Result, exec, io};
use super::exec::Exec;
use super::images::{Request, home};
use super::local::binaries::cache_dir;
use super::progress::Step;

const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// Image → the package, which is also the binary, that it carries.
const CARRIED: [(&str, &str); 2] = [("platform", "platform"), ("agent", "mettle-agent")];

/// Where built programs are kept, apart from what a later build may replace.
fn kept(binary: &str) -> PathBuf {
    cache_dir().join("static").join(binary)
}

/// An image's request, with the program that it carries.
#[must_use]
pub fn request(image: &str) -> Request {
    let files = CARRIED.iter().filter(|(name, _)| *name == image).map(|(_, binary)| kept(binary)).collect();
    Request { name: image.to_owned(), files }
}

/// Builds the programs that these images carry. Cargo knows what is fresh.
pub fn ensure(requests: &[Request]) -> Result<()> {
    if requests.iter().all(|request| request.files.is_empty()) {
        return Ok(());
    }
    let step = Step::spinner("building our static programs");
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    // The tree's own target directory: what the compiler itself needs (procedural macros) is there already.
    let told = env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()).map(PathBuf::from);
    let target = told.and_then(|dir| std::path::absolute(dir).ok()).unwrap_or_else(|| home().join("target"));
    let keep = kept("");
    fs::create_dir_all(&keep).map_err(io("create", &keep))?;
    let mut cargo = Exec::new("cargo")
        .args(["build", "--locked", "--target", &triple])
        .dir(&home())
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
        .deadline(BUILD_DEADLINE);
    for (_, package) in CARRIED {
        cargo = cargo.args(["--package", package]);
    }
    cargo.run().map_err(exec("build the static programs".to_owned()))?;
    for (_, binary) in CARRIED {
        replace(&target.join(&triple).join("debug").join(binary), &kept(binary))?;
    }
    step.done("");
    Ok(())
}

/// Whole or not at all: another `up` may read it meanwhile.
fn replace(from: &Path, to: &Path) -> Result<()> {
    let new = to.with_extension("new");
    fs::copy(from, &new).map_err(io("copy", from))?;
    fs::rename(&new, to).map_err(io("keep", to))
}
