use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn text(report: &Report) -> String {
    let word = |finding: &Finding| if finding.severity == Severity::Error { "error" } else { "warning" };
    report
        .findings
        .iter()
        .map(|finding| format!("{}: {}", word(finding), finding.message))
        .collect::<Vec<_>>()
        .join("\n")
}

fn between(gives: &Value, takes: &Value) -> String {
    text(&check_between(Some(gives), Some(takes), "check_pods", "analyze"))
}

fn object(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required})
}

fn list() -> Value {
    json!({"type": "array"})
}

/// Seed 004, 9.1, "Schema Compatibility Tests", row by row.
#[test]
fn the_table_of_compatible_schemas_holds() {
    let pods = object(&json!({"pods": list()}), &["pods"]);
    let fine = "";
    let rows = [
        (pods.clone(), pods.clone(), fine),
        (object(&json!({"pods": list(), "timestamp": {"type": "string"}}), &["pods"]), pods.clone(), fine),
        (
            pods.clone(),
            object(&json!({"pods": list(), "filters": list()}), &["pods", "filters"]),
            "error: analyze expects filters: array, check_pods never gives it",
        ),
        (
            pods.clone(),
            object(&json!({"pods": list(), "filters": list()}), &["pods"]),
            "warning: analyze expects filters: array, check_pods never gives it",
        ),
        (
            object(&json!({"count": {"type": "string"}}), &["count"]),
            object(&json!({"count": {"type": "integer"}}), &["count"]),
            "error: analyze expects count: integer, check_pods gives string",
        ),
        (
            object(
                &json!({"result": object(&json!({"status": {"type": "string"}}), &["status"]), "n": {}}),
                &["result"],
            ),
            object(&json!({"result": object(&json!({"status": {"type": "string"}}), &["status"])}), &["result"]),
            fine,
        ),
        (
            object(
                &json!({"pods": {"type": "array", "items": object(&json!({"name": {"type": "string"}, "x": {}}), &[])}}),
                &["pods"],
            ),
            object(
                &json!({"pods": {"type": "array", "items": object(&json!({"name": {"type": "string"}}), &[])}}),
                &["pods"],
            ),
            fine,
        ),
    ];
    for (gives, takes, expected) in rows {
        assert_eq!(between(&gives, &takes), expected, "{gives} → {takes}");
    }
    assert_eq!(check(None, None), Report::default());
    assert_eq!(check(Some(&pods), None), Report::default());
    let only_input = check(None, Some(&pods));
    assert!(text(&only_input).starts_with("warning: cannot validate"), "{only_input:?}");
}

#[test]
fn a_misspelled_property_is_told_with_the_right_name() {
    let gives = object(&json!({"filter": list()}), &["filter"]);
    let report = check_between(Some(&gives), Some(&object(&json!({"filters": list()}), &["filters"])), "a", "b");
    assert_eq!(report.findings[0].suggestion.as_deref(), Some("a gives 'filter': is that what is meant?"));
}

#[test]
fn types_ranges_values_and_alternatives_are_compared() {
    for (gives, takes, expected) in [
        (json!({"type": "integer"}), json!({"type": "number"}), "fine"),
        (json!({"type": "number"}), json!({"type": "integer"}), "warning"),
        (json!({"type": ["string", "null"]}), json!({"type": "string"}), "warning"),
        (json!({"enum": ["a", "b"]}), json!({"enum": ["a", "b", "c"]}), "fine"),
        (json!({"enum": ["a", "d"]}), json!({"enum": ["a", "b"]}), "warning"),
        (json!({"const": "d"}), json!({"enum": ["a", "b"]}), "error"),
        (json!({"type": "integer", "minimum": 5}), json!({"minimum": 1}), "fine"),
        (json!({"type": "integer", "maximum": 5}), json!({"minimum": 6}), "error"),
        (json!({"type": "integer"}), json!({"minimum": 6}), "warning"),
        (json!({"type": "string"}), json!({"anyOf": [{"type": "integer"}, {"type": "string"}]}), "fine"),
        (json!({"type": "string"}), json!({"anyOf": [{"type": "integer"}, {"type": "null"}]}), "error"),
        (json!({"type": "string"}), json!({"oneOf": [{"type": "string"}, {"type": "string"}]}), "warning"),
        (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), json!({"type": "integer"}), "error"),
        (json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}), json!({"type": "integer"}), "error"),
        (json!({"type": "string"}), json!({"$ref": "https://x/y"}), "warning"),
        (json!({"type": "string"}), json!(false), "error"),
        (json!(false), json!({"type": "string"}), "fine"),
        (json!({}), json!({"type": "string"}), "warning"),
        (
            json!({"type": "object", "properties": {"a": {}}, "required": ["a"]}),
            json!({"type": "object", "additionalProperties": false}),
            "error",
        ),
        (
            json!({"type": "array", "prefixItems": [{"type": "string"}], "minItems": 1}),
            json!({"type": "array", "prefixItems": [{"type": "integer"}]}),
            "error",
        ),
    ] {
        let report = check(Some(&gives), Some(&takes));
        let verdict = match report.findings.is_empty() {
            true => "fine",
            false if report.has_errors() => "error",
            false => "warning",
        };
        assert_eq!(verdict, expected, "{gives} → {takes}: {}", text(&report));
    }
}

