//! `${name}` in paths and bodies.

use std::fmt::Write as _;

/// A text with holes, parsed once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Hole(Hole),
}

/// What a hole is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hole {
    /// The operation's id.
    Op,
    /// The logical user's name, unique in the run.
    User,
    /// A number that the seed and the request decide.
    Random,
    /// What an earlier step of this user extracted.
    Own(u16),
    /// One of what the `prepare` steps extracted.
    Shared(u16),
}

/// How a value must be written so that it stays one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Percent-encoded, everything but unreserved characters.
    Path,
    /// As inside a JSON string.
    Json,
    /// As it is: the client refuses what a header cannot hold.
    Header,
}

impl Template {
    /// Parses `text`; `resolve` knows the names.
    ///
    /// # Errors
    /// A sentence: an unclosed `${`, or a name that `resolve` does not know.
    pub fn parse(text: &str, resolve: impl Fn(&str) -> Option<Hole>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, after) = rest.split_at(start);
            let Some(end) = after.find('}') else {
                return Err(format!("has an unclosed ${{ at {after}"));
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.into()));
            }
            let name = &after[2..end];
            let hole = resolve(name).ok_or_else(|| {
                format!("uses ${{{name}}}, which no earlier step of it and no prepare step extracts")
            })?;
            parts.push(Part::Hole(hole));
            rest = &after[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self { parts })
    }

    /// The variables of the user that it needs.
    pub fn own_holes(&self) -> impl Iterator<Item = u16> {
        self.parts.iter().filter_map(|part| match part {
            Part::Hole(Hole::Own(index)) => Some(*index),
            _ => None,
        })
    }

    /// Appends the filled text to `out`; false when `fill` has no value for a hole.
    #[must_use]
    pub fn render(&self, out: &mut String, escape: Escape, fill: impl Fn(Hole, &mut String) -> bool) -> bool {
        let mut value = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Hole(hole) => {
                    value.clear();
                    if !fill(*hole, &mut value) {
                        return false;
                    }
                    escaped(out, &value, escape);
                }
            }
        }
        true
    }
}

fn escaped(out: &mut String, value: &str, escape: Escape) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if value.bytes().all(plain) {
        out.push_str(value);
        return;
    }
    match escape {
        Escape::Path => {
            for byte in value.bytes() {
                if plain(byte) {
                    out.push(char::from(byte));
                } else {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "%{byte:02X}");
                }
            }
        }
        Escape::Header => out.push_str(value),
        Escape::Json => {
            let quoted = serde_json::Value::from(value).to_string();
            out.push_str(&quoted[1..quoted.len() - 1]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(name: &str) -> Option<Hole> {
        match name {
            "op" => Some(Hole::Op),
            "id" => Some(Hole::Own(3)),
            _ => None,
        }
    }

    fn rendered(text: &str, escape: Escape, value: &str) -> String {
        let template = Template::parse(text, known).expect("parses");
        let mut out = String::new();
        assert!(template.render(&mut out, escape, |_, to| {
            to.push_str(value);
            true
        }));
        out
    }

    #[test]
    fn values_stay_one_value() {
        assert_eq!(rendered("/m/${id}?x=1", Escape::Path, "a b/c?"), "/m/a%20b%2Fc%3F?x=1");
        assert_eq!(rendered(r#"{"id":"${id}"}"#, Escape::Json, "a\"b\\\n"), r#"{"id":"a\"b\\\n"}"#);
        assert_eq!(rendered("Bearer ${id}", Escape::Header, "a.b=/c"), "Bearer a.b=/c");
        assert_eq!(rendered("${op}${op}", Escape::Path, "r-1"), "r-1r-1");
        assert_eq!(rendered("$5 {x}", Escape::Path, ""), "$5 {x}");
    }

    #[test]
    fn a_missing_value_and_an_unknown_name_are_told() {
        let template = Template::parse("/${id}", known).expect("parses");
        assert!(!template.render(&mut String::new(), Escape::Path, |_, _| false));
        assert_eq!(template.own_holes().collect::<Vec<_>>(), [3]);
        assert!(Template::parse("/${nobody}", known).expect_err("unknown").contains("${nobody}"));
        assert!(Template::parse("/${id", known).expect_err("unclosed").contains("unclosed"));
    }
}
