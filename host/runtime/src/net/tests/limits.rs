use super::*;

fn limited(server: &Server, restrictions: &Value) -> Guest {
    let mut http = json!({"hosts": [server.address.to_string()]});
    for (name, value) in restrictions.as_object().expect("an object") {
        http[name] = value.clone();
    }
    Guest::with(&json!({"http": http}))
}

#[tokio::test]
async fn bodies_of_answers_are_bounded() {
    let server = Server::start(|got| match got.first_line().split(' ').nth(1) {
        Some("/1000") => ok("", &"x".repeat(1000)),
        Some("/1001") => ok("", &"x".repeat(1001)),
        Some("/said") => Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec()),
        Some("/chunks") => Reply::Close(
            format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1f4\r\n{0}\r\n1f4\r\n{0}\r\n0\r\n\r\n",
                "x".repeat(500)
            )
            .into(),
        ),
        Some("/close") => Reply::Close(format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(1001)).into()),
        _ => Reply::Flood,
    })
    .await;
    let guest = limited(&server, &json!({"maxResponseBytes": 1000}));
    for path in ["/1000", "/chunks"] {
        assert_eq!(guest.get(&server.url(path)).await.expect("just fits").body.len(), 1000);
    }
    for path in ["/1001", "/said", "/close", "/flood"] {
        assert!(matches!(guest.get(&server.url(path)).await, Err(Error::TooLarge(1000))), "{path}");
    }
    // Not the body of a redirect that nobody reads, nor one that is only announced.
    let head = Request { method: "HEAD".to_owned(), ..get(&server.url("/1001")) };
    let server = Server::start(|_| Reply::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_vec())).await;
    let head = Request { url: server.url("/"), ..head };
    let answer = limited(&server, &json!({"maxResponseBytes": 1000})).send(head).await.expect("a head");
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn bodies_of_requests_are_bounded() {
    let server = Server::start(|_| ok("", "")).await;
    let guest = limited(&server, &json!({"maxRequestBytes": 10}));
    guest.send(post(&server.url("/"), &"x".repeat(10))).await.expect("just fits");
    assert!(matches!(guest.send(post(&server.url("/"), &"x".repeat(11))).await, Err(Error::TooLarge(10))));
    assert_eq!(server.got().len(), 1);
}

#[tokio::test]
async fn headers_of_answers_are_bounded() {
    let server = Server::start(|got| {
        let headers = match got.first_line().split(' ').nth(1) {
            Some("/many") => (0..200).fold(String::new(), |all, n| all + &format!("x-{n}: y\r\n")),
            _ => format!("x-long: {}\r\n", "y".repeat(500_000)),
        };
        ok(&headers, "")
    })
    .await;
    // By name, so that the errors can be seen to hold no address.
    let url = |path: &str| format!("http://api.test:{}{path}", server.port());
    let grants = json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.1/32"]}});
    let guest = Guest::with(&grants).naming(&[("api.test", &[&["127.0.0.1"]])]);
    is_unavailable(guest.get(&url("/many")).await, "lines of headers");
    is_unavailable(guest.get(&url("/long")).await, "of headers");
}

#[tokio::test]
async fn whoever_is_slow_is_left() {
    let server = Server::start(|got| match got.first_line().split(' ').nth(1) {
        Some("/silent") => Reply::Stall(Vec::new()),
        Some("/head") => Reply::Stall(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec()),
        Some("/body") => Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()),
        Some("/hop") => redirect(302, "/silent"),
        _ => Reply::Stall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na".to_vec()),
    })
    .await;
    let guest = Guest::of(&server);
    for path in ["/silent", "/head", "/body", "/hop", "/chunk"] {
        let request = Request { timeout_ms: Some(100), ..get(&server.url(path)) };
        assert!(matches!(guest.send(request).await, Err(Error::Timeout)), "{path}");
    }
    // The operator's word bounds the guest's.
    let granted = limited(&server, &json!({"timeoutMs": 100}));
    for asked in [None, Some(60_000)] {
        let request = Request { timeout_ms: asked, ..get(&server.url("/body")) };
        assert!(matches!(granted.send(request).await, Err(Error::Timeout)));
    }
    let now = Request { timeout_ms: Some(0), ..get(&server.url("/body")) };
    assert!(matches!(guest.send(now).await, Err(Error::Timeout)));
}

#[tokio::test]
async fn a_name_that_is_not_found_in_time_is_left() {
    struct Never;
    #[async_trait]
    impl Resolver for Never {
        async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            std::future::pending().await
        }
    }
    let guest = Guest::with(&json!(["http"]));
    let request = Request { timeout_ms: Some(50), ..get("http://slow.test/") };
    let outgoing = Outgoing::new(&guest.effective, &request, Bytes::new()).expect("granted");
    let caller = Caller {
        realm: &guest.realm,
        effective: &guest.effective,
        redactor: &guest.redactor,
        resolver: &Never,
        idempotency_key: "",
    };
    assert!(matches!(guest.clients.send(&caller, outgoing).await, Err(Error::Timeout)));
}

#[tokio::test]
async fn what_is_broken_is_said_without_addresses() {
    let server = Server::start(|got| match got.first_line().split(' ').nth(1) {
        Some("/ssh") => Reply::Close(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Some("/cut") => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec()),
        Some("/shut") => Reply::Close(Vec::new()),
        Some("/switch") => {
            Reply::Close(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".to_vec())
        }
        Some("/both") => Reply::Close(
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n".to_vec(),
        ),
        _ => Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_vec()),
    })
    .await;
    let free = TcpListener::bind((LOCAL, 0)).await.expect("binds").local_addr().expect("address").port();
    let grants = json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.0/8"]}});
    let guest = Guest::with(&grants).naming(&[("api.test", &[&["127.0.0.1"]])]);
    let url = |path: &str| format!("http://api.test:{}{path}", server.port());
    is_unavailable(guest.get(&url("/ssh")).await, "does not answer in HTTP");
    is_unavailable(guest.get(&url("/cut")).await, "before its answer was complete");
    is_unavailable(guest.get(&url("/shut")).await, "before its answer was complete");
    is_unavailable(guest.get(&url("/lengths")).await, "does not answer in HTTP");
    is_unavailable(guest.get(&format!("http://api.test:{free}/")).await, "'api.test' refuses the connection");
    assert!(guest.get(&url("/switch")).await.is_err());
    // Chunks count where both are said (RFC 9112); the connection is not used again.
    assert_eq!(text(&guest.get(&url("/both")).await.expect("an answer")), "ab");
}
