//! Label selectors, as the API defines them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

pub type Labels = BTreeMap<String, String>;

/// What a selector that we cannot read selects. The API refuses such selectors; should one pass, the
/// answer is the one that denies more: it selects the pods to isolate, and no peer to let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    Selects,
    SelectsNothing,
}

/// Whether the selector selects an object with these labels. Empty selects everything.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: &Labels, unreadable: Unreadable) -> bool {
    let wanted = selector.match_labels.iter().flatten();
    let expressions = selector.match_expressions.iter().flatten();
    let mut verdict = true;
    for (key, value) in wanted {
        verdict &= labels.get(key) == Some(value);
    }
    for expression in expressions {
        match holds(expression, labels) {
            Some(holds) => verdict &= holds,
            None => return unreadable == Unreadable::Selects,
        }
    }
    verdict
}

/// Whether one expression holds; `None` when its operator is unknown or lacks its values.
fn holds(expression: &LabelSelectorRequirement, labels: &Labels) -> Option<bool> {
    let label = labels.get(&expression.key);
    let values = expression.values.as_deref().unwrap_or_default();
    match expression.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => None,
        "In" => Some(label.is_some_and(|label| values.contains(label))),
        "NotIn" => Some(label.is_none_or(|label| !values.contains(label))),
        "Exists" => Some(label.is_some()),
        "DoesNotExist" => Some(label.is_none()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(text: &str) -> LabelSelector {
        serde_saphyr::from_str(text).expect("a selector")
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn selectors_select_as_the_api_says() {
        let web = labels(&[("app", "web"), ("tier", "front")]);
        let expression = |text: &str| selector(&format!("matchExpressions: [{text}]"));
        let cases = [
            (selector("{}"), true),
            (selector("matchLabels: {app: web}"), true),
            (selector("matchLabels: {app: web, tier: back}"), false),
            (expression("{key: app, operator: In, values: [api, web]}"), true),
            (expression("{key: app, operator: In, values: [api]}"), false),
            (expression("{key: zone, operator: In, values: [a]}"), false),
            (expression("{key: app, operator: NotIn, values: [web]}"), false),
            (expression("{key: zone, operator: NotIn, values: [a]}"), true),
            (expression("{key: app, operator: Exists}"), true),
            (expression("{key: zone, operator: Exists}"), false),
            (expression("{key: app, operator: DoesNotExist}"), false),
            (expression("{key: zone, operator: DoesNotExist}"), true),
            (selector("{matchLabels: {app: web}, matchExpressions: [{key: zone, operator: Exists}]}"), false),
        ];
        for (selector, expected) in cases {
            assert_eq!(selects(&selector, &web, Unreadable::SelectsNothing), expected, "{selector:?}");
        }
    }

    #[test]
    fn an_unreadable_selector_denies_more() {
        let odd =
            selector("{matchLabels: {a: b}, matchExpressions: [{key: app, operator: Gt, values: ['1']}]}");
        assert!(selects(&odd, &Labels::new(), Unreadable::Selects));
        assert!(!selects(&odd, &labels(&[("a", "b")]), Unreadable::SelectsNothing));
    }
}
