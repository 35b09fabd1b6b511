//! Calls of capabilities that a test chooses.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caisson_sdk::{Context, Failure, artifacts, events, http, kv};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{refused, told};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpTen {
    url: String,
    times: Option<u32>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// So many POSTs, each with its number as its body: what a server counts when a host dies in the middle.
pub(crate) fn http_ten(_: &Context, input: HttpTen) -> Result<Value, Failure> {
    let mut statuses = Vec::new();
    for number in 0..input.times.unwrap_or(10) {
        let request = http::post(&input.url).json(&number);
        let request = input.headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        statuses.push(told(request.send(), |response| json!(response.status())));
    }
    Ok(json!({"statuses": statuses}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct HttpGet {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<String>,
    timeout_ms: Option<u64>,
}

/// One request, whatever it is: status, headers and text, or the refusal.
pub(crate) fn http_get(_: &Context, input: HttpGet) -> Result<Value, Failure> {
    let mut request = http::request(input.method.as_deref().unwrap_or("GET"), input.url);
    for (name, value) in input.headers {
        request = request.header(name, value);
    }
    if let Some(body) = input.body {
        request = request.body(body);
    }
    if let Some(ms) = input.timeout_ms {
        request = request.timeout(Duration::from_millis(ms));
    }
    Ok(told(request.send(), |response| {
        json!({
            "status": response.status(),
            "headers": response.headers(),
            "bytes": response.bytes().len(),
            "body": response.text().chars().take(10_000).collect::<String>(),
        })
    }))
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum KvOp {
    Get {
        key: String,
    },
    Set {
        key: String,
        value: String,
    },
    /// A value of so many bytes.
    Fill {
        key: String,
        bytes: usize,
    },
    Delete {
        key: String,
    },
    Keys {
        #[serde(default)]
        prefix: String,
        limit: Option<u32>,
    },
    /// Adds one to a number: what exactly once looks like.
    Count {
        key: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KvOps {
    ops: Vec<KvOp>,
}

/// One after the other; gives what each answered.
pub(crate) fn kv_ops(_: &Context, input: KvOps) -> Result<Value, Failure> {
    let answers: Vec<Value> = input.ops.into_iter().map(kv_op).collect();
    Ok(json!({"answers": answers}))
}

fn kv_op(op: KvOp) -> Value {
    let text = |value: Vec<u8>| String::from_utf8_lossy(&value).into_owned();
    match op {
        KvOp::Get { key } => told(kv::get(&key), |value| json!(value.map(text))),
        KvOp::Set { key, value } => told(kv::set(&key, value), |()| json!("ok")),
        KvOp::Fill { key, bytes } => told(kv::set(&key, vec![b'x'; bytes]), |()| json!("ok")),
        KvOp::Delete { key } => told(kv::delete(&key), |()| json!("ok")),
        KvOp::Keys { prefix, limit } => told(kv::keys(&prefix, limit.unwrap_or(1_000)), |keys| json!(keys)),
        KvOp::Count { key } => {
            let counted = kv::get_json::<u64>(&key).and_then(|count| {
                let count = count.unwrap_or(0) + 1;
                kv::set_json(&key, &count).map(|()| count)
            });
            told(counted, |count| json!(count))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Emit {
    name: String,
    key: Option<String>,
    #[serde(default)]
    payload: Value,
    times: Option<u32>,
}

/// The same event so many times; stops at the first refusal.
pub(crate) fn emit(_: &Context, input: Emit) -> Result<Value, Failure> {
    for emitted in 0..input.times.unwrap_or(1) {
        let result = match &input.key {
            Some(key) => events::emit_for(&input.name, key, &input.payload),
            None => events::emit(&input.name, &input.payload),
        };
        if let Err(error) = result {
            let mut answer = refused(&error);
            answer["emitted"] = json!(emitted);
            return Ok(answer);
        }
    }
    Ok(json!({"emitted": input.times.unwrap_or(1)}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArtifactPut {
    name: String,
    mime: Option<String>,
    text: Option<String>,
    /// A file of so many bytes instead.
    bytes: Option<usize>,
    /// So many files, `name` with a number behind it.
    times: Option<u32>,
}

/// Keeps files; gives the last one's id.
pub(crate) fn artifact_put(_: &Context, input: ArtifactPut) -> Result<Value, Failure> {
    let data = match input.bytes {
        Some(bytes) => vec![b'x'; bytes],
        None => input.text.unwrap_or_default().into_bytes(),
    };
    let mime = input.mime.as_deref().unwrap_or("text/plain");
    let Some(times) = input.times else {
        return Ok(told(artifacts::put(&input.name, mime, &data), |id| json!({"id": id})));
    };
    let mut last = Value::Null;
    for number in 0..times {
        match artifacts::put(&format!("{}{number}", input.name), mime, &data) {
            Ok(id) => last = json!({"id": id, "files": number + 1}),
            Err(error) => {
                let mut answer = refused(&error);
                answer["files"] = json!(number);
                return Ok(answer);
            }
        }
    }
    Ok(last)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArtifactGet {
    id: String,
}

/// Reads a file by its id, or by whatever is given for one.
pub(crate) fn artifact_get(_: &Context, input: ArtifactGet) -> Result<Value, Failure> {
    Ok(told(
        artifacts::get(&input.id),
        |data| json!({"bytes": data.len(), "text": data.into_iter().take(10_000).map(char::from).collect::<String>()}),
    ))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Mismatch {
    /// Is got first, so that a test can end the host in this call.
    url: Option<String>,
    /// What the second call depends on.
    #[serde(default)]
    by: By,
    /// For `by: input`.
    #[serde(default)]
    key: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    /// When the entry began: differs if a host does not hand the first beginning on.
    #[default]
    Clock,
    /// The key: differs if a test runs the entry again with another input.
    Input,
    /// Not at all, but one call more than the key is long.
    Length,
}

/// Asks for something that depends on what an entry that is run again must see the same.
pub(crate) fn mismatch(_: &Context, input: Mismatch) -> Result<Value, Failure> {
    if let Some(url) = &input.url {
        http::get(url).send()?;
    }
    let key = match input.by {
        By::Clock => format!("at {}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis()),
        By::Input => input.key,
        By::Length => {
            for _ in 0..input.key.len() {
                kv::get("length")?;
            }
            "length".to_owned()
        }
    };
    kv::set(&key, "seen")?;
    Ok(json!({"key": key}))
}
