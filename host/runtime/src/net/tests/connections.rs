use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;

#[tokio::test]
async fn a_connection_serves_several_requests_of_one_owner() {
    let server = Server::start(|_| ok("", "x")).await;
    let guest = Guest::of(&server);
    for _ in 0..5 {
        guest.get(&server.url("/")).await.expect("an answer");
    }
    assert_eq!((server.accepted(), server.got().len()), (1, 5));
    // Another realm, another version and another policy have their own.
    let with = |change: fn(&mut Guest)| {
        let mut other = Guest::of(&server);
        other.clients = Arc::clone(&guest.clients);
        change(&mut other);
        other
    };
    with(|other| other.realm = Realm::new("other", "default")).get(&server.url("/")).await.expect("an answer");
    assert_eq!(server.accepted(), 2);
    with(|other| other.realm = Realm::new("tenant", "other")).get(&server.url("/")).await.expect("an answer");
    assert_eq!(server.accepted(), 3);
    let version = |other: &mut Guest| {
        let mut package = other.effective.package().clone();
        package.digest = "d2".to_owned();
        let grants = package.asks.clone();
        other.effective = Effective::new(Arc::new(package), Arc::new(grants), None);
    };
    with(version).get(&server.url("/")).await.expect("an answer");
    assert_eq!(server.accepted(), 4);
    with(|_| {}).get(&server.url("/")).await.expect("an answer");
    assert_eq!(server.accepted(), 4);
}

#[tokio::test]
async fn a_grant_that_is_taken_back_counts_at_once() {
    let server = Server::start(|_| ok("", "x")).await;
    let port = server.port();
    let url = format!("http://api.test:{port}/");
    let names: &[(&str, &[&[&str]])] = &[("api.test", &[&["127.0.0.1"]])];
    let guest = Guest::with(&json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.1/32"]}})).naming(names);
    guest.get(&url).await.expect("granted");
    let mut without = Guest::with(&json!(["http:*:*"])).naming(names);
    without.clients = Arc::clone(&guest.clients);
    is_denied(without.get(&url).await, "private address");
    assert_eq!(server.got().len(), 1);
}

/// Servers close what is idle whenever they like.
#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    for close in [
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx".to_vec(),
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx".to_vec(),
    ] {
        let server = Server::start(move |_| Reply::Close(close.clone())).await;
        let guest = Guest::of(&server);
        for _ in 0..20 {
            assert_eq!(text(&guest.send(post(&server.url("/"), "said")).await.expect("an answer")), "x");
        }
        assert_eq!((server.got().len(), server.accepted()), (20, 20));
    }
}

/// Answers that nobody asked for do not become the next request's.
#[tokio::test]
async fn what_follows_an_answer_is_thrown_away() {
    let server = Server::start(|_| {
        Reply::Send(
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"
                .to_vec(),
        )
    })
    .await;
    let guest = Guest::of(&server);
    for _ in 0..10 {
        assert_eq!(text(&guest.get(&server.url("/")).await.expect("an answer")), "x");
    }
}

#[tokio::test]
async fn the_first_address_that_answers_is_taken() {
    let server = Server::start(|_| ok("", "x")).await;
    let grants = json!({"http": {"hosts": ["*:*"], "private": ["127.0.0.0/8"]}});
    let guest = Guest::with(&grants).naming(&[("api.test", &[&["127.0.0.3", "127.0.0.2", "127.0.0.1"]])]);
    let answer = guest.get(&format!("http://api.test:{}/", server.port())).await.expect("the third answers");
    assert_eq!(text(&answer), "x");
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn acceptor(&self, names: &[&str]) -> tokio_rustls::TlsAcceptor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(names).expect("parameters").signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("a server's TLS");
        Arc::new(config).into()
    }

    fn clients(&self) -> Arc<Clients> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(Clients::trusting(config))
    }
}

#[tokio::test]
async fn certificates_are_checked_against_the_name_and_not_the_address() {
    let authority = Authority::new();
    let at = SocketAddr::new(LOCAL, 0);
    let server = Server::start_at(at, Some(authority.acceptor(&["api.test", "127.0.0.1"])), |_| ok("", "in")).await;
    let port = server.port();
    let grants = json!({"http": {"hosts": ["*:*", format!("127.0.0.1:{port}")], "private": ["127.0.0.1/32"]}});
    let names: &[(&str, &[&[&str]])] = &[("api.test", &[&["127.0.0.1"]]), ("other.test", &[&["127.0.0.1"]])];
    let mut guest = Guest::with(&grants).naming(names);
    guest.clients = authority.clients();
    let url = |host: &str| format!("https://{host}:{port}/");
    for _ in 0..2 {
        for host in ["api.test", "API.test.", "127.0.0.1"] {
            assert_eq!(text(&guest.get(&url(host)).await.expect(host)), "in");
        }
    }
    assert_eq!(server.accepted(), 2, "one connection for each host");
    is_unavailable(guest.get(&url("other.test")).await, "'other.test' failed: its certificate is for other names");
    // Somebody else's authority.
    guest.clients = Authority::new().clients();
    is_unavailable(guest.get(&url("api.test")).await, "TLS with 'api.test' failed: its certificate is");
    // The system's: it does not know ours.
    guest.clients = Arc::default();
    is_unavailable(guest.get(&url("api.test")).await, "TLS");
    // No TLS at the other end.
    let plain = TcpListener::bind(at).await.expect("binds");
    let port = plain.local_addr().expect("address").port();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.expect("a client");
        stream.write_all(b"HTTP/1.1 400 Plain\r\n\r\n").await.expect("sent");
    });
    guest.clients = authority.clients();
    is_unavailable(guest.get(&format!("https://api.test:{port}/")).await, "does not speak TLS");
    assert_eq!(server.got().len(), 6);
}
