//! What scripts see of the host.

use std::rc::Rc;

use super::{Fake, call, done, failed, fake, package};
use crate::bindings::caisson::step::types::{Category, Retry};
use crate::host::Response;

/// Runs the body of an action; gives its result and what the host saw.
fn body(host: Fake, body: &str) -> (Result<String, String>, Vec<String>) {
    let source = format!("export async function run(input) {{ {body} }}");
    let host = Rc::new(Fake { assets: [("plugin.js".to_owned(), source)].into(), ..host });
    let result = package(&host, &call("run", "null"));
    let result = match result {
        Err(failure) => Err(format!("{}: {}", failure.code, failure.message)),
        done_ => Ok(done(done_)),
    };
    let seen = host.seen.borrow().clone();
    (result, seen)
}

#[test]
fn log_lines_and_progress() {
    let (result, seen) = body(
        Fake::default(),
        "caisson.log.warn('m', { a: 1 }); console.log('a', { b: [1] }, 2, null, undefined); console.error(new Error('x').message); caisson.progress(150.7, 'far'); caisson.progress(null);",
    );
    assert_eq!(result.unwrap(), "null");
    assert_eq!(
        seen,
        [
            r#"Level::Warn m {"a":1}"#,
            r#"Level::Info a {"b":[1]} 2 null undefined -"#,
            "Level::Error x -",
            "progress Some(100) far",
            "progress None "
        ]
    );
}

#[test]
fn http_with_and_without_promises() {
    let response = || {
        let headers = vec![("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())];
        Some(Response { status: 201, headers, body: "{\"é\":[1]}".as_bytes().to_vec() })
    };
    let (result, seen) = body(
        Fake { response: response(), ..Fake::default() },
        "const r = caisson.http.send({ method: 'post', url: 'https://a.test/x', headers: { 'X-B': ['1', 2] }, json: { a: 'é' }, timeoutMs: 5 });
         return [r.status, r.ok, r.headers.get('X-a'), r.headers.has('y'), r.json(), r.text().length, r.bytes().length];",
    );
    assert_eq!(result.unwrap(), r#"[201,true,"1, 2",false,{"é":[1]},9,10]"#);
    assert_eq!(
        seen,
        [
            r#"POST https://a.test/x [("X-B", "1"), ("X-B", "2"), ("content-type", "application/json")] Some("{\"a\":\"é\"}") Some(5)"#
        ]
    );
    let (result, seen) = body(
        Fake { response: response(), ..Fake::default() },
        "const r = await fetch('https://a.test', { method: 'PUT', body: new Uint8Array([104, 105]) }); return [r.ok, await r.json(), await r.text()];",
    );
    assert_eq!(result.unwrap(), r#"[true,{"é":[1]},"{\"é\":[1]}"]"#);
    assert_eq!(seen, [r#"PUT https://a.test [] Some("hi") None"#]);
    let (result, _) = body(Fake::default(), "caisson.http.send({ url: 'https://a.test', body: { a: 1 } });");
    assert!(result.unwrap_err().contains("body is text or bytes: use JSON.stringify"));
}

#[test]
fn a_refusal_is_an_error_with_a_code() {
    let denied = || Fake { denied: true, ..Fake::default() };
    let (result, _) = body(
        denied(),
        "try { caisson.kv.get('a') } catch (e) { return [e.code, e.message, e instanceof caisson.CapabilityError, e instanceof Error] }",
    );
    assert_eq!(result.unwrap(), r#"["CAPABILITY_DENIED","add it to the grants",true,true]"#);
    let (result, _) = body(denied(), "return fetch('https://a.test').catch((e) => e.code)");
    assert_eq!(result.unwrap(), r#""CAPABILITY_DENIED""#);
    let host = Rc::new(Fake { denied: true, ..fake("export const run = () => caisson.secrets.get('A')") });
    let failure = failed(package(&host, &call("run", "null")));
    assert_eq!((failure.code.as_str(), failure.category), ("CAPABILITY_DENIED", Category::Policy));
    assert!(matches!(failure.retry, Retry::Never));
    let (result, _) = body(Fake::default(), "caisson.kv.set('a', 'x'.repeat(200))");
    assert_eq!(result.unwrap_err(), "TOO_LARGE: more than the 100 bytes that are allowed");
    let (result, _) = body(Fake::default(), "return caisson.secrets.get('A')");
    assert_eq!(result.unwrap_err(), "NOT_FOUND: no secret A");
}

#[test]
fn state_files_events_secrets_and_models() {
    let (result, _) = body(
        Fake::default(),
        "const { kv } = caisson;
         kv.set('a', { n: [1] }); kv.set('b', 'text'); kv.set('c', new Uint8Array([1, 2])); kv.set('d', null); kv.delete('d');
         return [kv.get('a'), kv.get('b'), [...kv.getBytes('c')], kv.get('d'), kv.keys(), kv.keys('b', 5)];",
    );
    assert_eq!(result.unwrap(), r#"[{"n":[1]},"text",[1,2],null,["a","b","c"],["b"]]"#);
    let (result, seen) = body(
        Fake::default(),
        "const id = caisson.artifacts.put('a.txt', 'é'); caisson.artifacts.put('b', { a: 1 }, 'x/y');
         caisson.events.emit('order.paid', { n: 1 }, 'k'); caisson.events.emit('bare');
         return [id, [...caisson.artifacts.get(id)], caisson.secrets.get('TOKEN'), caisson.model.complete({ prompt: 'hi' }), caisson.tools.list()[0].name,
           caisson.tools.call('git.log', { n: 1 }), caisson.config];",
    );
    let expected = r#"["id-a.txt",[0,255],"s3cret",{"text":"hello"},"git.log","three commits",{"greeting":"hello"}]"#;
    assert_eq!(result.unwrap(), expected);
    assert_eq!(
        seen,
        [
            "a.txt text/plain; charset=utf-8 [195, 169]",
            "b x/y [123, 34, 97, 34, 58, 49, 125]",
            r#"order.paid Some("k") {"n":1}"#,
            "bare None null",
            r#"{"prompt":"hi"}"#,
            r#"git.log {"n":1}"#
        ]
    );
}

#[test]
fn text_as_bytes_and_assets() {
    let (result, _) = body(
        Fake::default(),
        "return [[...new TextEncoder().encode('é😀\\ud800')], new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0xc3, 0xa9, 0xff])), caisson.assets.read('nothing'), caisson.assets.text('plugin.js').length > 9];",
    );
    assert_eq!(result.unwrap(), r#"[[195,169,240,159,152,128,239,191,189],"é�",null,true]"#);
}
