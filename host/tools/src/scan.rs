//! Finds a message's id in a line that is too long to hold, so that who waits for it hears why there is no answer.

use rmcp::model::{NumberOrString, RequestId};

/// Longer ids were not given out by us.
const ID_BYTES_MAX: usize = 64;

/// Reads JSON byte by byte and remembers the value of `id` of the outermost object. What is no JSON object has none.
#[derive(Debug, Default)]
pub(crate) struct IdScan {
    depth: u32,
    in_text: bool,
    escaped: bool,
    /// Of the outermost object: the text that was read last, and whether a value follows.
    text: Vec<u8>,
    expects_value: bool,
    is_id: bool,
    /// A number that is being read.
    value: Vec<u8>,
    found: Option<RequestId>,
    broken: bool,
}

impl IdScan {
    /// Reads on.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.broken {
                return;
            }
            self.byte(*byte);
        }
    }

    /// What was found.
    pub(crate) fn id(&self) -> Option<RequestId> {
        if self.broken { None } else { self.found.clone() }
    }

    fn byte(&mut self, byte: u8) {
        if self.in_text {
            return self.in_text(byte);
        }
        match byte {
            b'"' => {
                self.in_text = true;
                self.text.clear();
            }
            b'{' | b'[' => {
                self.broken |= self.depth == 0 && byte == b'[';
                self.depth += 1;
            }
            b'}' | b']' => {
                self.end_of_value();
                self.depth = self.depth.saturating_sub(1);
            }
            b':' if self.depth == 1 => {
                self.expects_value = true;
                self.is_id = self.text == b"id";
            }
            b',' => self.end_of_value(),
            b' ' | b'\t' | b'\r' => {}
            // Before the first brace nothing may stand.
            _ if self.depth == 0 => self.broken = true,
            _ => {
                if self.depth == 1 && self.is_id && self.value.len() < ID_BYTES_MAX {
                    self.value.push(byte);
                }
            }
        }
    }

    fn in_text(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => {
                self.in_text = false;
                if self.depth == 1 && self.expects_value && self.is_id {
                    let text = String::from_utf8_lossy(&self.text);
                    self.found.get_or_insert(NumberOrString::String(text.as_ref().into()));
                }
                return;
            }
            _ => {}
        }
        if self.depth == 1 && self.text.len() <= ID_BYTES_MAX {
            self.text.push(byte);
        }
    }

    fn end_of_value(&mut self) {
        if self.depth != 1 {
            return;
        }
        if self.is_id
            && let Some(number) = std::str::from_utf8(&self.value).ok().and_then(|text| text.parse().ok())
        {
            self.found.get_or_insert(NumberOrString::Number(number));
        }
        self.value.clear();
        self.expects_value = false;
        self.is_id = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_wherever_it_stands() {
        let number = |number| Some(NumberOrString::Number(number));
        for (line, id) in [
            (r#"{"id":7,"result":{}}"#, number(7)),
            (r#"{"jsonrpc":"2.0","result":{"id":1,"a":["id",{"id":2}]},"id": 7 }"#, number(7)),
            (r#"{"result":"\"id\":3,","id":7}"#, number(7)),
            (r#"{"id":"x7","result":1}"#, Some(NumberOrString::String("x7".into()))),
            (r#"{"result":"id","method":"id"}"#, None),
            (r#"{"result":{"id":7}}"#, None),
            (r#"[{"id":7}]"#, None),
            (r#"junk {"id":7}"#, None),
            ("", None),
        ] {
            let mut scan = IdScan::default();
            // However the pieces fall.
            line.as_bytes().chunks(3).for_each(|piece| scan.feed(piece));
            assert_eq!(scan.id(), id, "{line}");
        }
    }
}
