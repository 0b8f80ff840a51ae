//! Just enough of Rust's grammar to judge its layout: what is code, what is a test, where an item ends.

/// The text with comments, strings and characters blanked out; lines and braces stay where they were.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skip(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal that starts here ends; `at` itself when none does.
fn skip(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let find = |from: usize, wanted: &[char]| {
        let mut windows = rest.get(from..).unwrap_or_default().windows(wanted.len());
        windows.position(|window| window == wanted).map(|found| at + from + found)
    };
    let word_before = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => find(2, &['\n']).unwrap_or(chars.len()),
        ['/', '*', ..] => find(2, &['*', '/']).map_or(chars.len(), |end| end + 2),
        ['r', '"' | '#', ..] if !word_before => {
            let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
            if rest.get(1 + hashes) != Some(&'"') {
                return at;
            }
            let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
            find(2 + hashes, &close).map_or(chars.len(), |end| end + close.len())
        }
        ['"', ..] => quoted(chars, at, '"'),
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(chars, at, '\''),
        _ => at,
    }
}

fn quoted(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// Byte position after the item that begins at `from`: after its block, or its semicolon.
pub fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            b';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

const TEST: &str = "#[cfg(test)]";

/// The code without its test items, and the names of the modules that are tests.
pub fn without_tests(code: &str) -> (String, Vec<String>) {
    let (mut kept, mut modules, mut rest) = (String::new(), Vec::new(), code);
    while let Some(at) = rest.find(TEST) {
        kept.push_str(&rest[..at]);
        let end = item_end(rest, at + TEST.len());
        let item = &rest[at + TEST.len()..end];
        if let Some(name) = item.trim().strip_prefix("mod ").and_then(|name| name.strip_suffix(';')) {
            modules.push(name.to_owned());
        }
        kept.extend(item.chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    kept.push_str(rest);
    (kept, modules)
}

/// Name, first line and number of lines of every function.
pub fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() || before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let end = item_end(code, at);
        let lines = code[at..end].matches('\n').count() + 1;
        found.push((name, code[..at].matches('\n').count() + 1, lines));
    }
    found
}

/// The top-level modules that code names as `crate::x` or `crate::{x, y}`.
pub fn modules_used(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let rest = &code[at + path.len()..];
        let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(group) = rest.strip_prefix('{') else {
            used.push(word(rest));
            continue;
        };
        let (mut depth, mut first) = (0, true);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => first = true,
                c if first && !c.is_whitespace() => {
                    used.push(word(&group[at..]));
                    first = false;
                }
                _ => {}
            }
        }
    }
    used
}

#[test]
fn the_grammar_is_enough() {
    let text = "fn a() { let x = \"}\"; // }\n let c = '}'; let l: &'static str = r#\"}\"#;\n}\n\
                #[cfg(test)]\nmod t;\n#[cfg(test)]\nmod tests {\n fn b() { x.unwrap() }\n}\nuse crate::{m, n::{o, p}};\n";
    let blank = code(text);
    assert_eq!(blank.matches('\n').count(), text.matches('\n').count());
    let (kept, modules) = without_tests(&blank);
    assert_eq!(modules, ["t"]);
    assert!(!kept.contains("unwrap"), "{kept}");
    assert_eq!(functions(&kept), [("a".to_owned(), 1, 3)]);
    assert_eq!(modules_used(&kept), ["m", "n"]);
}
