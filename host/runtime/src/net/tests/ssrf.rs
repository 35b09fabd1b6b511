use super::*;

/// Every way to write an address that a plugin must not reach. Each is denied before anything is dialled: a refused connection would be
/// `unavailable`.
#[tokio::test]
async fn private_addresses_are_denied_however_they_are_written() {
    let hosts = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0X7F.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "0.0.0.0.",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[fd00:ec2::254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::1]",
        "169.254.170.2",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "10.0.0.1",
        "10.1",
        "0x0a000001",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "3232235777",
        "100.64.0.1",
        "198.18.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        // What the URL standard makes of other scripts and of escapes.
        "１２７.０.０.１",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "%31%32%37.0.0.1",
        "0x7f。1",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "ⓛocalhost",
        "local%68ost",
    ];
    let guest = Guest::with(&json!(["http:*:*"])).naming(&[("localhost", &[&["127.0.0.1", "::1"]])]);
    for host in hosts {
        for url in
            [format!("http://{host}/latest/meta-data/"), format!("https://{host}:8443/"), format!("http:\\\\{host}\\")]
        {
            match guest.get(&url).await {
                Err(Error::Denied(why)) => assert!(why.contains("a private address"), "{url}: {why}"),
                other => panic!("{url}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn urls_that_are_none_or_say_too_much_are_refused() {
    let guest = Guest::with(&json!(["http"]));
    let cases = [
        ("", "does not read"),
        ("/path", "does not read"),
        ("//a.example/", "does not read"),
        ("http://", "does not read"),
        ("http:// /", "does not read"),
        ("http://a b/", "does not read"),
        ("http://[::1", "does not read"),
        ("http://[fe80::1%25eth0]/", "does not read"),
        ("http://256.256.256.256/", "does not read"),
        ("http://1.2.3.4.5/", "does not read"),
        ("http://a.example:99999/", "does not read"),
        ("http://a.example:0/", "port"),
        ("http://user@a.example/", "user name"),
        ("http://user:word@a.example/", "user name"),
        ("http://:word@a.example/", "user name"),
        ("http://a.example@127.0.0.1/", "user name"),
        ("http://a.example%2f@127.0.0.1/", "user name"),
        ("ftp://a.example/", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("file://a.example/etc/passwd", "scheme"),
        ("gopher://127.0.0.1:6379/_x", "scheme"),
        ("data:text/plain,x", "scheme"),
        ("javascript:alert(1)", "scheme"),
        ("unix:/var/run/docker.sock", "scheme"),
        ("ws://a.example/", "scheme"),
        ("http://a..example/", "name"),
        ("http://a.example../", "name"),
        ("http://.a.example/", "name"),
        ("http://a.{b}.example/", "name"),
        ("http://a!b.example/", "name"),
    ];
    for (url, part) in cases {
        match guest.get(url).await {
            Err(Error::Invalid(why)) => assert!(why.contains(part), "{url}: {why}"),
            other => panic!("{url}: {other:?}"),
        }
    }
    is_invalid(guest.get(&format!("http://{}.example/", "a".repeat(64))).await, "name");
    is_invalid(guest.get(&format!("http://{}/", vec!["abcdefg"; 40].join("."))).await, "name");
    is_invalid(guest.get(&format!("http://a.example/{}", "x".repeat(9000))).await, "bytes");
}

#[tokio::test]
async fn only_granted_hosts_ports_schemes_and_methods() {
    let server = Server::start(|_| ok("", "in")).await;
    let port = server.port();
    let grants = json!({"http": {"hosts": [format!("http://api.test:{port}"), format!("*.sub.test:{port}")], "methods": ["GET"], "private": ["127.0.0.1/32"]}});
    let all: &[&[&str]] = &[&["127.0.0.1"]];
    let names = ["api.test", "x.sub.test", "sub.test", "other.test", "xn--pi-kia.test"].map(|name| (name, all));
    let guest = Guest::with(&grants).naming(&names);
    for url in [
        format!("http://api.test:{port}/"),
        format!("http://API.test.:{port}/"),
        format!("http://api。test:{port}/"),
        format!("http://x.sub.test:{port}"),
    ] {
        assert_eq!(text(&guest.get(&url).await.expect(&url)), "in");
    }
    for url in [
        format!("https://api.test:{port}/"),
        "http://api.test/".to_owned(),
        format!("http://api.test:{}/", port ^ 1),
        format!("http://sub.test:{port}/"),
        format!("http://other.test:{port}/"),
        format!("http://àpi.test:{port}/"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://api.test.other.test:{port}/"),
    ] {
        is_denied(guest.get(&url).await, "\"http:");
    }
    is_denied(guest.send(post(&format!("http://api.test:{port}/"), "x")).await, "method POST");
    let got = server.got();
    assert_eq!(got.len(), 4);
    for got in got {
        assert!(got.header("host")[0].ends_with(&format!(".test:{port}")), "{got:?}");
    }
}

#[tokio::test]
async fn nothing_goes_out_without_a_grant() {
    let server = Server::start(|_| ok("", "in")).await;
    let http = json!([format!("http:{}", server.address)]);
    for (asks, grants, part) in [
        (json!([]), http.clone(), "caisson-plugin.toml"),
        (http.clone(), json!([]), "caisson plugin grant mail"),
        (json!(["kv"]), json!(["kv"]), "not asked for"),
    ] {
        is_denied(Guest::asking(&asks, &grants).get(&server.url("/")).await, part);
    }
    // A manifest's own word on private ranges counts for nothing.
    let asks = json!({"http": {"private": ["127.0.0.0/8"]}});
    is_denied(Guest::asking(&asks, &json!(["http:*:*"])).get(&server.url("/")).await, "private address");
    assert_eq!(server.accepted(), 0);
}

#[tokio::test]
async fn a_name_is_worth_its_addresses() {
    let inner = Server::start_at(SocketAddr::new(LOCAL_2, 0), None, |_| ok("", "inner")).await;
    let port = inner.port();
    let outer = Server::start_at(SocketAddr::new(LOCAL, port), None, |_| ok("", "outer")).await;
    let grants = json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.1/32"]}});
    let guest = Guest::with(&grants).naming(&[
        ("loop.test", &[&["127.0.0.2"]]),
        ("loop6.test", &[&["::1"]]),
        ("mapped.test", &[&["::ffff:127.0.0.2"]]),
        ("meta.test", &[&["169.254.169.254"]]),
        ("many.test", &[&["10.0.0.1", "192.168.0.1", "::1"]]),
        ("mixed.test", &[&["127.0.0.2", "10.0.0.1", "127.0.0.1"]]),
        ("none.test", &[&[]]),
    ]);
    let at = |name: &str| format!("http://{name}:{port}/");
    for name in ["loop.test", "loop6.test", "mapped.test", "meta.test", "many.test"] {
        is_denied(guest.get(&at(name)).await, "private address");
    }
    // Of several, only those that are allowed are dialled.
    for _ in 0..4 {
        assert_eq!(text(&guest.get(&at("mixed.test")).await.expect("one address will do")), "outer");
    }
    is_unavailable(guest.get(&at("none.test")).await, "no address was found for 'none.test'");
    is_unavailable(guest.get(&at("unknown.test")).await, "no address was found for 'unknown.test'");
    assert_eq!((inner.accepted(), outer.got().len()), (0, 4));
}

/// The name points elsewhere the next time it is looked up: what was checked is what is dialled, and nobody looks twice.
#[tokio::test]
async fn a_name_that_changes_between_check_and_dial_gains_nothing() {
    let inner = Server::start_at(SocketAddr::new(LOCAL_2, 0), None, |_| ok("", "inner")).await;
    let port = inner.port();
    let outer = Server::start_at(SocketAddr::new(LOCAL, port), None, |_| ok("", "outer")).await;
    let grants = json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.1/32"]}});
    let guest = Guest::with(&grants)
        .naming(&[("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]])]);
    let url = format!("http://rebind.test:{port}/");
    assert_eq!(text(&guest.get(&url).await.expect("the first answer is allowed")), "outer");
    assert_eq!(guest.names.asked().len(), 1, "one lookup for one request");
    // There is a connection that could be used again, but not to an address that the name has now.
    is_denied(guest.get(&url).await, "private address");
    assert_eq!(text(&guest.get(&url).await.expect("the third answer is allowed")), "outer");
    is_denied(guest.get(&url).await, "private address");
    assert_eq!(guest.names.asked().len(), 4);
    assert_eq!((inner.accepted(), outer.got().len(), outer.accepted()), (0, 2, 1));
}

#[tokio::test]
async fn localhost_is_this_machine_where_it_is_granted() {
    let server = Server::start(|_| ok("", "in")).await;
    let port = server.port();
    let url = format!("http://localhost:{port}/");
    let grants = json!([format!("http:localhost:{port}")]);
    let here = Guest::with(&grants).naming(&[("localhost", &[&["127.0.0.1"]])]);
    assert_eq!(text(&here.get(&url).await.expect("granted")), "in");
    let elsewhere = Guest::with(&grants).naming(&[("localhost", &[&["10.0.0.1"]])]);
    is_denied(elsewhere.get(&url).await, "private address");
    is_denied(here.get(&server.url("/")).await, "http:127.0.0.1");
}
