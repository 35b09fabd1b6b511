//! Script steps.

use std::rc::Rc;

use serde_json::{Value, json};

use super::{Fake, call, done, failed, package, script, suspended};
use crate::bindings::caisson::step::types::Category;

#[test]
fn the_value_is_the_last_expression_or_what_is_returned_or_what_main_gives() {
    for source in [
        "input.a + 1",
        "const one = 1;\nlet sum = input.a + one;\nsum;",
        "return input.a + 1;",
        "if (input.a > 1) { return 42 } else { return 0 }",
        "const a = await Promise.resolve(input.a); return a + 1;",
        "Promise.resolve(input.a + 1)",
        "function main(input, context) { return input.a + context.attempt - 1; }",
        "async function main({ a }) { return a + 1; }",
    ] {
        assert_eq!(done(script(source, &json!({"a": 41}))), "42", "{source}");
    }
    assert_eq!(done(script("const x = 1;", &json!(null))), "null");
    assert_eq!(
        done(script(
            "({ run: context.runId, now: Date.now() > 1.6e12, zone: new Date().getTimezoneOffset() })",
            &json!(1)
        )),
        r#"{"run":"run-1","now":true,"zone":0}"#
    );
}

#[test]
fn input_may_be_declared_again() {
    assert_eq!(done(script("const { a } = input; const context = 2; a + context", &json!({"a": 1}))), "3");
}

#[test]
fn errors_have_the_lines_of_the_source() {
    let failure = failed(script("const a = 1;\nnull.x;", &json!(null)));
    assert!(failure.message.contains("(script.js:2:"), "{}", failure.message);
    let failure = failed(script("const a = 1;\nif (a) return null.x;", &json!(null)));
    assert!(failure.message.contains("(script.js:2:"), "{}", failure.message);
    let failure = failed(script("const a = 1;\nreturn a +;", &json!(null)));
    assert!(failure.message.ends_with("(script.js:2:11)"), "{}", failure.message);
    let failure = failed(script("undefinedName + 1", &json!(null)));
    assert!(failure.message.starts_with("ReferenceError: "), "{}", failure.message);
}

#[test]
fn a_script_can_suspend_and_fail() {
    let suspension = suspended(script("return caisson.suspend({ signals: ['go'] })", &json!(null)));
    assert_eq!(suspension.signals, ["go"]);
    let failure =
        failed(script("throw new caisson.Failure({ code: 'NO', message: 'no', category: 'policy' })", &json!(null)));
    assert_eq!((failure.code.as_str(), failure.category), ("NO", Category::Policy));
}

#[test]
fn the_source_has_one_name() {
    let run = |input: Value| package(&Rc::new(Fake::default()), &call("run", &input.to_string()));
    assert_eq!(done(run(json!({"script": "1"}))), "1");
    assert_eq!(done(run(json!({"language": "JavaScript", "code": "input"}))), "null");
    assert_eq!(failed(run(json!({}))).code, "SCRIPT_SOURCE_REQUIRED");
    assert_eq!(failed(run(json!({"code": "1", "source": "1"}))).code, "SCRIPT_SOURCE_REQUIRED");
    assert_eq!(failed(run(json!({"cod": "1"}))).code, "INPUT_INVALID");
}

#[test]
fn random_numbers_differ() {
    let numbers: Vec<f64> =
        serde_json::from_str(&done(script("[Math.random(), Math.random()]", &json!(null)))).unwrap();
    assert!(numbers[0] != numbers[1] && numbers.iter().all(|n| (0.0..1.0).contains(n)), "{numbers:?}");
}
