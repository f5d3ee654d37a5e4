//! Keys that are fetched: what requests meet while they come, change, or stay away.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gapura_reload::asked::Reloads;

use super::*;

/// A provider on this machine: what stands at each path, and how often it was asked.
#[derive(Clone)]
struct Provider {
    address: SocketAddr,
    pages: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            pages: Arc::default(),
            asked: Arc::default(),
        };
        let site = provider.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).unwrap_or(0);
                let head = String::from_utf8_lossy(&head[..read]).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                *site.asked.lock().unwrap().entry(path.clone()).or_default() += 1;
                let page = site.pages.lock().unwrap().get(&path).cloned();
                let answer = match page {
                    Some(page) => format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}",
                        page.len()
                    ),
                    None => "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        provider
    }

    fn serve(&self, path: &str, page: impl Into<String>) {
        self.pages
            .lock()
            .unwrap()
            .insert(path.to_owned(), page.into());
    }

    fn withdraw(&self, path: &str) {
        self.pages.lock().unwrap().remove(path);
    }

    fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    fn url(&self, path: &str) -> gapura_fetch::Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }
}

/// A gate with its keys being followed, as on a program's control thread.
struct Door {
    gate: Authenticator,
    alarms: Alarms,
    clock: Clock,
}

fn fetched_by(source: KeySource) -> IssuerSettings {
    IssuerSettings {
        issuer: Some("i".parse().unwrap()),
        audience: vec!["a".to_owned()],
        ..issuer(source)
    }
}

fn claims_of(iss: &str) -> Value {
    with(claims(), &json!({"iss": iss, "aud": "a"}))
}

fn token(signers: &Signers, kid: &str) -> HeaderMap {
    headers(&signers.token(&json!({"alg": "ES256", "kid": kid}), &claims_of("i")))
}

fn key(signers: &Signers, kid: &str) -> Value {
    with(signers.jwk("ES256"), &json!({ "kid": kid }))
}

/// Runs `test` beside the following of the keys, on one thread.
fn beside<T>(issuers: Vec<IssuerSettings>, test: impl AsyncFnOnce(&Door) -> T) -> T {
    let keys = Keys::load(settings(issuers)).unwrap();
    let (alarms, clock) = (super::sources::alarms(), Clock::system());
    let door = Door {
        gate: Authenticator::new(keys.clone()),
        alarms: alarms.clone(),
        clock: clock.clone(),
    };
    let log = Log::to("gateway", clock.clone(), Box::new(std::io::sink())).unwrap();
    let reload = Reloads::default().subscribe();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .unwrap();
    runtime.block_on(async {
        let follow = keys.follow(Follow {
            clock,
            alarms,
            log,
            reload,
        });
        tokio::select! {
            () = follow => panic!("following ended"),
            done = test(&door) => done,
        }
    })
}

impl Door {
    async fn judged(&self, headers: &HeaderMap) -> Result<(), Error> {
        let mode = AuthMode::GatewayVerified;
        self.gate.verify(mode, headers, None, NOW).await.map(drop)
    }

