//! A command line in one text, as words. What only a shell could do with it is refused: there is none here.

/// More are no command line that somebody wrote.
const WORDS_MAX: usize = 256;

/// Splits as a shell does: at spaces, with quotes and backslashes.
///
/// # Errors
/// With what a shell would have to do.
pub fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("a quote that does not end".to_owned()),
                    }
                }
            }
            '"' => quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some('\n') | None => return Err("a line that goes on".to_owned()),
                Some(c) => word.get_or_insert_default().push(c),
            },
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '*' | '?' | '[' | '\n' | '\r' => {
                return Err(format!("{c:?}, which is for a shell"));
            }
            '~' | '#' if word.is_none() => return Err(format!("{c:?}, which is for a shell")),
            c => word.get_or_insert_default().push(c),
        }
        if words.len() > WORDS_MAX {
            return Err(format!("more than {WORDS_MAX} words"));
        }
    }
    words.extend(word);
    Ok(words)
}

/// Within double quotes a backslash stands before what has a meaning there, and is itself anywhere else.
fn quoted(chars: &mut std::iter::Peekable<std::str::Chars>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '$' | '`' => return Err(format!("{c:?}, which is for a shell")),
            '\\' => match chars.peek() {
                Some('"' | '\\' | '$' | '`') => word.extend(chars.next()),
                _ => word.push('\\'),
            },
            c => word.push(c),
        }
    }
    Err("a quote that does not end".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::words;

    #[test]
    fn words_as_a_shell_splits_them_and_nothing_that_only_a_shell_can_do() {
        for (text, expected) in [
            ("", vec![]),
            ("  get   pods ", vec!["get", "pods"]),
            ("-l 'a=b c' \"d e\"", vec!["-l", "a=b c", "d e"]),
            ("a\\ b \"q\\\"q\" 'x'y\"z\"", vec!["a b", "q\"q", "xyz"]),
            ("-o jsonpath={.items}", vec!["-o", "jsonpath={.items}"]),
            ("'$HOME | x' ''", vec!["$HOME | x", ""]),
            ("a~b a#b", vec!["a~b", "a#b"]),
        ] {
            assert_eq!(words(text).unwrap(), expected, "{text}");
        }
        for text in [
            "a | b", "a; b", "a && b", "$HOME", "\"$(x)\"", "`x`", "a > b", "*.txt", "~/x", "# x", "'a",
            "\"a", "a\\", "a\nb",
        ] {
            assert!(words(text).is_err(), "{text}");
        }
    }

    proptest! {
        /// Quoted as anybody can, each word comes back.
        #[test]
        fn quoted_words_come_back(all in prop::collection::vec("[^'\\x00]{0,12}", 0..6)) {
            let text: Vec<String> = all.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(words(&text.join(" ")).unwrap(), all);
        }

        #[test]
        fn any_text_is_split_or_refused(text in "\\PC{0,40}") {
            if let Ok(words) = words(&text) {
                prop_assert!(words.len() <= text.len());
            }
        }
    }
}