#[test]
fn hostile_schemas_are_given_up_on_with_a_warning() {
    let mut doubling = json!({"$defs": {"d0": {"type": "string"}}, "$ref": "#/$defs/d20"});
    for n in 1..=20 {
        let below = json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", n - 1)}}});
        doubling["$defs"][format!("d{n}")] = json!({"anyOf": [below, below, below]});
    }
    let circle = json!({"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]});
    let other = json!({"type": "object", "properties": {"next": {"$ref": "#"}, "b": {}}, "required": ["next"]});
    for (gives, takes) in [(&doubling, &circle), (&circle, &doubling), (&circle, &other), (&other, &circle)] {
        let report = check(Some(gives), Some(takes));
        assert!(!report.findings.is_empty());
    }
    let itself = json!({"$ref": "#"});
    assert!(!check(Some(&json!({"type": "string"})), Some(&itself)).findings.is_empty());
}

fn schema() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({})),
        Just(json!(true)),
        Just(json!({"type": "string"})),
        Just(json!({"type": ["string", "null"]})),
        Just(json!({"type": "integer"})),
        Just(json!({"type": "number"})),
        Just(json!({"type": "integer", "minimum": 2})),
        Just(json!({"type": "number", "maximum": 1})),
        Just(json!({"type": "string", "minLength": 1})),
        Just(json!({"exclusiveMinimum": 1})),
        Just(json!({"enum": ["a", 1, null]})),
        Just(json!({"const": 1})),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone(), 0..4u8, 0..3u8).prop_map(|(a, b, required, rest)| {
                let required: Vec<_> =
                    [("a", 1), ("b", 2)].iter().filter(|(_, bit)| required & bit != 0).map(|(n, _)| *n).collect();
                let mut schema = json!({"type": "object", "properties": {"a": a}, "required": required});
                match rest {
                    0 => schema["additionalProperties"] = json!(false),
                    1 => schema["properties"]["b"] = b,
                    _ => schema["additionalProperties"] = b,
                }
                schema
            }),
            (inner.clone(), 0..2u8).prop_map(|(items, min)| json!({"type": "array", "items": items, "minItems": min})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"type": "array", "prefixItems": [a], "items": b})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"anyOf": [a, b]})),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| json!({"oneOf": [a, b]})),
            (inner.clone(), inner).prop_map(|(a, b)| json!({"allOf": [a, b]})),
        ]
    })
}

fn instance() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!("a")),
        Just(json!("")),
        Just(json!(1.5)),
        (0..4).prop_map(|n| json!(n))
    ];
    leaf.prop_recursive(2, 8, 2, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            proptest::collection::btree_map("[abc]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Without findings all that the giver allows is taken; what never fits is not.
    #[test]
    fn the_report_agrees_with_validation(
        gives in schema(),
        takes in schema(),
        values in proptest::collection::vec(instance(), 24),
    ) {
        let report = check(Some(&gives), Some(&takes));
        let (giver, taker) = (Validator::compile(&gives).expect("compiles"), Validator::compile(&takes).expect("compiles"));
        let given: Vec<_> = values.iter().filter(|value| giver.validate(value).is_ok()).collect();
        if report.findings.is_empty() {
            for value in &given {
                prop_assert!(taker.validate(value).is_ok(), "{gives} → {takes}: {value} is not taken");
            }
        }
        if report.findings.iter().any(|finding| finding.never) {
            for value in &given {
                prop_assert!(taker.validate(value).is_err(), "{gives} → {takes}: {value} is taken; {}", text(&report));
            }
        }
    }
}
