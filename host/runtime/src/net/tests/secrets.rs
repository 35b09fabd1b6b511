use super::*;

const VALUE: &str = "s3cr\"t/v\\lue";

/// Filled in for this server's authorization and x-token, never read.
fn guest(server: &Server) -> Guest {
    let host = server.address.to_string();
    let inject = json!([
        {"secret": "FILL", "headers": ["Authorization", "x-token"], "hosts": [host]},
        {"secret": "SHORT", "hosts": [host]}, {"secret": "BROKEN", "hosts": [host]}, {"secret": "GONE", "hosts": [host]},
    ]);
    Guest::with(&json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.1/32"]}, "secrets": {"inject": inject}}))
        .knowing(&[("FILL", VALUE), ("SHORT", "abc"), ("BROKEN", "line one\r\nx-smuggled: 1")])
        .naming(&[("other.test", &[&["127.0.0.1"]])])
}

fn filled(url: &str) -> Request {
    with_headers(get(url), &[("authorization", "Bearer {{secret:FILL}}")])
}

fn no_trace(answer: &Response) {
    let all = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body));
    for part in ["s3cr", "lue", "czNjc"] {
        assert!(!all.contains(part), "{part} in {all}");
    }
}

#[tokio::test]
async fn a_server_that_says_it_back_says_nothing() {
    let server = Server::start(|got| {
        let value = got.header("authorization")[0];
        let json = json!({"headers": {"authorization": value, "again": [value, value]}}).to_string();
        let query: String = value
            .bytes()
            .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect();
        let html = value.replace('"', "&quot;");
        ok(&format!("x-echo: {value}\r\nx-query: q={query}\r\n"), &format!("{value} {json} {query} {html} end"))
    })
    .await;
    let answer = guest(&server).send(filled(&server.url("/"))).await.expect("an answer");
    no_trace(&answer);
    assert!(
        text(&answer).starts_with("Bearer [secret:FILL] {") && text(&answer).ends_with("[secret:FILL] end"),
        "{}",
        text(&answer)
    );
    assert!(answer.headers.contains(&("x-echo".to_owned(), "Bearer [secret:FILL]".to_owned())));
    assert_eq!(server.got()[0].header("authorization"), [format!("Bearer {VALUE}")]);
    assert_eq!(server.got()[0].header("accept-encoding"), ["identity"]);
}

#[tokio::test]
async fn only_where_it_was_granted() {
    let server = Server::start(|_| ok("", "")).await;
    let other = Server::start(|_| ok("", "")).await;
    let guest = guest(&server);
    let with = |url: String, header: &str, value: &str| with_headers(get(&url), &[(header, value)]);
    let fill = "{{secret:FILL}}";
    is_denied(
        guest.send(with(other.url("/"), "authorization", fill)).await,
        "secret 'FILL' may not be filled into header 'authorization'",
    );
    is_denied(
        guest.send(with(format!("http://other.test:{}/", server.port()), "authorization", fill)).await,
        &format!("'other.test:{}'", server.port()),
    );
    is_denied(guest.send(with(server.url("/"), "x-other", fill)).await, "header 'x-other'");
    is_denied(guest.send(with(server.url("/"), "cookie", "a={{secret:FILL}}")).await, "header 'cookie'");
    is_denied(guest.send(with(server.url("/"), "authorization", "{{secret:OTHER}}")).await, "secret 'OTHER'");
    for value in [
        "{{secret:",
        "{{secret:FILL",
        "{{secret:FILL}",
        "a {{secret:}} b",
        "{{secret:{{secret:FILL}}}}",
        "{{secret:A\nB}}",
    ] {
        is_invalid(guest.send(with(server.url("/"), "authorization", value)).await, "header 'authorization' has");
    }
    assert_eq!((server.accepted(), other.accepted()), (0, 0));
    for (header, value, sent) in [
        ("AUTHORIZATION", "a{{secret:FILL}}b{{secret:FILL}}c", format!("a{VALUE}b{VALUE}c")),
        ("X-Token", fill, VALUE.to_owned()),
    ] {
        guest.send(with(server.url("/"), header, value)).await.expect("granted");
        assert_eq!(server.got().pop().expect("got").header(header), [sent]);
    }
}

