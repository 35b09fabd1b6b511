//! Outgoing HTTP through the journal.

use caisson_core::ports::{EntryKey, Journal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::bindings::caisson::step::http::{Host as _, Request};

use super::*;

/// Counts requests and says which one it was, and what it was authorized by.
async fn counter() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("address").to_string();
    let heads: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let said =
                head.lines().find_map(|line| line.strip_prefix("authorization: ")).unwrap_or("nobody").to_owned();
            let count = {
                let mut heads = seen.lock();
                heads.push(head);
                heads.len()
            };
            let body = format!("{count} for {said}");
            let reply = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            drop(stream.write_all(reply.as_bytes()).await);
        }
    });
    (address, heads)
}

fn request(address: &str, path: &str, value: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        url: format!("http://{address}{path}"),
        headers: vec![("authorization".to_owned(), value.to_owned())],
        body: None,
        timeout_ms: Some(20_000),
    }
}

#[tokio::test]
async fn a_recorded_call_is_not_sent_again_and_keeps_no_secret() {
    let (address, heads) = counter().await;
    let host = Host::new();
    let guest = Guest::with(json!({
        "http": {"hosts": [address], "maxRequests": 3},
        "secrets": {"inject": [{"secret": "FILL", "hosts": [address]}]},
    }));
    host.vault.set(&guest.realm, "FILL", "filled-in-value");
    let send = async |state: &mut State, path: &str| {
        answer(state.send(request(&address, path, "Bearer {{secret:FILL}}")).await)
            .map(|answer| String::from_utf8(answer.body).expect("text"))
    };
    let mut state = guest.enter(&host);
    assert_eq!(send(&mut state, "/a").await.expect("sent"), "1 for Bearer [secret:FILL]");
    assert_eq!(send(&mut state, "/b").await.expect("sent"), "2 for Bearer [secret:FILL]");
    // The host dies; the secret is changed; the entry is run again.
    host.vault.set(&guest.realm, "FILL", "a newer value");
    let mut state = guest.enter(&host);
    assert_eq!(send(&mut state, "/a").await.expect("recorded"), "1 for Bearer [secret:FILL]");
    assert_eq!(send(&mut state, "/b").await.expect("recorded"), "2 for Bearer [secret:FILL]");
    assert_eq!(heads.lock().len(), 2);
    assert_eq!(send(&mut state, "/c").await.expect("sent"), "3 for Bearer [secret:FILL]");
    assert!(matches!(send(&mut state, "/d").await, Err(Error::Quota(_))), "recorded requests count");
    let keys: Vec<String> = heads
        .lock()
        .iter()
        .map(|head| head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).expect("a key").to_owned())
        .collect();
    assert_eq!(keys, ["run-1:step-1:0:0", "run-1:step-1:0:1", "run-1:step-1:0:2"]);
    assert!(heads.lock()[2].contains("a newer value"));

    let entry = EntryKey { run: RunId::new("run-1"), step: 1, attempt: 1, entry: 0, claim: 1 };
    let records = host.journal.records(&entry).await.expect("reads");
    assert_eq!(records.len(), 3);
    for record in records {
        assert!(&*record.call == "http.send" && !record.answer.get().contains("value"), "{record:?}");
    }
    // Something else than before.
    let mut state = guest.enter(&host);
    let error = state.send(request(&address, "/other", "x")).await.expect_err("the guest ends");
    assert!(
        error.downcast_ref::<crate::journal::Ended>().is_some_and(|ended| ended.0.code == "JOURNAL_MISMATCH"),
        "{error:?}"
    );
}

#[tokio::test]
async fn bytes_and_errors_come_back_from_a_record_as_they_were() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut head = [0; 4096];
        let _ = stream.read(&mut head).await;
        drop(
            stream.write_all(b"HTTP/1.1 404 No\r\nx-a: 1\r\nx-a: 2\r\ncontent-length: 4\r\n\r\n\xff\x00\xfe\x80").await,
        );
        // From here on nobody listens.
    });
    let host = Host::new();
    let guest = Guest::with(json!([format!("http:{address}"), "http:10.0.0.9:1"]));
    let mut state = guest.enter(&host);
    let first = answer(state.send(request(&address, "/", "x")).await).expect("an answer");
    assert_eq!((first.status, &*first.body), (404, &b"\xff\x00\xfe\x80"[..]));
    let second = answer(state.send(request(&address, "/", "x")).await).expect_err("nobody listens");
    assert!(matches!(second, Error::Unavailable(_)), "{second:?}");
    let mut state = guest.enter(&host);
    let again = answer(state.send(request(&address, "/", "x")).await).expect("the same answer");
    assert_eq!((again.status, again.headers, again.body), (first.status, first.headers, first.body));
    let again = answer(state.send(request(&address, "/", "x")).await).expect_err("the same error");
    assert_eq!(format!("{again:?}"), format!("{second:?}"));
}

/// A cancelled step that cleans up has no journal, and can still do what it may.
#[tokio::test]
async fn without_a_claim_nothing_is_recorded() {
    let (address, heads) = counter().await;
    let host = Host::new();
    let guest = Guest { claim: None, ..Guest::with(json!([format!("http:{address}"), "kv"])) };
    for sent in 1..=2 {
        let mut state = guest.enter(&host);
        answer(state.send(request(&address, "/", "x")).await).expect("sent");
        assert_eq!(heads.lock().len(), sent);
        answer(crate::bindings::caisson::step::kv::Host::set(&mut state, "a".to_owned(), vec![1]).await).expect("set");
    }
    let entry = EntryKey { run: RunId::new("run-1"), step: 1, attempt: 1, entry: 0, claim: 1 };
    assert!(host.journal.records(&entry).await.expect("reads").is_empty());
}
