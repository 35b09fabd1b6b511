use super::*;

fn path(got: &Got) -> &str {
    got.first_line().split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn every_hop_is_checked() {
    let ungranted = Server::start(|_| ok("", "ungranted")).await;
    let other = ungranted.url("/");
    let hops = [
        ("/meta", "http://169.254.169.254/latest/".to_owned(), "\"http:169.254.169.254\""),
        ("/decimal", "http://2852039166/".to_owned(), "\"http:169.254.169.254\""),
        ("/mapped", "http://[::ffff:127.0.0.1]/".to_owned(), "\"http:[::ffff:127.0.0.1]\""),
        ("/other", other, "\"http:127.0.0.1:"),
        ("/tls", "https://127.0.0.1/".to_owned(), "\"http:127.0.0.1\""),
        ("/slashes", "//ungranted.test/".to_owned(), "\"http:ungranted.test\""),
        ("/private", "http://inner.test/".to_owned(), "'inner.test' is at 10.0.0.1"),
        ("/late", "http://rebind.test/".to_owned(), "'rebind.test' is at 127.0.0.2"),
    ];
    let table: HashMap<String, String> = hops.iter().map(|(from, to, _)| ((*from).to_owned(), to.clone())).collect();
    let server = Server::start(move |got| redirect(302, &table[path(got)])).await;
    let grants = json!([format!("http:{}", server.address), "http:inner.test", "http:rebind.test"]);
    let guest = Guest::with(&grants).naming(&[("inner.test", &[&["10.0.0.1"]]), ("rebind.test", &[&["127.0.0.2"]])]);
    for (from, _, part) in &hops {
        is_denied(guest.get(&server.url(from)).await, part);
    }
    assert_eq!((server.got().len(), ungranted.accepted()), (hops.len(), 0));
}

#[tokio::test]
async fn redirects_to_what_is_no_url_are_refused() {
    let places = [
        "ftp://a.example/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "data:text/html,x",
        "gopher://127.0.0.1:6379/",
        "http://",
        "http://[::1",
        "http://user:word@127.0.0.1/",
        "http://a..b/",
    ];
    for place in places {
        let server = Server::start(move |_| redirect(301, place)).await;
        is_other(Guest::of(&server).get(&server.url("/")).await, "redirect");
    }
    let server = Server::start(|_| redirect(301, &format!("/{}", "x".repeat(9000)))).await;
    is_other(Guest::of(&server).get(&server.url("/")).await, "too long");
    let server = Server::start(|_| {
        Reply::Send(b"HTTP/1.1 301 x\r\nlocation: http://\xff\xfe/\r\ncontent-length: 0\r\n\r\n".to_vec())
    })
    .await;
    is_other(Guest::of(&server).get(&server.url("/")).await, "no URL");
    // One that says nothing is an answer.
    let server = Server::start(|_| Reply::Send(b"HTTP/1.1 301 x\r\ncontent-length: 2\r\n\r\nhm".to_vec())).await;
    let answer = Guest::of(&server).get(&server.url("/")).await.expect("an answer");
    assert_eq!((answer.status, text(&answer)), (301, "hm"));
    let server = Server::start(|_| Reply::Send(b"HTTP/1.1 304 x\r\nlocation: /x\r\n\r\n".to_vec())).await;
    assert_eq!(Guest::of(&server).get(&server.url("/")).await.expect("an answer").status, 304);
}

#[tokio::test]
async fn ten_redirects_are_followed_and_no_more() {
    let server = Server::start(|got| match path(got)[1..].split('?').next().map(str::parse::<u32>) {
        Some(Ok(0)) => ok("", "there"),
        Some(Ok(n)) => redirect(307, &format!("{}?from={n}#part", n - 1)),
        _ => redirect(302, "/loop"),
    })
    .await;
    let guest = Guest::of(&server);
    assert_eq!(text(&guest.get(&server.url("/10")).await.expect("ten are followed")), "there");
    assert_eq!(server.got().len(), 11);
    is_other(guest.get(&server.url("/11")).await, "more than 10 redirects");
    assert_eq!(server.got().len(), 22);
    is_other(guest.get(&server.url("/loop")).await, "more than 10 redirects");
    assert_eq!(server.got().len(), 33);
}

#[tokio::test]
async fn methods_and_bodies_follow_as_browsers_have_it() {
    // Status, method, and the method and body that arrive.
    let cases = [
        (301, "POST", "GET", ""),
        (302, "POST", "GET", ""),
        (303, "POST", "GET", ""),
        (303, "PUT", "GET", ""),
        (301, "PUT", "PUT", "said"),
        (307, "POST", "POST", "said"),
        (308, "POST", "POST", "said"),
        (303, "HEAD", "HEAD", ""),
        (302, "GET", "GET", ""),
    ];
    for (status, method, then, body) in cases {
        let server = Server::start(move |got| match path(got) {
            "/a/from" => redirect(status, "to?x=1#part"),
            _ => ok("", if got.first_line().starts_with("HEAD") { "" } else { "there" }),
        })
        .await;
        let mut request =
            with_headers(post(&server.url("/a/from"), "said"), &[("content-type", "text/plain"), ("x-kept", "1")]);
        request.method = method.to_owned();
        if matches!(method, "GET" | "HEAD") {
            request.body = None;
        }
        let answer = Guest::of(&server).send(request).await.expect("an answer");
        assert_eq!(answer.status, 200);
        let last = server.got().pop().expect("two requests");
        assert_eq!(last.first_line(), format!("{then} /a/to?x=1 HTTP/1.1"), "{status} {method}");
        assert_eq!(last.body, body, "{status} {method}");
        let typed = usize::from(!body.is_empty() || method == "GET" || method == "HEAD");
        assert_eq!(last.header("content-type").len(), typed, "{status} {method}");
        assert_eq!(last.header("x-kept"), ["1"]);
        assert_eq!(last.header("idempotency-key"), ["run:step:0:0"]);
    }
    let server = Server::start(|got| if path(got) == "/" { redirect(303, "/to") } else { ok("", "") }).await;
    let grants = json!({"http": {"hosts": [server.address.to_string()], "methods": ["POST"]}});
    is_denied(Guest::with(&grants).send(post(&server.url("/"), "x")).await, "method GET");
}

#[tokio::test]
async fn another_origin_gets_no_credentials() {
    let other = Server::start(|_| ok("", "other")).await;
    let there = other.url("/there");
    let server = Server::start(move |got| match path(got) {
        "/same" => redirect(307, "/end"),
        "/other" => redirect(307, &there),
        _ => ok("", "same"),
    })
    .await;
    let inject =
        json!({"secret": "FILL", "headers": ["authorization", "x-token"], "hosts": [server.address.to_string()]});
    let grants = json!({"http": {"hosts": [server.address.to_string(), other.address.to_string()]}, "secrets": {"names": ["READ"], "inject": [inject]}});
    let guest = Guest::with(&grants).knowing(&[("FILL", "filled-in-value"), ("READ", "read-by-guest")]);
    let headers = [
        ("authorization", "Bearer {{secret:FILL}}"),
        ("x-token", "{{secret:FILL}}"),
        ("cookie", "a=b"),
        ("x-read", "key read-by-guest"),
        ("x-plain", "1"),
    ];
    guest.send(with_headers(post(&server.url("/same"), "said"), &headers)).await.expect("the same origin");
    let same = server.got().pop().expect("got");
    assert_eq!(path(&same), "/end");
    assert_eq!(same.header("authorization"), ["Bearer filled-in-value"]);
    assert_eq!(same.header("x-token"), ["filled-in-value"]);
    assert_eq!(same.header("cookie"), ["a=b"]);

    let answer = guest.send(with_headers(post(&server.url("/other"), "said"), &headers)).await.expect("another origin");
    assert_eq!(text(&answer), "other");
    let there = other.got().pop().expect("got");
    assert_eq!((there.first_line(), &*there.body), ("POST /there HTTP/1.1", "said"));
    for name in ["authorization", "x-token", "cookie", "x-read"] {
        assert!(there.header(name).is_empty(), "{name}: {there:?}");
    }
    assert_eq!(there.header("x-plain"), ["1"]);
    assert_eq!(there.header("host"), [other.address.to_string()]);
    assert!(!there.head.contains("filled-in-value") && !there.head.contains("read-by-guest"));
}

#[tokio::test]
async fn what_was_dropped_does_not_come_back() {
    let ports: Arc<Mutex<Vec<String>>> = Arc::default();
    let back = Arc::clone(&ports);
    let other = Server::start(move |_| redirect(307, &back.lock()[0])).await;
    let there = other.url("/");
    let server =
        Server::start(move |got| if path(got) == "/end" { ok("", "end") } else { redirect(307, &there) }).await;
    ports.lock().push(server.url("/end"));
    let guest = Guest::with(&json!([format!("http:{}", server.address), format!("http:{}", other.address)]));
    guest.send(with_headers(get(&server.url("/")), &[("authorization", "Basic eA==")])).await.expect("an answer");
    let got = server.got();
    assert_eq!(got[0].header("authorization"), ["Basic eA=="]);
    assert!(got[1].header("authorization").is_empty());
}

#[tokio::test]
async fn a_redirect_carries_no_secret_away() {
    let server = Server::start(|got| redirect(302, &format!("/?leak={}", got.header("authorization")[0]))).await;
    let host = server.address.to_string();
    let grants = json!({"http": {"hosts": [host]}, "secrets": {"inject": [{"secret": "FILL", "hosts": [host]}]}});
    let guest = Guest::with(&grants).knowing(&[("FILL", "filled-in-value")]);
    let sent = guest.send(with_headers(get(&server.url("/")), &[("authorization", "{{secret:FILL}}")])).await;
    is_other(sent, "with the secret 'FILL'");
    assert_eq!(server.got().len(), 1);
}