    /// Asks again and again until the answer is the wanted one.
    async fn until(&self, headers: &HeaderMap, wanted: Result<(), Error>) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.judged(headers).await;
            if found == wanted {
                return;
            }
            assert!(Instant::now() < until, "still {found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[test]
fn the_first_request_waits_for_the_first_keys() {
    let provider = Provider::start();
    provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
    let source = KeySource::Url(provider.url("/keys"));
    beside(vec![fetched_by(source)], async |door| {
        assert_eq!(door.judged(&token(Signers::ours(), "k1")).await, Ok(()));
        let theirs = door.judged(&token(Signers::theirs(), "k1")).await;
        assert_eq!(theirs, Err(Reason::Signature.into()));
        assert!(door.alarms.raised().is_empty());
    });
    assert_eq!(provider.asked("/keys"), 1);
}

#[test]
fn who_asks_during_the_first_fetch_has_no_second_one_made() {
    let provider = Provider::start();
    provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
    let source = KeySource::Url(provider.url("/keys"));
    beside(vec![fetched_by(source)], async |door| {
        let known = token(Signers::ours(), "k1");
        let all = (0..10).map(|_| door.judged(&known));
        for judged in all {
            assert_eq!(judged.await, Ok(()));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(provider.asked("/keys"), 1);
        provider.serve("/keys", jwks(&[key(Signers::theirs(), "k2")]));
        assert_eq!(door.judged(&token(Signers::theirs(), "k2")).await, Ok(()));
    });
}

#[test]
fn a_rotation_loses_no_valid_request_and_junk_is_asked_for_once() {
    let provider = Provider::start();
    provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
    let source = KeySource::Url(provider.url("/keys"));
    beside(vec![fetched_by(source)], async |door| {
        let (old, new) = (token(Signers::ours(), "k1"), token(Signers::theirs(), "k2"));
        assert_eq!(door.judged(&old).await, Ok(()));
        provider.serve(
            "/keys",
            jwks(&[key(Signers::ours(), "k1"), key(Signers::theirs(), "k2")]),
        );
        assert_eq!(door.judged(&new).await, Ok(()), "fetched for its sake");
        assert_eq!(door.judged(&old).await, Ok(()));
        assert_eq!(provider.asked("/keys"), 2);
        // Within the next seconds nobody can have the provider asked again; what nobody has denied
        // is not called bad.
        let junk = token(Signers::theirs(), "junk");
        assert_eq!(door.judged(&junk).await, Err(Error::KeysUnavailable));
        assert_eq!(provider.asked("/keys"), 2);
        door.until(&junk, Err(Reason::UnknownKid.into())).await;
        assert_eq!(provider.asked("/keys"), 3);
        for _ in 0..100 {
            assert_eq!(door.judged(&junk).await, Err(Reason::UnknownKid.into()));
        }
        assert_eq!(provider.asked("/keys"), 3);
    });
}

#[test]
fn a_provider_in_trouble_is_no_fault_of_the_caller_nor_of_other_issuers() {
    let provider = Provider::start();
    let folder = Folder::new();
    let local = IssuerSettings {
        issuer: Some("local".parse().unwrap()),
        tenants: Tenants::Rest,
        ..issuer(KeySource::JwksFile(
            folder.write("k", jwks(&[Signers::ours().jwk("ES256")])),
        ))
    };
    let remote = IssuerSettings {
        tenants: Tenants::Only(vec![
            gapura_protocol::context::TenantId::parse(b"4").unwrap(),
        ]),
        ..fetched_by(KeySource::Url(provider.url("/keys")))
    };
    beside(vec![remote, local], async |door| {
        let theirs = token(Signers::ours(), "k1");
        door.until(&theirs, Err(Error::KeysUnavailable)).await;
        let own = with(claims_of("local"), &json!({"company_id": 5}));
        let own = headers(&Signers::ours().token(&json!({"alg": "ES256"}), &own));
        assert_eq!(door.judged(&own).await, Ok(()));
        let says = |wanted: &str| {
            let raised = door.alarms.raised();
            raised
                .iter()
                .any(|(name, sentence)| *name == "keys" && sentence.contains(wanted))
        };
        assert!(says("answers 500"), "{:?}", door.alarms.raised());
        for page in ["<html>", "{\"keys\": []}"] {
            provider.serve("/keys", page);
        }
        let hundred: Vec<Value> = (0..101)
            .map(|at| key(Signers::ours(), &at.to_string()))
            .collect();
        provider.serve("/keys", jwks(&hundred));
        door.until(&theirs, Err(Error::KeysUnavailable)).await;
        provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
        door.until(&theirs, Ok(())).await;
        for _ in 0..200 {
            if door.alarms.raised().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            door.alarms.raised().is_empty(),
            "{:?}",
            door.alarms.raised()
        );
    });
}

#[test]
fn fetched_keys_outlive_their_provider_by_a_day() {
    let provider = Provider::start();
    provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
    let source = KeySource::Url(provider.url("/keys"));
    beside(vec![fetched_by(source)], async |door| {
        let known = token(Signers::ours(), "k1");
        assert_eq!(door.judged(&known).await, Ok(()));
        provider.withdraw("/keys");
        door.clock.shift(23 * 3600);
        for _ in 0..1000 {
            if !door.alarms.raised().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(
            door.alarms.raised()[0]
                .1
                .contains("stay in force for a day")
        );
        assert_eq!(door.judged(&known).await, Ok(()));
        assert_eq!(
            door.judged(&token(Signers::theirs(), "new")).await,
            Err(Error::KeysUnavailable)
        );
        door.clock.shift(25 * 3600);
        door.until(&known, Err(Error::KeysUnavailable)).await;
        provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
        door.until(&known, Ok(())).await;
    });
}

#[test]
fn a_provider_is_found_by_its_metadata() {
    let provider = Provider::start();
    let name = provider.url("/realm").as_str().to_owned();
    let metadata = |keys: &str| json!({"issuer": name, "jwks_uri": keys}).to_string();
    let at = "/realm/.well-known/openid-configuration";
    provider.serve(at, metadata(provider.url("/keys").as_str()));
    provider.serve("/keys", jwks(&[key(Signers::ours(), "k1")]));
    let entry = IssuerSettings {
        issuer: Some(name.parse().unwrap()),
        ..fetched_by(KeySource::Oidc(name.parse().unwrap()))
    };
    let by_name =
        headers(&Signers::ours().token(&json!({"alg": "ES256", "kid": "k1"}), &claims_of(&name)));
    beside(vec![entry.clone()], async |door| {
        assert_eq!(door.judged(&by_name).await, Ok(()));
    });
    // What the provider writes may not lead into our own network, though it is the same machine by
    // another name.
    let elsewhere = format!("https://localhost:{}/keys", provider.address.port());
    provider.serve(at, metadata(&elsewhere));
    beside(vec![entry], async |door| {
        door.until(&by_name, Err(Error::KeysUnavailable)).await;
        let said = door.alarms.raised()[0].1.clone();
        assert!(said.contains("not public"), "{said}");
    });
}

#[test]
fn many_requests_are_one_fetch_and_not_all_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // says nothing
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let source = KeySource::Url(url.parse().unwrap());
    beside(vec![fetched_by(source)], async |door| {
        let headers = token(Signers::ours(), "k1");
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(door.judged(&headers))).collect();
        let mut at_once = 0;
        for request in &mut waiting {
            let first =
                std::future::poll_fn(|cx| std::task::Poll::Ready(request.as_mut().poll(cx)));
            match first.await {
                std::task::Poll::Ready(refused) => {
                    assert_eq!(refused, Err(Error::KeysUnavailable));
                    at_once += 1;
                }
                std::task::Poll::Pending => {}
            }
        }
        assert_eq!(at_once, 100 - 64);
    });
}

#[test]
fn a_check_fetches_and_tells() {
    let provider = Provider::start();
    provider.serve(
        "/keys",
        jwks(&[
            key(Signers::ours(), "k1"),
            with(
                Signers::ours().jwk("RS256"),
                &json!({"kid": "r", "alg": "PS256"}),
            ),
        ]),
    );
    let keys = Keys::load(settings(vec![fetched_by(KeySource::Url(
        provider.url("/keys"),
    ))]))
    .unwrap();
    assert_eq!(keys.ring().describe(), ["issuer i: no keys yet"]);
    keys.fetch_now(&Clock::system()).unwrap();
    assert_eq!(
        keys.ring().describe(),
        ["issuer i: kid \"k1\": ES256", "issuer i: kid \"r\": PS256"]
    );
    provider.withdraw("/keys");
    let faults = keys.fetch_now(&Clock::system()).unwrap_err();
    assert!(faults[0].contains("answers 500"), "{faults:?}");
}
