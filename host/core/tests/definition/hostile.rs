//! Input that means harm, and input that is noise.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use caisson_core::definition::document::read_value;
use caisson_core::definition::{self, Format, Reading, code};
use proptest::prelude::*;

/// Generous for a debug build on a busy machine; what it guards against takes minutes.
const TIME_MAX: Duration = Duration::from_secs(8);

fn read(source: &[u8], format: Format) -> Reading {
    let start = Instant::now();
    let reading = definition::read(source, format);
    let shown = String::from_utf8_lossy(&source[..source.len().min(80)]).into_owned();
    assert!(start.elapsed() < TIME_MAX, "{shown:?} took {:?}", start.elapsed());
    reading
}

fn first_code(source: &[u8], format: Format) -> &'static str {
    let reading = read(source, format);
    assert!(reading.definition.is_none());
    let first = reading.diagnostics.first().expect("a finding");
    if first.code == code::SYNTAX && reading.json.is_none() { code::SYNTAX } else { first.code }
}

fn laughs(levels: usize) -> String {
    let mut source = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..=levels {
        let below = format!("*a{}", n - 1);
        source += &format!("a{n}: &a{n} [{}]\n", vec![below; 9].join(", "));
    }
    source
}

#[test]
fn what_would_explode_is_refused_quickly() {
    let n = 100_000;
    let mega = 1 << 20;
    let big_text = format!("a: &a {}\nb: [{}]\n", "x".repeat(mega / 2), vec!["*a"; 1000].join(", "));
    let deep_chain: String = (0..200).map(|d| format!("{}k:\n", " ".repeat(d))).collect();
    let doubling: String = "a0: &a0 {}\n".to_owned()
        + &(1..60).map(|n| format!("a{n}: &a{n} {{x: *a{0}, y: *a{0}}}\n", n - 1)).collect::<String>();
    for (source, format, expected) in [
        ("[".repeat(n), Format::Detect, code::LIMIT_EXCEEDED),
        ("[".repeat(n), Format::Json, code::LIMIT_EXCEEDED),
        ("[".repeat(n), Format::Yaml, code::SYNTAX),
        ("[".repeat(mega), Format::Yaml, code::SYNTAX),
        ("{\"a\":".repeat(n), Format::Detect, code::LIMIT_EXCEEDED),
        ("{a: ".repeat(n), Format::Yaml, code::SYNTAX),
        ("- ".repeat(n), Format::Yaml, code::LIMIT_EXCEEDED),
        ("- ".repeat(mega / 2), Format::Yaml, code::LIMIT_EXCEEDED),
        ("? ".repeat(n), Format::Yaml, code::LIMIT_EXCEEDED),
        (deep_chain, Format::Yaml, code::LIMIT_EXCEEDED),
        (laughs(9), Format::Yaml, code::LIMIT_EXCEEDED),
        (laughs(60), Format::Yaml, code::LIMIT_EXCEEDED),
        (doubling, Format::Yaml, code::LIMIT_EXCEEDED),
        (big_text, Format::Yaml, code::LIMIT_EXCEEDED),
        ("x".repeat(mega + 1), Format::Detect, code::LIMIT_EXCEEDED),
        (format!("[{}0]", "0,".repeat(mega / 2 - 2)), Format::Json, code::LIMIT_EXCEEDED),
        (format!("[{}0]", "0,".repeat(mega / 2 - 2)), Format::Yaml, code::LIMIT_EXCEEDED),
        (format!("a: [{}0]", "a: b,".repeat(mega / 5 - 2)), Format::Yaml, code::LIMIT_EXCEEDED),
        ("- 0\n".repeat(mega / 4), Format::Yaml, code::LIMIT_EXCEEDED),
        ("&a [*a]".to_owned(), Format::Yaml, code::SYNTAX),
        ("a: *nowhere".to_owned(), Format::Yaml, code::SYNTAX),
        ("\"".repeat(mega), Format::Yaml, code::SYNTAX),
        ("\"".repeat(mega - 1), Format::Json, code::SYNTAX),
        (format!("a: \"{}", "\\".repeat(mega - 10)), Format::Yaml, code::SYNTAX),
        ("%".repeat(mega), Format::Yaml, code::SYNTAX),
        ("!".repeat(mega), Format::Yaml, code::SYNTAX),
        (format!("%TAG ! {}\n---\na", "x".repeat(mega / 2)), Format::Yaml, code::WRONG_TYPE),
        (" ".repeat(mega), Format::Yaml, code::SYNTAX),
        ("\n".repeat(mega), Format::Detect, code::SYNTAX),
        (String::new(), Format::Json, code::SYNTAX),
        ("---\n".repeat(n), Format::Yaml, code::SYNTAX),
        ("1".repeat(mega), Format::Yaml, code::INVALID_VALUE),
        ("1".repeat(mega), Format::Json, code::SYNTAX),
    ] {
        let shown: String = source.chars().take(40).collect();
        assert_eq!(first_code(source.as_bytes(), format), expected, "{shown} {format:?}");
    }
}

