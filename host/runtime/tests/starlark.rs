//! Starlark in its guest: values, errors and attacks.

mod support;

use std::sync::{Arc, OnceLock};

use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::ports::{Bindings, Evaluation, Evaluator};
use caisson_runtime::StarlarkEvaluator;
use serde_json::{Value, json};
use support::{done, failure, run, runtime};

fn evaluator() -> &'static StarlarkEvaluator {
    static EVALUATOR: OnceLock<StarlarkEvaluator> = OnceLock::new();
    EVALUATOR.get_or_init(|| StarlarkEvaluator::new(Arc::clone(runtime())))
}

async fn evaluate(source: &str, bindings: &Value) -> Result<Json, Failure> {
    let names =
        bindings.as_object().expect("names").iter().map(|(name, value)| (name.clone(), Json::of(value))).collect();
    evaluator().evaluate(&Evaluation { source: source.into(), bindings: Bindings(names) }).await
}

#[tokio::test]
async fn expressions_read_json_as_people_write_them() {
    let names = json!({
        "steps": {"a": {"ok": true, "n": 3, "items": [1, 2]}},
        "list": [{"x": 1}, {"x": 2}],
        "big": 9_007_199_254_740_993_u64,
        "float": 1.5,
        "text": "hällo",
        "none": null,
        "empty": {},
    });
    for (source, expected) in [
        ("1 + 1", "2"),
        ("steps.a.ok", "true"),
        (r#"steps["a"]["n"]"#, "3"),
        (r#"steps.a["n"] * 2"#, "6"),
        ("steps.a.items", "[1,2]"),
        ("steps.a.items[1]", "2"),
        ("steps.a.keys()", r#"["ok","n","items"]"#),
        (r#"steps.a.get("missing")"#, "null"),
        (r#"steps.a.get("missing", 7)"#, "7"),
        (r#"steps.a.get("n", 7)"#, "3"),
        (r#""n" in steps.a"#, "true"),
        (r#""m" in steps.a"#, "false"),
        (r#""m" not in steps.a"#, "true"),
        ("len(steps.a)", "3"),
        ("[key for key in steps.a]", r#"["ok","n","items"]"#),
        ("[row.x for row in list]", "[1,2]"),
        ("[row for row in list if row.x > 1]", r#"[{"x":2}]"#),
        ("steps", r#"{"a":{"ok":true,"n":3,"items":[1,2]}}"#),
        (r#"list[0] == {"x": 1}"#, "true"),
        ("list[0] == list[0]", "true"),
        ("list[0] == list[1]", "false"),
        (r#"{"z": 1, "a": steps.a.n}"#, r#"{"z":1,"a":3}"#),
        (r#"list[0] | {"y": 2}"#, r#"{"x":1,"y":2}"#),
        ("dict(list[0])", r#"{"x":1}"#),
        ("dict(a = 1)", r#"{"a":1}"#),
        (r#"dict([("k", 1)])"#, r#"{"k":1}"#),
        ("type(steps)", r#""dict""#),
        ("big", "9007199254740993"),
        ("big * big", "81129638414606699710187514626049"),
        ("float", "1.5"),
        ("1.0", "1.0"),
        ("3 / 2", "1.5"),
        ("3 // 2", "1"),
        ("2 * 3.0", "6.0"),
        ("text.upper()", r#""HÄLLO""#),
        ("none == None", "true"),
        ("none", "null"),
        ("not empty", "true"),
        ("empty", "{}"),
        (r#"'a"b\n'"#, r#""a\"b\n""#),
        ("(1, 2)", "[1,2]"),
        ("sorted([3, 1, 2])", "[1,2,3]"),
        ("max([x.x for x in list])", "2"),
        ("(lambda x: x + 1)(2)", "3"),
        ("n = steps.a.n\nn + 1", "4"),
        ("def f(x):\n  return x * 2\nf(4)", "8"),
        (r#""%s-%d" % ("a", 1)"#, r#""a-1""#),
        (r#""{}".format(steps.a.n)"#, r#""3""#),
        ("f\"{text}!\"", r#""hällo!""#),
        ("True if steps.a.ok else False", "true"),
        ("  1 + 1  ", "2"),
        ("json.encode(list)", r#""[{\"x\":1},{\"x\":2}]""#),
        ("any([row.x == 2 for row in list])", "true"),
    ] {
        match evaluate(source, &names).await {
            Ok(value) => assert_eq!(value.get(), expected, "{source}"),
            Err(failure) => panic!("{source}: {failure:?}"),
        }
    }
}

#[tokio::test]
async fn mistakes_say_where_and_what_is_there() {
    let names = json!({"severity": "high", "steps": {}});
    for (source, code, part) in [
        ("severty == 1", "EXPRESSION_UNDEFINED_NAME", "did you mean 'severity'? there are severity, steps"),
        ("unknown", "EXPRESSION_UNDEFINED_NAME", "there are severity, steps"),
        ("1 +", "EXPRESSION_INVALID", "line 1"),
        ("x = = 1", "EXPRESSION_INVALID", "line 1, column"),
        ("load('a', 'b')", "EXPRESSION_INVALID", ""),
        ("1\n1 // 0", "EXPRESSION_FAILED", "line 2, column 1"),
        ("steps.missing", "EXPRESSION_FAILED", "missing"),
        ("steps['missing']", "EXPRESSION_FAILED", "missing"),
        ("severity + 1", "EXPRESSION_FAILED", "line 1"),
        ("fail('no')", "EXPRESSION_FAILED", "no"),
        ("len", "EXPRESSION_FAILED", "not JSON"),
        ("float('nan')", "EXPRESSION_FAILED", "NaN"),
        ("float('inf')", "EXPRESSION_FAILED", "NaN"),
        ("{1: 2}", "EXPRESSION_FAILED", "keys are strings"),
        ("x = []\nx.append(x)\nx", "EXPRESSION_FAILED", "holds itself"),
        ("steps['a'] = 1", "EXPRESSION_FAILED", ""),
    ] {
        match evaluate(source, &names).await {
            Ok(value) => panic!("{source}: {value:?}"),
            Err(failure) => {
                let expected = Category::ExpressionError;
                assert_eq!(
                    (failure.code.as_str(), failure.category),
                    (code, expected),
                    "{source}: {}",
                    failure.message
                );
                assert!(failure.message.contains(part), "{source}: {}", failure.message);
            }
        }
    }
}

#[tokio::test]
async fn attacks_end_in_the_guest() {
    let nested = format!("{}1{}", "(".repeat(1_500), ")".repeat(1_500));
    let chained = format!("1{}", "+1".repeat(30_000));
    let very_long = format!("1{}", "+1".repeat(100_000));
    let squares = format!("x = 9\n{}x", "x = x * x\n".repeat(40));
    for (name, source) in [
        ("nested parentheses", nested.as_str()),
        ("chained operators", &chained),
        ("more chained operators", &very_long),
        ("a huge list", "[0] * 10**9"),
        ("a huge list by multiplying", "[0] * 1000000000"),
        ("a huge range", "list(range(300000000))"),
        ("big integers", &squares),
        ("an endless loop", "[x for x in range(1000000000) if x < 0]"),
        ("a huge string", "'x' * 1000000000"),
        ("endless recursion", "def f(x):\n  return f(x)\nf(1)"),
        ("deep lists", &format!("{}{}", "[".repeat(3_000), "]".repeat(3_000))),
    ] {
        match evaluate(source, &json!({})).await {
            // A long sum is no attack if it fits.
            Ok(value) => assert_eq!(name, "chained operators", "{value:?}"),
            Err(failure) => {
                let contained =
                    failure.category == Category::LimitError || failure.category == Category::ExpressionError;
                assert!(contained, "{name}: {failure:?}");
                assert!(failure.code.starts_with("EXPRESSION_"), "{name}: {failure:?}");
                eprintln!("{name}: {} {}", failure.code, failure.message);
            }
        }
        assert_eq!(
            evaluate("1", &json!({})).await.map(|value| value.get().to_owned()),
            Ok("1".to_owned()),
            "after {name}"
        );
    }
}

#[tokio::test]
async fn scripts_give_their_result() {
    for (input, expected) in [
        (json!({"source": "input.a + 1", "input": {"a": 1}}), json!(2)),
        (json!({"script": "result = input['a'] * 2", "input": {"a": 2}}), json!(4)),
        (json!({"code": "def main(input):\n  return {'n': len(input)}\n", "input": [1, 2]}), json!({"n": 2})),
        (json!({"source": "[context.attempt, context.run_id]"}), json!([1, "run"])),
        (json!({"source": "print('hi')"}), Value::Null),
        (json!({"source": "x = 1"}), Value::Null),
        (json!({"source": "1", "language": "Starlark"}), json!(1)),
    ] {
        assert_eq!(done(&run("script.run", input.clone()).await), expected, "{input}");
    }
}

#[tokio::test]
async fn a_script_that_cannot_run_says_why() {
    for (input, code) in [
        (json!({"source": "1", "language": "cobol"}), "SCRIPT_LANGUAGE_UNSUPPORTED"),
        (json!({}), "SCRIPT_SOURCE_REQUIRED"),
        (json!({"source": "1", "code": "1"}), "SCRIPT_SOURCE_REQUIRED"),
        (json!({"source": "nope"}), "EXPRESSION_UNDEFINED_NAME"),
        (json!({"source": "x".repeat(70_000)}), "EXPRESSION_SIZE_LIMIT"),
    ] {
        let entry = run("script.run", input).await;
        assert_eq!(failure(&entry).code, code, "{}", failure(&entry).message);
    }
}
