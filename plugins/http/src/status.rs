//! Which statuses are no failure.

use std::ops::RangeInclusive;

use serde::Deserialize;

/// Ranges of statuses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Form")]
pub(crate) struct Expected(Vec<RangeInclusive<u16>>);

#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    One(Status),
    Many(Vec<Status>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Status {
    Number(u16),
    Text(String),
}

impl Default for Expected {
    fn default() -> Self {
        Self(vec![200..=299])
    }
}

impl Expected {
    pub(crate) fn holds(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

impl TryFrom<Form> for Expected {
    type Error = String;

    fn try_from(form: Form) -> Result<Self, String> {
        let list = match form {
            Form::One(one) => vec![one],
            Form::Many(many) => many,
        };
        let mut ranges = Vec::new();
        for status in list {
            match status {
                Status::Number(number) => ranges.push(number..=number),
                Status::Text(text) => {
                    for part in text.split(',') {
                        ranges.push(range(part.trim()).ok_or_else(|| {
                            format!("'{}' is no status: write for example 204, 200-299 or 2xx", part.trim())
                        })?);
                    }
                }
            }
        }
        Ok(Self(ranges))
    }
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = class.parse().ok().filter(|class| (1..=5).contains(class))?;
        return Some(class * 100..=class * 100 + 99);
    }
    match text.split_once('-') {
        Some((from, to)) => Some(from.trim().parse().ok()?..=to.trim().parse().ok()?),
        None => {
            let one = text.parse().ok()?;
            Some(one..=one)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_numbers_ranges_and_classes() {
        for (json, holds, fails) in [
            ("204", vec![204], vec![200, 205]),
            (r#""2xx""#, vec![200, 299], vec![199, 300]),
            (r#""200 - 202, 404""#, vec![200, 202, 404], vec![203]),
            (r#"[200, "3xx", "404-405"]"#, vec![200, 302, 405], vec![201, 406]),
        ] {
            let expected: Expected = serde_json::from_str(json).expect(json);
            assert!(holds.iter().all(|status| expected.holds(*status)), "{json}");
            assert!(!fails.iter().any(|status| expected.holds(*status)), "{json}");
        }
        assert!(Expected::default().holds(201) && !Expected::default().holds(301));
        for wrong in [r#""9xx""#, r#""ok""#, r#""200-""#, "[true]"] {
            assert!(serde_json::from_str::<Expected>(wrong).is_err(), "{wrong}");
        }
    }
}