#[test]
fn a_hundred_thousand_findings_are_a_hundred() {
    let keys: String = (0..50_000).map(|n| format!("key{n}: 1\n")).collect();
    let reading = read(keys.as_bytes(), Format::Yaml);
    assert_eq!(reading.diagnostics.len(), 101);
    let states: String =
        (0..9_000).map(|n| format!("  - {{name: state{n}, type: wait, duration: 1, next: stat{n}}}\n")).collect();
    let reading = read(format!("id: w\nstates:\n{states}").as_bytes(), Format::Yaml);
    let shown = |errors: bool| reading.diagnostics.iter().filter(|found| found.is_error() == errors).count();
    assert_eq!((shown(true), shown(false)), (101, 1));
    let duplicates = "a: 1\n".repeat(50_000);
    let reading = read(duplicates.as_bytes(), Format::Yaml);
    assert_eq!(reading.diagnostics.len(), 101);
}

#[test]
fn however_many_warnings_refuse_nothing() {
    let states: String = (0..500).map(|n| format!("- {{name: s{n}, type: inject, data: 1, end: true}}\n")).collect();
    let reading = read(format!("id: w\nstart: s0\nstates:\n{states}").as_bytes(), Format::Yaml);
    assert!(reading.definition.is_some());
    let last = reading.diagnostics.last().expect("there are some");
    assert_eq!((reading.diagnostics.len(), last.is_error()), (101, false));
    assert_eq!((last.code, &*last.message), (code::LIMIT_EXCEEDED, "399 more warnings are not shown"));
}

#[test]
fn a_large_but_fair_definition_is_read() {
    let states: String =
        (0..10_000).map(|n| format!("  - {{name: s{n}, type: wait, duration: 1, next: s{}}}\n", n + 1)).collect();
    let source = format!("id: w\nstart: s0\nstates:\n{states}  - {{name: s10000, type: return}}\n");
    let reading = read(source.as_bytes(), Format::Yaml);
    assert!(reading.definition.is_some(), "{}", super::render(&reading.diagnostics));
    let reading = definition::from_json(&reading.json.expect("json"));
    assert!(reading.definition.is_some(), "{}", super::render(&reading.diagnostics));
}

#[test]
fn blocks_nested_as_deeply_as_a_document_may_be_are_read() {
    let depth = 30;
    let open = "{name: s, type: try, try: [";
    let close = "], catch: {}, end: true}";
    let source =
        format!("id: w\nstart: s\nstates: [{}{{name: s, type: return}}{}]\n", open.repeat(depth), close.repeat(depth));
    let reading = read(source.as_bytes(), Format::Yaml);
    assert!(reading.definition.is_some(), "{}", super::render(&reading.diagnostics));
    assert_eq!(reading.definition.expect("definition").blocks.len(), depth + 1);
}

#[test]
fn text_that_is_not_utf_8_is_named_with_its_line() {
    let reading = read(b"id: w\nname: \xff\xfe\n", Format::Yaml);
    let first = &reading.diagnostics[0];
    assert_eq!((first.code, first.line, first.column, first.offset), (code::SYNTAX, 2, 7, 12));
}

#[test]
fn a_byte_order_mark_crlf_and_wide_characters_do_not_shift_positions() {
    let source =
        "\u{feff}id: w\r\nname: \"größe 🦀\"\r\nstart: s\r\nstates:\r\n  - {name: é, type: return, outptu: x}\r\n";
    let reading = read(source.as_bytes(), Format::Detect);
    let unknown = reading.diagnostics.iter().find(|d| d.code == code::UNKNOWN_FIELD).expect("unknown field");
    assert_eq!((unknown.line, unknown.column), (5, 29));
    assert_eq!(&source[unknown.offset..unknown.offset + unknown.length], "outptu");
}

