use caisson_core::error::{Category, Failure};
use caisson_core::json::Json;
use caisson_core::ports::Secret;
use serde_json::{Value, json};

use super::Redactor;

fn redactor(secrets: &[(&str, &str)]) -> Redactor {
    Redactor::new(secrets.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect())
}

#[test]
fn texts_are_clean_by_a_table() {
    let secrets = [
        ("TOKEN", "hunter2!"),
        ("LONG", "abcdefgh"),
        ("INSIDE", "cdef"),
        ("HEAD", "abcd"),
        ("ACROSS", "ghij"),
        ("SHORT", "xyz"),
        ("EMPTY", ""),
        ("QUOTED", "a\"b\\c/d"),
        ("MARKUP", "<&'>!"),
        ("UMLAUT", "schlüssel"),
        ("SELF", "secret"),
    ];
    let redactor = redactor(&secrets);
    let cases = [
        ("nothing here", "nothing here"),
        ("hunter2!", "[secret:TOKEN]"),
        ("hunter2", "hunter2"),
        ("a hunter2!hunter2! b", "a [secret:TOKEN][secret:TOKEN] b"),
        // The longest counts, and what lies inside it does not leave its rest behind.
        ("-abcdefgh-", "-[secret:LONG]-"),
        ("-abcdefg-", "-[secret:HEAD]g-"),
        ("-xcdefg-", "-x[secret:INSIDE]g-"),
        // Two that overlap: nothing of either is left.
        ("-abcdefghij-", "-[secret:LONG]-"),
        ("-efghij-", "-ef[secret:ACROSS]-"),
        // Too short to be told from any other text.
        ("xyz", "xyz"),
        (r#"{"v":"a\"b\\c/d"}"#, r#"{"v":"[secret:QUOTED]"}"#),
        (r#"{"v":"a\"b\\c\/d"}"#, r#"{"v":"[secret:QUOTED]"}"#),
        ("?v=a%22b%5Cc%2Fd&", "?v=[secret:QUOTED]&"),
        ("?v=a%22b%5cc%2fd&", "?v=[secret:QUOTED]&"),
        ("<p>&lt;&amp;&#39;&gt;!</p>", "<p>[secret:MARKUP]</p>"),
        ("<p>&lt;&amp;&#x27;&gt;!</p>", "<p>[secret:MARKUP]</p>"),
        ("<p>&lt;&amp;'&gt;!</p>", "<p>[secret:MARKUP]</p>"),
        ("der schlüssel", "der [secret:UMLAUT]"),
        (r#""schl\u00fcssel""#, r#""[secret:UMLAUT]""#),
        ("a secret", "a [secret:SELF]"),
    ];
    for (text, clean) in cases {
        assert_eq!(redactor.text(text), clean, "{text}");
        assert_eq!(*redactor.bytes(text.as_bytes()), *clean.as_bytes(), "{text}");
        assert_eq!(redactor.holds(text.as_bytes()).is_some(), text != clean, "{text}");
    }
    assert_eq!(*redactor.bytes(b"\xff\x00hunter2!\xfe"), *b"\xff\x00[secret:TOKEN]\xfe");
    assert_eq!(redactor.holds(b"\xff\x00hunter2!"), Some("TOKEN"));
    assert_eq!(redactor.secret("SHORT").map(Secret::expose), Some("xyz"));
    assert!(redactor.secret("OTHER").is_none());
}

#[test]
fn json_is_clean_and_stays_json() {
    let redactor = redactor(&[
        ("TOKEN", "hunter2!"),
        ("PIN", "4711"),
        ("QUOTED", "a\"b\\c"),
        ("WHOLE", r#"{"k":[1,2]}"#),
        ("NAME\"", "qqqq"),
    ]);
    let cases: &[(&str, Value)] = &[
        (r#"{"a":1}"#, json!({"a": 1})),
        (r#"{"a":"hunter2!"}"#, json!({"a": "[secret:TOKEN]"})),
        (r#"{"hunter2!":[["x hunter2! y"]]}"#, json!({"[secret:TOKEN]": [["x [secret:TOKEN] y"]]})),
        (r#""h\u0075nter2\u0021""#, json!("[secret:TOKEN]")),
        (r#"["\"hunter2!\"", "\\"]"#, json!(["\"[secret:TOKEN]\"", "\\"])),
        (r#"{"v":"a\"b\\c"}"#, json!({"v": "[secret:QUOTED]"})),
        (r#"{"v":"a\u0022b\u005cc"}"#, json!({"v": "[secret:QUOTED]"})),
        // A number can be a secret too.
        (r"[4711, 14711, -4711.5, 12]", json!(["[secret:PIN]", "1[secret:PIN]", "-[secret:PIN].5", 12])),
        // A secret that is JSON, as it is and inside a text.
        (r#"{"v":{"k":[1,2]}}"#, json!(r#"{"v":[secret:WHOLE]}"#)),
        (r#"{"v":"{\"k\":[1,2]}"}"#, json!({"v": "[secret:WHOLE]"})),
        (r#"{"v":"qqqq"}"#, json!({"v": "[secret:NAME\"]"})),
        // Half of a surrogate pair is no text.
        (r#"["\ud800hunter2!"]"#, json!(["\u{fffd}"])),
    ];
    for (text, clean) in cases {
        let json = redactor.json(Json::parse(*text).expect(text));
        assert_eq!(json.value(), *clean, "{text}");
    }
    // What has nothing to hide keeps its bytes.
    for text in [r#"{ "b" : 1.0,"a":"\u0041\/" }"#, "1e2", r#""""#, "[]"] {
        assert_eq!(redactor.json(Json::parse(text).expect(text)).get(), text);
    }
}

#[test]
fn every_part_of_a_failure_is_clean() {
    let redactor = redactor(&[("TOKEN", "hunter2!")]);
    let failure = Failure::new(Category::ActionError, "NO_hunter2!", "said hunter2!")
        .with_details(Json::of(&json!({"hunter2!": "hunter2!"})));
    let clean = redactor.failure(failure);
    assert_eq!(clean.code, "NO_[secret:TOKEN]");
    assert_eq!(clean.message, "said [secret:TOKEN]");
    assert_eq!(clean.details.expect("details").get(), r#"{"[secret:TOKEN]":"[secret:TOKEN]"}"#);
}

#[test]
fn nothing_is_hidden_where_nothing_is_secret() {
    for redactor in [Redactor::none(), redactor(&[]), redactor(&[("SHORT", "abc")])] {
        assert_eq!(redactor.text("abc"), "abc");
        assert_eq!(redactor.json(Json::of("abc")).get(), "\"abc\"");
        assert_eq!(redactor.holds(b"abc"), None);
    }
}

#[test]
fn a_text_of_nothing_but_secrets_is_one_pass() {
    let redactor = redactor(&[("A", "aaaa"), ("B", "aaaaaaaa")]);
    let text = "a".repeat(1 << 20);
    let clean = redactor.text(&text);
    assert!(!clean.contains("aaaa"), "{}", clean.len());
}