#[tokio::test]
async fn nowhere_but_in_headers_values() {
    let server = Server::start(|_| ok("", "")).await;
    let guest = guest(&server);
    guest
        .send(post(&server.url("/{{secret:FILL}}?q={{secret:FILL}}"), "{{secret:FILL}}"))
        .await
        .expect("sent as it is");
    let got = &server.got()[0];
    assert!(!got.head.contains("s3cr") && got.body == "{{secret:FILL}}", "{got:?}");
    is_invalid(guest.send(with_headers(get(&server.url("/")), &[("{{secret:FILL}}", "x")])).await, "no header's name");
    is_invalid(guest.get("http://{{secret:FILL}}/").await, "URL");
}

#[tokio::test]
async fn what_cannot_be_hidden_is_not_filled_in() {
    let server = Server::start(|_| ok("", "")).await;
    let guest = guest(&server);
    let with = |value: &str| with_headers(get(&server.url("/")), &[("authorization", value)]);
    is_other(guest.send(with("{{secret:SHORT}}")).await, "less than 4 bytes");
    match guest.send(with("{{secret:BROKEN}}")).await {
        Err(Error::Other(why)) => assert!(!why.contains("line one") && why.contains("no header may have"), "{why}"),
        other => panic!("{other:?}"),
    }
    match guest.send(with("{{secret:GONE}}")).await {
        Err(Error::NotFound(why)) => assert!(why.contains("'GONE'"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.accepted(), 0);
}

/// A guest could put a value together again from pieces, or unpack it itself.
#[tokio::test]
async fn answers_do_not_come_in_pieces_or_disguise() {
    let server = Server::start(|got| match got.first_line() {
        "GET /transfer HTTP/1.1" => {
            Reply::Send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nzz\r\n0\r\n\r\n".to_vec())
        }
        "GET /chunked HTTP/1.1" => Reply::Send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\ncontent-encoding: identity\r\n\r\n2\r\nok\r\n0\r\n\r\n"
                .to_vec(),
        ),
        _ => ok("content-encoding: identity\r\ncontent-encoding: gzip\r\n", "packed"),
    })
    .await;
    let guest = guest(&server);
    for header in ["accept-encoding", "Range", "if-range", "accept-charset"] {
        is_invalid(
            guest.send(with_headers(get(&server.url("/")), &[(header, "x")])).await,
            "the host fills in a secret",
        );
    }
    assert_eq!(server.accepted(), 0);
    is_other(guest.send(filled(&server.url("/"))).await, "could not be redacted");
    is_other(guest.get(&server.url("/")).await, "could not be redacted");
    is_other(guest.get(&server.url("/transfer")).await, "could not be redacted");
    assert_eq!(text(&guest.get(&server.url("/chunked")).await.expect("plain")), "ok");
    // Elsewhere nothing is filled in, so nothing has to be hidden.
    let elsewhere = Server::start(|_| ok("content-encoding: gzip\r\n", "packed")).await;
    let request = with_headers(get(&elsewhere.url("/")), &[("accept-encoding", "gzip"), ("range", "bytes=0-")]);
    assert_eq!(text(&guest.send(request).await.expect("an answer")), "packed");
}

#[tokio::test]
async fn a_later_answer_is_redacted_too() {
    let kept: Arc<Mutex<String>> = Arc::default();
    let server = Server::start(move |got| {
        if let Some(value) = got.header("authorization").first() {
            (*value).clone_into(&mut kept.lock());
        }
        ok("", &kept.lock())
    })
    .await;
    let guest = guest(&server);
    guest.send(filled(&server.url("/store"))).await.expect("stored");
    let answer = guest.get(&server.url("/fetch")).await.expect("fetched");
    no_trace(&answer);
    assert_eq!(text(&answer), "Bearer [secret:FILL]");
}

#[tokio::test]
async fn errors_hold_no_secret() {
    let guest = Guest::with(&json!({"http": {"hosts": ["*:*"]}, "secrets": {"names": ["READ"]}}))
        .knowing(&[("READ", "hunter2000")]);
    match guest.get("http://hunter2000.test/").await {
        Err(Error::Unavailable(why)) => assert_eq!(why, "no address was found for '[secret:READ].test'"),
        other => panic!("{other:?}"),
    }
}