#[test]
fn a_deep_value_given_as_json_is_refused() {
    let mut value = serde_json::json!(1);
    for _ in 0..1000 {
        value = serde_json::json!([value]);
    }
    assert_eq!(definition::from_json(&value).diagnostics[0].code, code::LIMIT_EXCEEDED);
    // Dropping it is serde_json's business, and recursive.
}

#[test]
fn front_matter_reads_as_a_plain_value() {
    let document = read_value(b"model: x\ninput: {schema: {a: !!str 1}}\nalso: &a [1, no]\nand: *a\n", Format::Yaml)
        .expect("reads");
    let expected =
        serde_json::json!({"model": "x", "input": {"schema": {"a": "1"}}, "also": [1, "no"], "and": [1, "no"]});
    assert_eq!(document.to_value(), expected);
    assert_eq!(document.to_value().to_string(), expected.to_string());
}

static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    super::files("ok")
        .into_iter()
        .chain(super::files("bad"))
        .map(|path| std::fs::read(path).expect("readable"))
        .collect()
});

/// `PROPTEST_CASES` asks for more.
fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(1500);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Yaml, Format::Json, Format::Detect] {
            read(&bytes, format);
        }
    }

    #[test]
    fn random_yaml_never_panics(source in "[-a:\\[\\]{},?&*!|>'\"%@#~ \\t\\n\\r0.\u{feff}\u{85}ü]{0,120}") {
        for format in [Format::Yaml, Format::Json] {
            read(source.as_bytes(), format);
        }
    }

    #[test]
    fn mutated_definitions_never_panic(
        sample in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..5usize, any::<u8>()), 1..6),
    ) {
        let mut bytes = sample.get(&SAMPLES).clone();
        for (at, kind, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            let punctuation = b"-:[]{},?&*!|>'\"%@#~ \t\n{{}}";
            match kind {
                0 => { bytes.remove(at); }
                1 => bytes.insert(at, byte),
                2 => bytes[at] = byte,
                3 => bytes.insert(at, punctuation[usize::from(byte) % punctuation.len()]),
                _ => { let tail = bytes[at..].to_vec(); bytes.extend_from_slice(&tail); }
            }
        }
        let reading = read(&bytes, Format::Detect);
        if let (Some(definition), Some(json)) = (reading.definition, reading.json) {
            let again = definition::from_json(&json).definition.expect("the stored form reads");
            prop_assert_eq!(format!("{definition:?}"), format!("{again:?}"));
        }
    }
}

#[test]
fn much_of_any_one_thing_is_read_or_refused_in_linear_time() {
    // An eighth of the limit: quadratic time would still be minutes. At the full limit all of it takes one.
    const BYTES: usize = 1 << 17;
    for part in [
        "a",
        "-",
        "- ",
        "-\n",
        "[",
        "]",
        "{",
        "}",
        "[a, ",
        "{a: ",
        "a: ",
        "a:\n",
        "a: b\n",
        "? a\n",
        ": a\n",
        "? ",
        ": ",
        "&a ",
        "&a\n",
        "*a ",
        "!a ",
        "!!str ",
        "'",
        "\"",
        "''",
        "\\",
        "|\n",
        ">\n ",
        "- |\n  a\n",
        "#",
        "#\n",
        "# \n a\n",
        " #a",
        "%",
        "%a\n",
        "%TAG !a! b\n",
        "@",
        "`",
        "\t",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\u{feff}",
        "\u{85}",
        "é",
        "🦀",
        "\0",
        "a\n",
        "a \n  b\n",
        "a\n\n",
        "...\n",
        "---\n",
        "--- a\n",
        "- - - -\n",
        ",",
        ", ",
        "- [a]\n",
        "- {a: b}\n",
        "a#",
        "a: 'b'\n",
        "- \"\\x41\"\n",
        "<<: a\n",
        "- &a b\n",
        "[a]: b\n",
        "- ? a\n  : b\n",
        "{{ a }} ",
        "\"a\": 1,",
        "{\"a\":[",
    ] {
        let source = part.repeat(BYTES / part.len());
        for prefix in ["", "a: [", "a: \"", "a: |\n ", "- "] {
            let source = format!("{prefix}{}", &source[..source.floor_char_boundary(BYTES - prefix.len())]);
            read(source.as_bytes(), Format::Yaml);
        }
        read(source.as_bytes(), Format::Detect);
        read(source.as_bytes(), Format::Json);
    }
}
