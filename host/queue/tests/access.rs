//! Who may connect, and how each proves it: with real servers, keys and certificates made for each test.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD as BASE64};
use caisson_core::ports::contract::make;
use caisson_core::ports::{EventSink, Ready, Said, TaskQueue};
use caisson_queue::jetstream::{Error, EventPublisher, JetStreamQueue, Options, Tls};
use caisson_test_servers::nats::{self, NatsServer};
use futures_util::StreamExt;
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair as TlsKey};
use serde_json::{Value, json};
use support::{Wall, connect, options, soon, step, take};
use tempfile::TempDir;

async fn refused(options: Options) -> String {
    match JetStreamQueue::connect(options, Arc::new(Wall)).await {
        Ok(_) => panic!("it must be refused"),
        Err(error @ (Error::Connect { .. } | Error::File { .. } | Error::Address { .. })) => error.to_string(),
        Err(error) => panic!("another refusal: {error}"),
    }
}

/// A step goes out and comes back.
async fn works(options: Options) {
    static DISPATCH: AtomicU32 = AtomicU32::new(1);
    let queue = connect(options).await;
    // Another one each time, or the server takes it for a repetition.
    let ready = Ready { dispatch: DISPATCH.fetch_add(1, Ordering::Relaxed), ..step(0) };
    queue.publish(vec![ready.clone()], false);
    assert_eq!(soon(take(&queue)).await, ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token() {
    let server = NatsServer::start_with(nats::Options { token: Some("t0p".to_owned()), ..nats::Options::default() });
    let with = |token: &str| Options { token: Some(token.to_owned()), ..options(&server) };
    works(with("t0p")).await;
    works(Options::new(format!("nats://t0p@127.0.0.1:{}", server.port()), "test")).await;
    for wrong in [with("guess"), options(&server)] {
        let error = refused(wrong).await;
        assert!(error.contains("authorization"), "{error}");
        assert!(!error.contains("guess"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_a_password_in_the_address() {
    let config = "authorization { user: ann, password: \"s3cret@:/\" }".to_owned();
    let server = NatsServer::start_with(nats::Options { config, ..nats::Options::default() });
    let with = |who: &str| Options::new(format!("nats://{who}@127.0.0.1:{}", server.port()), "test");
    works(with("ann:s3cret%40%3A%2F")).await;
    let error = refused(with("ann:wr0ng")).await;
    assert!(!error.contains("wr0ng") && error.contains(&format!("127.0.0.1:{}", server.port())), "{error}");
    let error = refused(Options::new("nats://ann:wr0ng@host:port", "test")).await;
    assert!(!error.contains("wr0ng"), "{error}");
}

/// A JWT as NATS has them.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, claims: &Value) -> String {
    let header = BASE64.encode(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let body = json!({
        "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(), "name": name,
        "nats": claims,
    });
    let signed = format!("{header}.{}", BASE64.encode(body.to_string()));
    let signature = issuer.sign(signed.as_bytes()).expect("signs");
    format!("{signed}.{}", BASE64.encode(signature))
}

fn account(operator: &KeyPair, account: &KeyPair, name: &str, disk_bytes: i64) -> String {
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "disk_storage": disk_bytes, "mem_storage": 0, "streams": -1, "consumer": -1,
    });
    jwt(operator, account, name, &json!({ "type": "account", "version": 2, "limits": limits }))
}

fn credentials(dir: &TempDir, account: &KeyPair, user: &KeyPair) -> PathBuf {
    let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let token = jwt(account, user, "host", &claims);
    let seed = user.seed().expect("has a seed");
    let path = dir.path().join("host.creds");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&path, text).expect("is written");
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (operator, system, ours) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account());
    let config = format!(
        "operator: {}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {}, {}: {} }}",
        jwt(&operator, &operator, "operator", &json!({ "type": "operator", "version": 2 })),
        system.public_key(),
        system.public_key(),
        account(&operator, &system, "SYS", 0),
        ours.public_key(),
        account(&operator, &ours, "ours", 4 << 30),
    );
    let server = NatsServer::start_with(nats::Options { config, ..nats::Options::default() });
    let with = |path: PathBuf| Options { credentials: Some(path), ..options(&server) };
    works(with(credentials(&dir, &ours, &KeyPair::new_user()))).await;
    let error = refused(options(&server)).await;
    assert!(error.contains("authorization"), "{error}");
    let stranger = KeyPair::new_account();
    let error = refused(with(credentials(&dir, &stranger, &KeyPair::new_user()))).await;
    assert!(error.contains("authorization"), "{error}");
    let error = refused(with("/nowhere/host.creds".into())).await;
    assert!(error.contains("read the NATS credentials /nowhere/host.creds"), "{error}");
}

/// A certificate authority and what it signed, as files.
struct Certificates {
    dir: TempDir,
    issuer: Issuer<'static, TlsKey>,
}

impl Certificates {
    fn new() -> Self {
        let key = TlsKey::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signs itself");
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", certificate.der())).expect("is written");
        Self { dir, issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for this name, and its key.
    fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = TlsKey::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let certificate = params.signed_by(&key, &self.issuer).expect("is signed");
        let paths = (self.dir.path().join(format!("{name}.pem")), self.dir.path().join(format!("{name}.key")));
        std::fs::write(&paths.0, pem("CERTIFICATE", certificate.der())).expect("is written");
        std::fs::write(&paths.1, pem("PRIVATE KEY", &key.serialize_der())).expect("is written");
        paths
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", STANDARD.encode(der))
}

fn tls_server(authority: &Certificates, clients: Option<&Path>) -> NatsServer {
    let (certificate, key) = authority.issue("127.0.0.1");
    let verify = clients.map(|ca| format!("ca_file: \"{}\", verify: true", ca.display())).unwrap_or_default();
    let config =
        format!("tls {{ cert_file: \"{}\", key_file: \"{}\", {verify} }}", certificate.display(), key.display());
    NatsServer::start_with(nats::Options { config, ..nats::Options::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_known_by_its_authority() {
    let (ours, foreign) = (Certificates::new(), Certificates::new());
    let server = tls_server(&ours, None);
    let trusting =
        |ca: PathBuf| Options { tls: Tls { required: true, ca: Some(ca), certificate: None }, ..options(&server) };
    works(trusting(ours.ca())).await;
    let by_address = Options { urls: vec![format!("tls://127.0.0.1:{}", server.port())], ..trusting(ours.ca()) };
    works(by_address).await;
    let error = refused(trusting(foreign.ca())).await;
    assert!(error.contains("UnknownIssuer") || error.contains("certificate"), "{error}");
    let error = refused(trusting("/nowhere/ca.pem".into())).await;
    assert!(error.contains("read the NATS root certificates /nowhere/ca.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_known_by_its_certificate() {
    let (ours, foreign) = (Certificates::new(), Certificates::new());
    let server = tls_server(&ours, Some(&ours.ca()));
    let with =
        |certificate| Options { tls: Tls { required: true, ca: Some(ours.ca()), certificate }, ..options(&server) };
    works(with(Some(ours.issue("host")))).await;
    refused(with(None)).await;
    refused(with(Some(foreign.issue("host")))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_where_tls_is_asked_for() {
    let server = NatsServer::new();
    refused(Options { tls: Tls { required: true, ..Tls::default() }, ..options(&server) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_jetstream_says_what_is_missing() {
    let config = "jetstream: false".to_owned();
    let server = NatsServer::start_with(nats::Options { config, ..nats::Options::default() });
    let Err(error) = JetStreamQueue::connect(options(&server), Arc::new(Wall)).await else {
        panic!("it must be refused")
    };
    assert!(matches!(error, Error::JetStream { .. }), "{error}");
}

/// What `docs/nats.md` says a host needs, and no more.
const PUBLISH: &[&str] = &[
    "wf.task.>",
    "wf.event.>",
    "wf.live.>",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.CREATE.*",
    "$JS.API.CONSUMER.INFO.WORKFLOW_TASKS.hosts",
    "$JS.API.CONSUMER.CREATE.WORKFLOW_TASKS.hosts",
    "$JS.API.CONSUMER.MSG.NEXT.WORKFLOW_TASKS.hosts",
    "$JS.ACK.WORKFLOW_TASKS.hosts.>",
];
const SUBSCRIBE: &[&str] = &["_INBOX.>", "wf.event.run.*", "wf.event.agent.*", "wf.live.*"];

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_no_more_rights_than_the_page_about_nats_names() {
    let page = include_str!("../../../docs/nats.md");
    for subject in PUBLISH.iter().chain(SUBSCRIBE) {
        assert!(page.contains(&format!("`{subject}`")), "{subject} is not on the page");
    }
    let config = format!(
        "authorization {{ users: [ {{ user: host, password: pw, permissions: {{ publish: {}, subscribe: {} }} }} ] }}",
        json!(PUBLISH),
        json!(SUBSCRIBE),
    );
    let server = NatsServer::start_with(nats::Options { config, ..nats::Options::default() });
    let address = || Options::new(format!("nats://host:pw@127.0.0.1:{}", server.port()), "test");
    works(address()).await;
    let (a, b) = (connect(address()).await, connect(address()).await);
    let (a, b) = (EventPublisher::new(&a, "a"), EventPublisher::new(&b, "b"));
    let mut news = a.subscribe().await.expect("is subscribed");
    let mut of_agents = a.subscribe_sessions().await.expect("is subscribed");
    let mut said = a.subscribe_said(|_| true).await.expect("is subscribed");
    let mut run = make::run("r1", 1_000);
    let events = make::commit(&mut run, 1, 1_000).events;
    b.committed(&run, &events, &[]);
    b.session(&make::session(&run, "s", 1_000));
    b.said(&run.id, &Said::Emitted(Box::new(make::emitted(&run, "e", "order.paid", 1_000))));
    assert_eq!(soon(news.next()).await.expect("lasts").run, run.id);
    assert_eq!(soon(of_agents.next()).await.expect("lasts").run, run.id);
    assert_eq!(soon(said.next()).await.expect("lasts").0, run.id);
    soon(b.close()).await;
    assert_eq!(b.dropped(), 0);
}
