//! Prometheus' text format, as far as probes need it: counters, a line at a time.

/// Name, labels and value of a line; the labels are empty where there are none.
pub(super) fn sample(line: &str) -> Option<(&str, &str, u64)> {
    let (name, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once('}')?;
            (name, labels, value)
        }
        None => {
            let (name, value) = line.split_once(' ')?;
            (name, "", value)
        }
    };
    let value: f64 = value.split_whitespace().next()?.parse().ok()?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (value.is_finite() && value >= 0.0).then_some((name, labels, value as u64))
}

/// The value of a label, where no value holds quotes or commas.
pub(super) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key.trim() == name).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_name_labels_and_a_value() {
        let cases = [
            ("a_total 3", Some(("a_total", "", 3))),
            ("a_total{x=\"1\",y=\"2\"} 3.7 1700", Some(("a_total", "x=\"1\",y=\"2\"", 3))),
            ("# TYPE a_total counter", None),
            ("a_total NaN", None),
            ("a_total -1", None),
            ("a_total", None),
            ("a_total{x=\"1\" 3", None),
            ("", None),
        ];
        for (line, wanted) in cases {
            assert_eq!(sample(line), wanted, "{line}");
        }
        assert_eq!(label("x=\"1\", y=\"2\"", "y"), Some("2"));
        assert_eq!(label("x=\"1\"", "y"), None);
    }
}
