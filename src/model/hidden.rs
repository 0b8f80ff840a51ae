//! Values that nobody may read again: those of a foreign file's `secrets`.

use std::fmt;

use serde_json::Value;

const MASK: &str = "***";

/// Takes its values out of whatever is told, written or kept. Cheap to ask when there are none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(Vec<String>);

impl Hidden {
    /// Also in the forms in which a URL or a JSON text would show it.
    pub fn hide(&mut self, value: &str) {
        if value.is_empty() {
            return;
        }
        let json = Value::from(value).to_string();
        let escaped = json[1..json.len() - 1].to_owned();
        let percent = |space: &str| -> String {
            let bytes = value.bytes().map(|byte| match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
                b' ' => space.to_owned(),
                byte => format!("%{byte:02X}"),
            });
            bytes.collect()
        };
        self.0.extend([value.to_owned(), escaped, percent("+"), percent("%20")]);
        // The longest first: one may be a part of another.
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        self.0.dedup();
    }

    /// Whether there is anything to hide.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, hidden| text.replace(hidden.as_str(), MASK))
    }

    /// A copy without them: texts, names of fields, and numbers that are one.
    #[must_use]
    pub fn scrub_value(&self, value: &Value) -> Value {
        if self.is_empty() {
            return value.clone();
        }
        match value {
            Value::String(text) => Value::String(self.scrub(text)),
            Value::Array(list) => list.iter().map(|value| self.scrub_value(value)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (self.scrub(key), self.scrub_value(value))).collect()
            }
            Value::Number(number) if self.0.contains(&number.to_string()) => Value::from(MASK),
            other => other.clone(),
        }
    }
}

/// Says how many, and nothing else.
impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hidden({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Hidden;

    #[test]
    fn a_hidden_value_is_nowhere_in_no_form() {
        let mut hidden = Hidden::default();
        ["p w\"1", "pw", "4711", ""].into_iter().for_each(|value| hidden.hide(value));
        for (text, shown) in [
            ("a p w\"1 b", "a *** b"),
            ("{\"x\":\"p w\\\"1\"}", "{\"x\":\"***\"}"),
            ("http://h/?t=p+w%221&u=p%20w%221", "http://h/?t=***&u=***"),
            ("pwpw", "******"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(hidden.scrub(text), shown);
        }
        let value = json!({ "pw": ["x pw", 4711, 471, true], "y": { "z": "p w\"1" } });
        assert_eq!(
            hidden.scrub_value(&value),
            json!({ "***": ["x ***", "***", 471, true], "y": { "z": "***" } })
        );
        assert!(!format!("{hidden:?}").contains("pw"));
        assert_eq!(Hidden::default().scrub("pw"), "pw");
    }
}
