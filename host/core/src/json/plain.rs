//! Reads most JSON texts in one pass, at a fraction of what a general reader needs: every step's input and output comes by here.
//!
//! Invariant: what it takes is one JSON value without space around it, and any reader can make a value of it. It need not take everything that
//! is: exponents, `\u` and very long numbers, whose meaning depends on more than grammar, are left to the general reader.

use super::DEPTH_MAX;

/// A number of this many digits is a finite double, whatever the digits are; nobody writes longer ones.
const NUMBER_BYTES_MAX: usize = 300;

/// Bytes that end a run of ordinary characters in a text.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        special[control] = true;
        control += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special
};

/// Whether the text is one value, nested [`DEPTH_MAX`] deep at most; `false` also says: ask the general reader.
pub(super) fn is_plain(text: &str) -> bool {
    let spaced = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_whitespace);
    let bytes = text.as_bytes();
    !spaced(bytes.first()) && !spaced(bytes.last()) && Plain { bytes, at: 0 }.only_value().is_some()
}

/// Where it is. `None` of any method: the text is not plain.
struct Plain<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Plain<'_> {
    fn only_value(&mut self) -> Option<()> {
        // A bit for each that is open, the innermost lowest: an object's is set.
        let (mut objects, mut open) = (0_u128, 0);
        loop {
            let opened = match self.next()? {
                b'{' => Some((1, b'}')),
                b'[' => Some((0, b']')),
                first => {
                    self.scalar(first)?;
                    None
                }
            };
            if let Some((object, end)) = opened {
                if open == DEPTH_MAX {
                    return None;
                }
                if self.peek()? == end {
                    self.at += 1;
                } else {
                    objects = objects << 1 | object;
                    open += 1;
                    if object == 1 {
                        self.key()?;
                    }
                    continue;
                }
            }
            // After a value: whatever ends, and then another value or the end of all.
            loop {
                if open == 0 {
                    return (self.at == self.bytes.len()).then_some(());
                }
                match (self.next()?, objects & 1) {
                    (b',', 1) => {
                        self.key()?;
                        break;
                    }
                    (b',', _) => break,
                    (b'}', 1) | (b']', 0) => {
                        objects >>= 1;
                        open -= 1;
                    }
                    _ => return None,
                }
            }
        }
    }

    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.bytes.get(self.at)? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn scalar(&mut self, first: u8) -> Option<()> {
        match first {
            b'"' => self.rest_of_text(),
            b't' => self.word(b"rue"),
            b'f' => self.word(b"alse"),
            b'n' => self.word(b"ull"),
            b'-' => {
                let first = *self.bytes.get(self.at)?;
                self.at += 1;
                self.rest_of_number(first)
            }
            first => self.rest_of_number(first),
        }
    }

    fn key(&mut self) -> Option<()> {
        if self.next()? != b'"' {
            return None;
        }
        self.rest_of_text()?;
        (self.next()? == b':').then_some(())
    }

    fn rest_of_text(&mut self) -> Option<()> {
        loop {
            let rest = self.bytes.get(self.at..)?;
            let length = rest.iter().position(|byte| SPECIAL[usize::from(*byte)])?;
            self.at += length + 1;
            match rest[length] {
                b'"' => return Some(()),
                b'\\' => match rest.get(length + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(rest).then(|| self.at += rest.len())
    }

    fn rest_of_number(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            let fraction = self.at;
            self.digits();
            if self.at == fraction {
                return None;
            }
        }
        // A digit or an exponent that follows ends no value, so that the caller refuses it.
        (self.at - start <= NUMBER_BYTES_MAX).then_some(())
    }

    fn digits(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::is_plain;

    /// Pieces of JSON, whole and broken.
    fn text() -> impl Strategy<Value = String> {
        let pieces = [
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            " ",
            "\n",
            "\u{b}",
            "\u{a0}",
            "\"",
            "\"\"",
            "\"a\"",
            "\"a\":",
            "\\",
            "\\n",
            "\\u0041",
            "\\ud800",
            "\\x",
            "\u{1}",
            "é",
            "0",
            "-0",
            "-",
            "1",
            "01",
            "1.5",
            "1.",
            ".5",
            "1e5",
            "1e999",
            "true",
            "false",
            "null",
            "nul",
            "[1,2]",
            "{\"a\":1}",
            "{\"a\" : [ ] , \"b\":{}}",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
    }

    /// JSON that is whole, as a writer writes it.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((".*", inner), 0..6).prop_map(|entries| entries.into_iter().collect::<Value>()),
            ]
        })
    }

    fn check(text: &str) {
        if is_plain(text) {
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{text:?} is no value");
            assert_eq!(text, text.trim_matches([' ', '\n', '\t', '\r']), "space around {text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn what_it_takes_every_reader_takes(text in text()) {
            check(&text);
        }

        #[test]
        fn what_is_whole_and_then_broken_is_not_taken_for_whole(value in value(), at in any::<prop::sample::Index>(), byte in any::<char>()) {
            let text = value.to_string();
            check(&text);
            let places: Vec<usize> = text.char_indices().map(|(place, _)| place).collect();
            let place = places[at.index(places.len())];
            let mut broken = text.clone();
            broken.insert(place, byte);
            check(&broken);
            broken = text;
            broken.remove(place);
            check(&broken);
        }
    }

    #[test]
    fn it_takes_what_plugins_write() {
        for text in [
            "null",
            "true",
            "-1.25",
            "\"a\\n\\\"b\\\"\"",
            "[]",
            "{}",
            "[1, {\"a\": [true, null, {}], \"b\": \"é\"}]",
            "{\"a\":{\"b\":[[],[0]]}}",
        ] {
            assert!(is_plain(text), "{text}");
            check(text);
        }
        for text in [
            "",
            " 1",
            "1 ",
            "1e5",
            "\"\\u0041\"",
            "[1,]",
            "{\"a\"}",
            "{a:1}",
            "[1",
            "1]",
            "01",
            "-",
            "nulll",
            "{\"a\":1,}",
        ] {
            assert!(!is_plain(text), "{text}");
        }
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(is_plain(&nested(127)) && !is_plain(&nested(128)) && !is_plain(&nested(129)));
        check(&nested(127));
        let digits = format!("-{}", "9".repeat(300));
        assert!(is_plain(&digits));
        check(&digits);
        assert!(!is_plain(&"9".repeat(400)));
    }
}
