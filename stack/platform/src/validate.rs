//! What a request may contain.

/// The longest operation id.
pub const OP_ID_LEN_MAX: usize = 64;
/// The longest user name.
pub const USER_LEN_MAX: usize = 64;
/// The longest free text (a model's name or framework), in bytes.
pub const TEXT_LEN_MAX: usize = 200;

/// `[A-Za-z0-9._:-]`, 1 to 64 characters.
#[must_use]
pub fn is_op_id(text: &str) -> bool {
    (1..=OP_ID_LEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

/// `[A-Za-z0-9_-]`, 1 to 64 characters.
#[must_use]
pub fn is_user(text: &str) -> bool {
    (1..=USER_LEN_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// Text that PostgreSQL can store: not empty, not long, no NUL.
#[must_use]
pub fn is_text(text: &str) -> bool {
    (1..=TEXT_LEN_MAX).contains(&text.len()) && !text.contains('\0')
}

/// Long enough to be worth hashing, short enough to be hashed.
#[must_use]
pub fn is_password(text: &str) -> bool {
    (8..=TEXT_LEN_MAX).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_ids() {
        let long = "x".repeat(OP_ID_LEN_MAX + 1);
        for (text, valid) in [
            ("a", true),
            ("run-7:user.12_3", true),
            ("run-7:user.12-3", true),
            (&long[1..], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("a\n", false),
            ("é", false),
        ] {
            assert_eq!(is_op_id(text), valid, "{text:?}");
        }
    }

    #[test]
    fn users() {
        let long = "u".repeat(USER_LEN_MAX + 1);
        for (text, valid) in
            [("u_1-A", true), (&long[1..], true), (&long, false), ("", false), ("a:b", false), ("{x}", false)]
        {
            assert_eq!(is_user(text), valid, "{text:?}");
        }
    }

    #[test]
    fn passwords() {
        let long = "p".repeat(TEXT_LEN_MAX + 1);
        for (text, valid) in [("12345678", true), (&long[1..], true), (&long, false), ("1234567", false)] {
            assert_eq!(is_password(text), valid, "{text:?}");
        }
    }

    #[test]
    fn texts() {
        let long = "n".repeat(TEXT_LEN_MAX + 1);
        for (text, valid) in
            [("résumé ranker", true), (&long[1..], true), (&long, false), ("", false), ("a\0b", false)]
        {
            assert_eq!(is_text(text), valid, "{text:?}");
        }
    }
}
