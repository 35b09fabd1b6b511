use super::*;

#[tokio::test]
async fn what_arrives_is_what_was_asked_for() {
    let server = Server::start(|_| {
        Reply::Send(b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Latin: gr\xfc\xdfe\r\nX-Utf: \xc3\xbc\r\ncontent-length: 3\r\n\r\n\xff\x00a".to_vec())
    })
    .await;
    let guest = Guest::of(&server);
    let request = Request {
        method: "post".to_owned(),
        body: Some(b"{\"a\":1}".to_vec()),
        ..get(&server.url("/a%20b/../c?x=1&y={z}#part"))
    };
    let answer = guest
        .send(with_headers(
            request,
            &[("Content-Type", "application/json"), ("x-two", "1"), ("X-Two", "2"), ("x-empty", "")],
        ))
        .await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status, &*answer.body), (201, &b"\xff\x00a"[..]));
    let values = |name: &str| {
        answer.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(values("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((values("x-latin"), values("x-utf")), (vec!["grüße"], vec!["ü"]));

    let got = &server.got()[0];
    assert_eq!(got.first_line(), "POST /c?x=1&y={z} HTTP/1.1");
    assert_eq!(got.body, "{\"a\":1}");
    assert_eq!(got.header("host"), [server.address.to_string()]);
    assert_eq!(got.header("content-length"), ["7"]);
    assert_eq!(got.header("content-type"), ["application/json"]);
    assert_eq!(got.header("x-two"), ["1", "2"]);
    assert_eq!(got.header("idempotency-key"), ["run:step:0:0"]);
    assert_eq!(got.header("accept"), ["*/*"]);
    assert!(got.header("user-agent")[0].starts_with("caisson/"), "{got:?}");
    for absent in ["accept-encoding", "cookie", "authorization", "referer", "connection", "transfer-encoding"] {
        assert!(got.header(absent).is_empty(), "{absent}: {got:?}");
    }
}

#[tokio::test]
async fn a_guests_own_key_and_name_stay() {
    let server = Server::start(|_| ok("", "")).await;
    let headers = [
        ("Idempotency-Key", "mine"),
        ("user-agent", "me/1"),
        ("accept", "text/plain"),
        ("accept-encoding", "gzip"),
        ("range", "bytes=0-1"),
    ];
    Guest::of(&server).send(with_headers(get(&server.url("/")), &headers)).await.expect("an answer");
    let got = &server.got()[0];
    for (name, value) in headers {
        assert_eq!(got.header(name), [value]);
    }
}

#[tokio::test]
async fn a_guest_does_not_decide_where_a_message_ends() {
    let server = Server::start(|_| ok("", "")).await;
    let guest = Guest::of(&server);
    let url = server.url("/");
    let own = [
        "host",
        "Host",
        "content-length",
        "Transfer-Encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
        "expect",
        "proxy-authorization",
        "Proxy-Connection",
        "http2-settings",
    ];
    for name in own {
        is_invalid(guest.send(with_headers(get(&url), &[(name, "x")])).await, "host's own");
    }
    for name in ["", " ", "x y", "x:", "x\r\ny", "x\0", ":authority", "ü", "x\tx", "(x)"] {
        is_invalid(guest.send(with_headers(get(&url), &[(name, "x")])).await, "no header's name");
    }
    for value in ["a\r\nx-smuggled: 1", "a\nb", "a\rb", "a\0b", "\u{7f}", "a\r\n\r\nGET /other HTTP/1.1\r\n"] {
        is_invalid(guest.send(with_headers(get(&url), &[("x-value", value)])).await, "no header may have");
    }
    for method in ["", " ", "GET ", "GE T", "GET / HTTP/1.1\r\nx: y\r\n\r\n", "G\nET", "\0", "GÜT"] {
        is_invalid(guest.send(Request { method: method.to_owned(), ..get(&url) }).await, "no method");
    }
    for method in ["CONNECT", "connect", "TRACE", "Trace"] {
        is_invalid(guest.send(Request { method: method.to_owned(), ..get(&url) }).await, "not for plugins");
    }
    is_invalid(guest.send(Request { method: "X".repeat(100), ..get(&url) }).await, "too long");
    assert_eq!(server.accepted(), 0);
    // A URL cannot do it either: breaks vanish, blanks are escaped.
    for path in [
        "/\r\nx-smuggled: 1",
        "/ HTTP/1.1\r\nx-smuggled: 1\r\n\r\nGET /other",
        "/?a=\r\n\r\nb",
        "/%0d%0ax: y",
        "/#\r\n\r\nGET /",
    ] {
        guest.get(&server.url(path)).await.expect("an answer");
    }
    for got in server.got() {
        assert!(got.header("x-smuggled").is_empty(), "{got:?}");
        assert_eq!(got.first_line().split(' ').count(), 3, "{got:?}");
    }
    assert_eq!(server.got().len(), 5);
    assert_eq!(
        guest.send(Request { method: "purge".to_owned(), ..get(&url) }).await.expect("any other method").status,
        200
    );
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let server = Server::start(|_| ok("", "")).await;
    let guest = Guest::of(&server);
    let many: Vec<(String, String)> = (0..65).map(|n| (format!("x-{n}"), String::new())).collect();
    is_invalid(
        guest.send(Request { headers: many[..].to_vec(), ..get(&server.url("/")) }).await,
        "more than 64 headers",
    );
    let long = vec![("x-long".to_owned(), "x".repeat(40_000))];
    is_invalid(guest.send(Request { headers: long, ..get(&server.url("/")) }).await, "bytes of them");
    guest.send(Request { headers: many[..64].to_vec(), ..get(&server.url("/")) }).await.expect("64 will do");
}
