//! Keeps what looks like a secret out of reports. A net under the rule that nobody writes one into a
//! message in the first place, not a licence to do so.

const HIDDEN: &str = "***";
const NAMES: [&str; 8] =
    ["password", "passwd", "pgpassword", "token", "secret", "api_key", "apikey", "bearer"];

/// Hides the user part of URLs (`scheme://user:pass@host`) and the values of words that name a secret
/// (`password=…`, `token: …`, `Bearer …`).
#[must_use]
pub fn scrub(text: &str) -> String {
    let mut hide_next = false;
    let words = text.split_inclusive(char::is_whitespace).map(|word| {
        let bare = word.trim_end();
        let space = &word[bare.len()..];
        let shown = if hide_next && !bare.is_empty() { HIDDEN.to_owned() } else { scrub_word(bare) };
        hide_next = bare.is_empty() && hide_next || announces(bare);
        format!("{shown}{space}")
    });
    words.collect()
}

/// `password:` and `Bearer` announce the next word; so does a name that ends in `=` or `:` without a value.
fn announces(word: &str) -> bool {
    let word = word.trim_start_matches(['"', '\'', '{', '(']).to_ascii_lowercase();
    let name = word.trim_end_matches([':', '=', '"', '\'']);
    (name == "bearer" || name.len() < word.len()) && NAMES.iter().any(|secret| name.ends_with(secret))
}

fn scrub_word(word: &str) -> String {
    let word = scrub_url(word);
    let lower = word.to_ascii_lowercase();
    let value = NAMES.iter().filter_map(|name| {
        let at = lower.find(name)? + name.len();
        let rest = &lower[at..];
        let separator = rest.len() - rest.trim_start_matches(['=', ':', '"', '\'']).len();
        (rest[..separator].contains(['=', ':']) && separator < rest.len()).then_some(at + separator)
    });
    match value.min() {
        Some(at) => format!("{}{HIDDEN}", &word[..at]),
        None => word,
    }
}

fn scrub_url(word: &str) -> String {
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::scrub;

    #[test]
    fn hides_what_names_a_secret_and_leaves_the_rest() {
        for (text, shown) in [
            ("lost 3 of 400 writes, at most 0", "lost 3 of 400 writes, at most 0"),
            ("postgres://app:x@pg:5432/app is down", "postgres://***@pg:5432/app is down"),
            ("redis://10.0.0.1:6379 refused", "redis://10.0.0.1:6379 refused"),
            ("connect host=pg password=x user=app", "connect host=pg password=*** user=app"),
            ("header Authorization: Bearer abc.def end", "header Authorization: Bearer *** end"),
            ("{\"token\":\"abc\"}", "{\"token\":\"***"),
            ("password: x, then more", "password: *** then more"),
            ("secret postgres-credentials was not found", "secret postgres-credentials was not found"),
            ("größe = 3 µs", "größe = 3 µs"),
        ] {
            assert_eq!(scrub(text), shown);
        }
    }
}
