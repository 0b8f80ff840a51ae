//! `mettle translate`: experiment files of other tools, as a rehearsal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{Global, TranslateArgs};
use crate::command::files::{NamedBy, usage};
use crate::command::{CommandResult, Failure};
use crate::exit::Exit;
use crate::foreign::{self, Remark, Surroundings, Translation};
use crate::model::{FileError, LoadSpec, Rehearsal, parse_yaml, read_text};
use crate::stack::NAMESPACE;

const HINT: &str = "docs/foreign.md says what becomes of what";

/// More lines than that help nobody.
const REMARKS_MAX: usize = 200;

/// Prints what can be translated, and says what cannot.
pub fn execute(global: &Global, args: &TranslateArgs) -> CommandResult {
    let mut all = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let text = read_text(file).map_err(|error| usage(error, NamedBy::Caller))?;
        let value =
            parse_yaml::<Value>(file, &text).map_err(|error| Failure::new(Exit::Usage, error).hint(HINT))?;
        let Some(translation) = foreign::translate(&value, &surroundings()) else {
            let error = anyhow::anyhow!("{} is of neither Chaos Mesh nor Chaos Toolkit", file.display());
            return Err(Failure::new(Exit::Usage, error).hint(HINT));
        };
        all.push((file, text, translation));
    }
    if all.len() > 1 && all.iter().any(|(_, _, translation)| translation.rehearsal.schedule) {
        let error = anyhow::anyhow!(
            "faults that come at the same time do not go together with those of another file"
        );
        return Err(Failure::new(Exit::Usage, error).hint("translate each file by itself"));
    }
    let mut refused = 0;
    for (file, text, translation) in &all {
        tell(file, text, &translation.refused, &translation.notes);
        refused += translation.refused.len();
    }
    let rehearsal =
        together(&args.files, all.into_iter().map(|(_, _, translation)| translation).collect(), refused);
    if !rehearsal.faults.is_empty() {
        if let Some((field, message)) = rehearsal.problem() {
            let error = anyhow::anyhow!("the files together make no rehearsal: {field}: {message}");
            return Err(Failure::new(Exit::Usage, error).hint("translate fewer files at once"));
        }
        if global.json {
            let text =
                serde_json::to_string_pretty(&foreign::json(&rehearsal)).map_err(anyhow::Error::from)?;
            println!("{text}");
        } else {
            print!("{}", foreign::yaml(&rehearsal));
        }
    }
    if refused == 0 {
        return Ok(Exit::Pass);
    }
    eprintln!("mettle: {}", incomplete(refused));
    eprintln!("hint: {HINT}");
    Ok(Exit::Usage)
}

/// Reads a rehearsal: a file of ours, or one of another tool of which nothing is refused.
///
/// # Errors
/// When it cannot be read, is wrong, or cannot be translated as a whole.
pub fn rehearsal(file: &Path) -> Result<Rehearsal, Failure> {
    let text = read_text(file).map_err(|error| usage(error, NamedBy::Caller))?;
    // What is no YAML is told by who reads our own files.
    let value = parse_yaml::<Value>(file, &text).unwrap_or_default();
    let Some(translation) = foreign::translate(&value, &surroundings()) else {
        return Rehearsal::read(file).map_err(|error| usage(error, NamedBy::Caller));
    };
    tell(file, &text, &translation.refused, &translation.notes);
    if translation.refused.is_empty() {
        return Ok(translation.rehearsal);
    }
    let error =
        anyhow::anyhow!("{}: {}; nothing was done", file.display(), incomplete(translation.refused.len()));
    Err(Failure::new(Exit::Usage, error)
        .hint("`mettle translate FILE` prints the rest of it; docs/foreign.md says why"))
}

fn incomplete(refused: usize) -> String {
    let fields = if refused == 1 { "1 part is".to_owned() } else { format!("{refused} parts are") };
    format!("{fields} refused, so the rehearsal is not the whole of what was asked for")
}

/// The environment as far as it is text.
pub(super) fn surroundings() -> Surroundings {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    let environment: BTreeMap<String, String> = std::env::vars_os().filter_map(text).collect();
    Surroundings { namespace: NAMESPACE.to_owned(), environment }
}

/// One rehearsal of all of them. That something is missing is also said in itself: it may be kept.
fn together(files: &[PathBuf], translations: Vec<Translation>, refused: usize) -> Rehearsal {
    let mut rehearsals: Vec<Rehearsal> = translations.into_iter().map(|one| one.rehearsal).collect();
    let mut whole = if rehearsals.len() == 1 { rehearsals.remove(0) } else { joined(files, rehearsals) };
    if refused > 0 {
        let description = format!("INCOMPLETE: {}. {}", incomplete(refused), whole.description);
        description.trim().clone_into(&mut whole.description);
    }
    whole
}

fn joined(files: &[PathBuf], rehearsals: Vec<Rehearsal>) -> Rehearsal {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    let faults: Vec<_> = rehearsals.into_iter().flat_map(|one| one.faults).collect();
    Rehearsal {
        rehearsal: "translated".to_owned(),
        description: format!("Translated from {}.", names.join(", ")),
        limits: foreign::limits(&faults),
        scenario: None,
        load: LoadSpec::default(),
        schedule: false,
        faults,
    }
}

/// Each with file, line and field.
pub(super) fn tell(file: &Path, text: &str, refused: &[Remark], notes: &[Remark]) {
    let say = |what: &str, remarks: &[Remark]| {
        for remark in remarks.iter().take(REMARKS_MAX) {
            let message = format!("{what}: {}", remark.why);
            eprintln!("mettle: {}", FileError::at(file, text, &remark.path, &message));
        }
        if remarks.len() > REMARKS_MAX {
            eprintln!("mettle: {}: {what}: and {} more", file.display(), remarks.len() - REMARKS_MAX);
        }
    };
    say("refused", refused);
    say("note", notes);
}
