//! The host's functions as a JavaScript object, in the shape that `prelude.js` expects: the interfaces of `step.wit`, and an error of a
//! capability is thrown as `{ tag, val }`.

use std::rc::Rc;

use boa_engine::native_function::NativeFunctionPointer;
use boa_engine::object::ObjectInitializer;
use boa_engine::object::builtins::{JsArray, JsUint8Array};
use boa_engine::property::Attribute;
use boa_engine::value::TryFromJs;
use boa_engine::{
    Context, JsArgs, JsError, JsNativeError, JsObject, JsResult, JsString, JsValue, NativeFunction, js_string,
};

use crate::host::{Host, Level, Refusal, Request};

/// Where native functions find the host.
struct Surroundings(Rc<dyn Host>);

/// The object `host` of the prelude.
pub fn host(host: Rc<dyn Host>, context: &mut Context) -> JsObject {
    const INTERFACES: &[(&str, &[(&str, NativeFunctionPointer)])] = &[
        ("log", &[("write", log_write), ("progress", log_progress)]),
        ("assets", &[("read", assets_read)]),
        ("http", &[("send", http_send)]),
        ("secrets", &[("get", secrets_get)]),
        ("kv", &[("get", kv_get), ("set", kv_set), ("delete", kv_delete), ("keys", kv_keys)]),
        ("artifacts", &[("put", artifacts_put), ("get", artifacts_get)]),
        ("events", &[("emit", events_emit)]),
        ("model", &[("complete", model_complete)]),
        ("tools", &[("listTools", tools_list), ("call", tools_call)]),
    ];
    context.insert_data(Surroundings(host));
    let interfaces: Vec<_> = INTERFACES.iter().map(|(name, functions)| (*name, object(functions, context))).collect();
    let mut all = ObjectInitializer::new(context);
    for (name, interface) in interfaces {
        all.property(js_string!(name), interface, Attribute::all());
    }
    all.build()
}

/// The object `utf8` of the prelude.
pub fn utf8(context: &mut Context) -> JsObject {
    object(&[("encode", utf8_encode), ("decode", utf8_decode)], context)
}

/// `JSON.parse` that reads the text as data. The engine's own evaluates it as a script, which takes five times as long; it still does where
/// there is a reviver.
pub fn read_json_as_data(context: &mut Context) -> JsResult<()> {
    let json = context.global_object().get(js_string!("JSON"), context)?;
    let json = json.as_object().ok_or_else(|| JsNativeError::typ().with_message("JSON is no object"))?;
    let original = json.get(js_string!("parse"), context)?;
    let parse = NativeFunction::from_copy_closure_with_captures(
        |this, given, original: &JsValue, context| match (
            given.get_or_undefined(1).is_callable(),
            original.as_callable(),
        ) {
            (true, Some(original)) => original.call(this, given, context),
            _ => {
                let text = given.get_or_undefined(0).to_string(context)?.to_std_string_lossy();
                parse_json(&text, context)
            }
        },
        original,
    );
    let parse = boa_engine::object::FunctionObjectBuilder::new(context.realm(), parse)
        .name(js_string!("parse"))
        .length(2)
        .build();
    json.set(js_string!("parse"), parse, true, context)?;
    Ok(())
}

fn object(functions: &[(&str, NativeFunctionPointer)], context: &mut Context) -> JsObject {
    let mut object = ObjectInitializer::new(context);
    for (name, function) in functions {
        object.function(NativeFunction::from_fn_ptr(*function), js_string!(*name), 0);
    }
    object.build()
}

/// JSON text as a value.
pub fn parse_json(text: &str, context: &mut Context) -> JsResult<JsValue> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|e| JsNativeError::syntax().with_message(format!("invalid JSON: {e}")))?;
    JsValue::from_json(&value, context)
}

/// Bytes as a `Uint8Array`.
pub fn bytes(data: Vec<u8>, context: &mut Context) -> JsResult<JsValue> {
    Ok(JsUint8Array::from_iter(data, context)?.into())
}

/// A `Uint8Array` as bytes.
pub fn to_bytes(value: &JsValue, context: &mut Context) -> JsResult<Vec<u8>> {
    let array = value.as_object().ok_or_else(|| JsNativeError::typ().with_message("bytes are a Uint8Array"))?;
    JsUint8Array::from_object(array)?.to_vec(context)
}

fn surroundings(context: &Context) -> Rc<dyn Host> {
    let found = context.get_data::<Surroundings>().expect("the host is put there before there are functions");
    Rc::clone(&found.0)
}

fn text(given: &[JsValue], at: usize, context: &mut Context) -> JsResult<String> {
    Ok(given.get_or_undefined(at).to_string(context)?.to_std_string_lossy())
}

fn optional_text(given: &[JsValue], at: usize, context: &mut Context) -> JsResult<Option<String>> {
    if given.get_or_undefined(at).is_null_or_undefined() { Ok(None) } else { text(given, at, context).map(Some) }
}

fn string(text: &str) -> JsValue {
    JsValue::from(JsString::from(text))
}

/// What a capability answered, or its refusal as something thrown.
fn answer<T>(result: Result<T, Refusal>, context: &mut Context) -> JsResult<T> {
    result.map_err(|refusal| {
        let (tag, val) = match refusal {
            Refusal::Denied(what) => ("denied", string(&what)),
            Refusal::NotFound(what) => ("not-found", string(&what)),
            Refusal::Invalid(what) => ("invalid", string(&what)),
            Refusal::TooLarge(max) => ("too-large", JsValue::from(max)),
            Refusal::Quota(what) => ("quota", string(&what)),
            Refusal::Timeout => ("timeout", JsValue::null()),
            Refusal::Unavailable(what) => ("unavailable", string(&what)),
            Refusal::Other(what) => ("other", string(&what)),
        };
        let thrown = ObjectInitializer::new(context)
            .property(js_string!("tag"), string(tag), Attribute::all())
            .property(js_string!("val"), val, Attribute::all())
            .build();
        JsError::from_opaque(thrown.into())
    })
}

