//! Plain scalars by the core schema of YAML 1.2, and numbers that JSON can carry.

use serde_json::Number;

use super::Data;

/// What an unquoted scalar means. The error is for its author.
pub(super) fn plain(text: &str) -> Result<Data, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Data::Null),
        "true" | "True" | "TRUE" => return Ok(Data::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Data::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err(format!("{text} is not a number that JSON has: write it in quotes if it is text"));
    }
    if let Some(digits) = text.strip_prefix("0x").filter(|rest| is_all(rest, u8::is_ascii_hexdigit)) {
        return whole(u64::from_str_radix(digits, 16).ok(), text);
    }
    if let Some(digits) = text.strip_prefix("0o").filter(|rest| is_all(rest, |b| matches!(b, b'0'..=b'7'))) {
        return whole(u64::from_str_radix(digits, 8).ok(), text);
    }
    if is_all(unsigned, u8::is_ascii_digit) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            return Err(format!(
                "{text} starts with a zero: write it in quotes if it is text, without the zero if it is a number"
            ));
        }
        return if text.starts_with('-') {
            text.parse::<i64>().map(|n| Data::Number(n.into())).map_err(|_| too_large(text))
        } else {
            whole(unsigned.parse().ok(), text)
        };
    }
    if is_float(unsigned) { float(text) } else { Ok(Data::Text(text.to_owned())) }
}

/// A number of JSON, already known to be spelled like one.
pub(super) fn json_number(text: &str) -> Result<Number, String> {
    let number: Number = serde_json::from_str(text).map_err(|error| {
        if error.to_string().contains("out of range") { too_large(text) } else { format!("{text} is not a number") }
    })?;
    // serde_json makes a float of a whole number that no integer holds.
    let exact = number.is_i64() || number.is_u64() || text.contains(['.', 'e', 'E']) || text == "-0";
    if exact { Ok(number) } else { Err(too_large(text)) }
}

fn whole(number: Option<u64>, text: &str) -> Result<Data, String> {
    number.map(|n| Data::Number(n.into())).ok_or_else(|| too_large(text))
}

fn float(text: &str) -> Result<Data, String> {
    let number = text.parse::<f64>().ok().and_then(Number::from_f64);
    number.map(Data::Number).ok_or_else(|| too_large(text))
}

fn too_large(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    let dots = if shown.len() < text.len() { "…" } else { "" };
    format!("the number {shown}{dots} cannot be kept exactly: write it in quotes")
}

fn is_all(text: &str, test: impl Fn(&u8) -> bool) -> bool {
    !text.is_empty() && text.as_bytes().iter().all(test)
}

/// `(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let exponent_fits = exponent.is_none_or(|e| is_all(e.strip_prefix(['-', '+']).unwrap_or(e), u8::is_ascii_digit));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    exponent_fits && digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match plain(text) {
            Ok(Data::Null) => "null".to_owned(),
            Ok(Data::Bool(value)) => value.to_string(),
            Ok(Data::Number(number)) => number.to_string(),
            Ok(Data::Text(text)) => format!("{text:?}"),
            Ok(other) => format!("{other:?}"),
            Err(_) => "refused".to_owned(),
        }
    }

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        for (text, expected) in [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nULL", "\"nULL\""),
            ("true", "true"),
            ("FALSE", "false"),
            ("no", "\"no\""),
            ("on", "\"on\""),
            ("yes", "\"yes\""),
            ("off", "\"off\""),
            ("y", "\"y\""),
            ("0", "0"),
            ("-1", "-1"),
            ("+7", "7"),
            ("-0", "0"),
            ("007", "refused"),
            ("0o17", "15"),
            ("0xfF", "255"),
            ("0b1", "\"0b1\""),
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "refused"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775809", "refused"),
            ("0xfffffffffffffffff", "refused"),
            ("1.0", "1.0"),
            ("1.", "1.0"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("1e3", "1000.0"),
            ("1.5E-2", "0.015"),
            (".", "\".\""),
            ("1e999", "refused"),
            ("12e", "\"12e\""),
            ("e5", "\"e5\""),
            (".e5", "\".e5\""),
            ("1.2.3", "\"1.2.3\""),
            ("1_000", "\"1_000\""),
            (".inf", "refused"),
            ("-.INF", "refused"),
            (".nan", "refused"),
            ("nan", "\"nan\""),
            ("inf", "\"inf\""),
            ("2026-01-01", "\"2026-01-01\""),
            ("12:30:45", "\"12:30:45\""),
            ("-", "\"-\""),
            ("+", "\"+\""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
