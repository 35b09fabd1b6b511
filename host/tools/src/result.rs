//! A tool's result as it is handed on: a text where there is nothing but text, else an object with what there is.
//!
//! ```json
//! {"content": [{"type": "text", "text": "…"}, {"type": "image", "mimeType": "image/png", "bytes": 1234},
//!              {"type": "resource", "uri": "file:///a", "mimeType": "text/plain", "text": "…"},
//!              {"type": "resource_link", "uri": "file:///b", "name": "b"}], "structured": {…}}
//! ```
//!
//! The bytes of pictures, sounds and binary resources are left out and only counted: models read text here, and a record is for ever.
//! Annotations are left out: they are the server's own opinion.

use caisson_core::json::Json;
use caisson_core::ports::ToolError;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Map, Value, json};

/// Of what a tool says of its failure, a model needs a page or two; a stack trace has some kilobytes.
pub(crate) const ERROR_BYTES_MAX: usize = 64 << 10;

/// What comes of a result; more than `max` bytes of it are refused.
pub(crate) fn answer(tool: &str, result: CallToolResult, max: u64) -> Result<Json, ToolError> {
    let failed = result.is_error == Some(true);
    let value = value(result);
    if failed {
        let text = match &value {
            Value::String(text) => cut(text, ERROR_BYTES_MAX),
            other => cut(&other.to_string(), ERROR_BYTES_MAX),
        };
        return Err(ToolError::Failed(format!("tool '{tool}' failed: {text}")));
    }
    let json = Json::of(&value);
    if json.get().len() as u64 > max { Err(ToolError::TooLarge(max)) } else { Ok(json) }
}

fn value(result: CallToolResult) -> Value {
    let structured = result.structured_content;
    if result.content.is_empty() {
        return structured.unwrap_or_else(|| Value::String(String::new()));
    }
    if result.content.iter().all(|block| block.as_text().is_some()) {
        // What is structured is said once more in the text.
        let texts: Vec<&str> =
            result.content.iter().filter_map(|block| block.as_text()).map(|text| text.text.as_str()).collect();
        return Value::String(plain(&texts.join("\n")));
    }
    let mut object = Map::new();
    object.insert("content".to_owned(), result.content.iter().map(block).collect());
    if let Some(structured) = structured {
        object.insert("structured".to_owned(), structured);
    }
    Value::Object(object)
}

fn block(block: &ContentBlock) -> Value {
    match block {
        ContentBlock::Text(text) => json!({"type": "text", "text": plain(&text.text)}),
        ContentBlock::Image(image) => {
            json!({"type": "image", "mimeType": image.mime_type, "bytes": decoded(&image.data)})
        }
        ContentBlock::Audio(audio) => {
            json!({"type": "audio", "mimeType": audio.mime_type, "bytes": decoded(&audio.data)})
        }
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { uri, mime_type, text, .. } => {
                json!({"type": "resource", "uri": uri, "mimeType": mime_type, "text": plain(text)})
            }
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                json!({"type": "resource", "uri": uri, "mimeType": mime_type, "bytes": decoded(blob)})
            }
            _ => json!({"type": "resource"}),
        },
        ContentBlock::ResourceLink(link) => {
            json!({"type": "resource_link", "uri": link.uri, "name": link.name, "mimeType": link.mime_type})
        }
        _ => json!({"type": "unknown"}),
    }
}

/// How many bytes base64 stands for.
fn decoded(base64: &str) -> usize {
    base64.trim_end_matches('=').len() * 3 / 4
}

/// Not every store takes the character zero in a text.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// At most so many bytes.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let text = plain(text);
    if text.len() <= max {
        return text;
    }
    format!("{}… (cut: {} bytes in all)", &text[..text.floor_char_boundary(max)], text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(value: Value) -> CallToolResult {
        serde_json::from_value(value).expect("a result")
    }

    #[test]
    fn text_is_a_text_and_everything_else_an_object() {
        let text = |text: &str| json!({"type": "text", "text": text, "annotations": {"audience": ["user"]}});
        for (given, expected) in [
            (json!({"content": [text("a")]}), json!("a")),
            (json!({"content": [text("a"), text("b\u{0}")], "structuredContent": {"x": 1}}), json!("a\nb\u{fffd}")),
            (json!({"content": [], "structuredContent": {"x": 1}}), json!({"x": 1})),
            (json!({"content": []}), json!("")),
            (
                json!({"content": [text("a"), {"type": "image", "mimeType": "image/png", "data": "AAAAAA=="}]}),
                json!({"content": [{"type": "text", "text": "a"}, {"type": "image", "mimeType": "image/png", "bytes": 4}]}),
            ),
            (
                json!({"content": [{"type": "resource", "resource": {"uri": "a:b", "mimeType": "text/x", "text": "t"}}]}),
                json!({"content": [{"type": "resource", "uri": "a:b", "mimeType": "text/x", "text": "t"}]}),
            ),
            (
                json!({"content": [{"type": "resource", "resource": {"uri": "a:b", "blob": "AAAA"}}], "structuredContent": 1}),
                json!({"content": [{"type": "resource", "uri": "a:b", "mimeType": null, "bytes": 3}], "structured": 1}),
            ),
            (
                json!({"content": [{"type": "resource_link", "uri": "a:b", "name": "n"}]}),
                json!({"content": [{"type": "resource_link", "uri": "a:b", "name": "n", "mimeType": null}]}),
            ),
        ] {
            assert_eq!(answer("s.t", result(given.clone()), 1000).map(|json| json.value()), Ok(expected), "{given}");
        }
    }

    #[test]
    fn too_much_is_refused_and_a_failure_is_told() {
        let long = result(json!({"content": [{"type": "text", "text": "x".repeat(99)}]}));
        assert_eq!(answer("s.t", long.clone(), 100), Err(ToolError::TooLarge(100)));
        assert!(answer("s.t", long, 101).is_ok(), "with its quotes");
        let failed = result(json!({"content": [{"type": "text", "text": "no"}], "isError": true}));
        assert_eq!(answer("s.t", failed, 100), Err(ToolError::Failed("tool 's.t' failed: no".to_owned())));
        let failed = result(json!({"content": [{"type": "text", "text": "x".repeat(1 << 20)}], "isError": true}));
        let Err(ToolError::Failed(text)) = answer("s.t", failed, 100) else { panic!("failed") };
        assert!(text.len() < ERROR_BYTES_MAX + 100, "{}", text.len());
    }
}