fn log_write(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let level = match text(given, 0, context)?.as_str() {
        "trace" => Level::Trace,
        "debug" => Level::Debug,
        "warn" => Level::Warn,
        "error" => Level::Error,
        "fatal" => Level::Fatal,
        _ => Level::Info,
    };
    let (message, fields) = (text(given, 1, context)?, optional_text(given, 2, context)?);
    surroundings(context).log(level, &message, fields.as_deref());
    Ok(JsValue::undefined())
}

fn log_progress(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let percent = given.get_or_undefined(0).as_i32().and_then(|percent| u8::try_from(percent).ok());
    let message = text(given, 1, context)?;
    surroundings(context).progress(percent, &message);
    Ok(JsValue::undefined())
}

fn assets_read(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let name = text(given, 0, context)?;
    match surroundings(context).asset(&name) {
        Some(data) => bytes(data, context),
        None => Ok(JsValue::null()),
    }
}

fn http_send(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let request = given.get_or_undefined(0).to_object(context)?;
    let property = |name: &str, context: &mut Context| request.get(js_string!(name), context);
    let method = property("method", context)?.to_string(context)?.to_std_string_lossy();
    let url = property("url", context)?.to_string(context)?.to_std_string_lossy();
    let pairs = Vec::<Vec<JsString>>::try_from_js(&property("headers", context)?, context)?;
    let headers = pairs
        .iter()
        .filter_map(|pair| Some((pair.first()?.to_std_string_lossy(), pair.get(1)?.to_std_string_lossy())))
        .collect();
    let body = property("body", context)?;
    let body = if body.is_null_or_undefined() { None } else { Some(to_bytes(&body, context)?) };
    let timeout = property("timeoutMs", context)?;
    let timeout_ms = if timeout.is_null_or_undefined() { None } else { Some(timeout.to_u32(context)?) };
    let result = surroundings(context).http(&Request { method, url, headers, body, timeout_ms });
    let response = answer(result, context)?;
    let mut headers = Vec::with_capacity(response.headers.len());
    for (name, value) in &response.headers {
        headers.push(JsArray::from_iter([string(name), string(value)], context).into());
    }
    let headers = JsArray::from_iter::<Vec<JsValue>>(headers, context);
    let body = bytes(response.body, context)?;
    let response = ObjectInitializer::new(context)
        .property(js_string!("status"), i32::from(response.status), Attribute::all())
        .property(js_string!("headers"), headers, Attribute::all())
        .property(js_string!("body"), body, Attribute::all())
        .build();
    Ok(response.into())
}

fn secrets_get(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let name = text(given, 0, context)?;
    let result = surroundings(context).secret(&name);
    answer(result, context).map(|value| string(&value))
}

fn kv_get(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let key = text(given, 0, context)?;
    let result = surroundings(context).kv_get(&key);
    match answer(result, context)? {
        Some(data) => bytes(data, context),
        None => Ok(JsValue::null()),
    }
}

fn kv_set(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let key = text(given, 0, context)?;
    let value = to_bytes(given.get_or_undefined(1), context)?;
    let result = surroundings(context).kv_set(&key, &value);
    answer(result, context).map(|()| JsValue::undefined())
}

fn kv_delete(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let key = text(given, 0, context)?;
    let result = surroundings(context).kv_delete(&key);
    answer(result, context).map(|()| JsValue::undefined())
}

fn kv_keys(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let prefix = text(given, 0, context)?;
    let limit = given.get_or_undefined(1).to_u32(context)?;
    let result = surroundings(context).kv_keys(&prefix, limit);
    let keys = answer(result, context)?;
    Ok(JsArray::from_iter(keys.iter().map(|key| string(key)), context).into())
}

fn artifacts_put(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (name, mime) = (text(given, 0, context)?, text(given, 1, context)?);
    let data = to_bytes(given.get_or_undefined(2), context)?;
    let result = surroundings(context).artifact_put(&name, &mime, &data);
    answer(result, context).map(|id| string(&id))
}

fn artifacts_get(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let id = text(given, 0, context)?;
    let result = surroundings(context).artifact_get(&id);
    let data = answer(result, context)?;
    bytes(data, context)
}

fn events_emit(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (name, key) = (text(given, 0, context)?, optional_text(given, 1, context)?);
    let payload = text(given, 2, context)?;
    let result = surroundings(context).emit(&name, key.as_deref(), &payload);
    answer(result, context).map(|()| JsValue::undefined())
}

fn model_complete(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let request = text(given, 0, context)?;
    let result = surroundings(context).complete(&request);
    answer(result, context).map(|response| string(&response))
}

fn tools_list(_: &JsValue, _: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let result = surroundings(context).tools();
    answer(result, context).map(|tools| string(&tools))
}

fn tools_call(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let (name, arguments) = (text(given, 0, context)?, text(given, 1, context)?);
    let result = surroundings(context).call_tool(&name, &arguments);
    answer(result, context).map(|answer| string(&answer))
}

fn utf8_encode(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let text = text(given, 0, context)?;
    bytes(text.into_bytes(), context)
}

fn utf8_decode(_: &JsValue, given: &[JsValue], context: &mut Context) -> JsResult<JsValue> {
    let data = to_bytes(given.get_or_undefined(0), context)?;
    let text = String::from_utf8_lossy(&data);
    Ok(string(text.strip_prefix('\u{feff}').unwrap_or(&text)))
}
