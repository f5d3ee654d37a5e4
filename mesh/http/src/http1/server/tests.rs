//! What a client meets: bytes in, bytes out.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use http::{HeaderMap, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::*;
use crate::http1::body::BodyError;
use crate::http1::refusal::RefusalKind;
use crate::http1::testing::{Answering, Clock, TestBody, Truncated, collect, data, trailers};

/// Larger than anything that is written at once.
const WIDE: usize = 1 << 20;

/// Serves `io` with the settings for clients.
async fn served<IO: Stream + 'static, S: Service>(io: IO, service: &S) -> End<IO> {
    serve(
        io,
        service,
        &Settings::client(),
        &Clock,
        &Buffers::new(),
        pending(),
    )
    .await
}

/// Sends `input`, closes the sending half, and reads all that is answered.
async fn talk<S: Service>(input: impl AsRef<[u8]>, service: &S) -> (String, Why) {
    let (mut near, far) = duplex(WIDE * 16);
    near.write_all(input.as_ref()).await.unwrap();
    near.shutdown().await.unwrap();
    let mut output = Vec::new();
    let (end, read) = tokio::join!(served(far, service), near.read_to_end(&mut output));
    read.unwrap();
    let End::Closed(why) = end else {
        panic!("handed over: {end:?}")
    };
    (String::from_utf8(output).unwrap(), why)
}

async fn talk_with<F, A>(input: impl AsRef<[u8]>, call: F) -> (String, Why)
where
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Response<TestBody>>,
{
    talk(input, &Answering::new(call)).await
}

/// Reads until the text ends with `end`.
async fn read_until(io: &mut (impl tokio::io::AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let byte = io.read_u8().await;
        let Ok(byte) = byte else {
            panic!("ended after {:?}", String::from_utf8_lossy(&text))
        };
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

/// Answers with the path.
async fn path(request: Request<Incoming>) -> Response<TestBody> {
    Response::new(TestBody::from(request.uri().path()))
}

/// Answers with the body, once it has come.
async fn echo(request: Request<Incoming>) -> Response<TestBody> {
    match collect(request.into_body()).await {
        Ok((bytes, _)) => Response::new(TestBody::from(std::str::from_utf8(&bytes).unwrap())),
        Err(error) => failed(error),
    }
}

fn failed(error: BodyError) -> Response<TestBody> {
    let mut response = Response::new(TestBody::from(error.to_string().as_str()));
    *response.status_mut() = match error {
        BodyError::Idle => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    };
    response
}

fn statuses(text: &str) -> Vec<&str> {
    text.match_indices("HTTP/1.1 ")
        .map(|(at, _)| &text[at + 9..at + 12])
        .collect()
}

#[tokio::test]
async fn answers_in_order_and_until_the_client_is_done() {
    let (text, why) = talk_with(
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
        path,
    )
    .await;
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n/aHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n/b"
    );
    assert_eq!(why, Why::Client);
}

#[tokio::test]
async fn an_ambiguous_request_ends_the_connection_once_those_before_it_are_answered() {
    let service = Answering::new(path);
    let (text, why) = talk(
        "GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nX-Request-Id: r1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        &service,
    )
    .await;
    assert_eq!(statuses(&text), ["200", "400"]);
    assert!(text.contains("connection: close") && text.ends_with("two Content-Length fields"));
    assert_eq!(why, Why::Refused);
    let refusals = service.refusals.borrow();
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0].seen.method, Some(Method::POST));
    assert_eq!(refusals[0].seen.target.as_deref(), Some(&b"/b"[..]));
    assert_eq!(refusals[0].seen.request_id.as_ref().unwrap(), "r1");
}

#[tokio::test]
async fn each_refusal_has_its_status_and_head_has_no_body() {
    let long = "a".repeat(9000);
    for (input, status) in [
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), "414"),
        (
            format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", long.repeat(4)),
            "431",
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101)),
            "431",
        ),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), "400"),
        ("\x16\x03\x01".to_owned(), "400"),
    ] {
        let (text, why) = talk_with(&input, path).await;
        assert_eq!(
            (statuses(&text), why),
            (vec![status], Why::Refused),
            "{text}"
        );
    }
    let (text, _) = talk_with("HEAD /\x01 HTTP/1.1\r\n\r\n", path).await;
    assert!(
        text.starts_with("HTTP/1.1 400") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn http_10_is_kept_alive_only_if_it_asks_and_never_gets_chunks() {
    let chunks = |_: Request<Incoming>| async { Response::new(TestBody::chunks(["ab", "c"])) };
    let (text, why) = talk_with("GET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", path).await;
    assert_eq!(statuses(&text), ["200"]);
    assert!(text.contains("connection: close") && why == Why::Answered);
    let (text, _) = talk_with(
        "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        path,
    )
    .await;
    assert_eq!(statuses(&text), ["200", "200"]);
    assert_eq!(text.matches("connection: keep-alive").count(), 2);
    let (text, _) = talk_with("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", chunks).await;
    assert_eq!(text, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc");
    let (text, _) = talk_with("GET / HTTP/1.1\r\nHost: a\r\n\r\n", chunks).await;
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn bodies_of_requests_are_read_in_every_framing() {
    for (framed, body) in [
        ("Content-Length: 3\r\n\r\nabc", "abc"),
        (
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nx-t: 1\r\n\r\n",
            "abc",
        ),
        ("Content-Length: 0\r\n\r\n", ""),
        ("\r\n", ""),
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{framed}").repeat(2);
        let (text, why) = talk_with(&input, echo).await;
        assert_eq!(statuses(&text), ["200", "200"], "{framed:?}");
        assert!(text.ends_with(body) && why == Why::Client, "{text}");
    }
}

#[tokio::test]
async fn a_broken_body_is_the_services_to_answer_and_ends_the_connection() {
    for (framed, reason) in [
        (
            "Transfer-Encoding: chunked\r\n\r\nx\r\n",
            "a chunk's size is no number",
        ),
        (
            "Content-Length: 9\r\n\r\nabc",
            "the body broke off before its end",
        ),
    ] {
        let input = format!("POST / HTTP/1.1\r\nHost: a\r\n{framed}");
        let (text, why) = talk_with(&input, echo).await;
        assert_eq!(statuses(&text), ["400"], "{text}");
        assert!(
            text.contains("connection: close") && text.ends_with(reason),
            "{text}"
        );
        assert_eq!(why, Why::Answered);
    }
}

#[tokio::test]
async fn a_100_is_sent_when_the_body_is_first_asked_for_and_not_before() {
    let (mut near, far) = duplex(WIDE);
    let ask = Notify::new();
    let service = Answering::new(|request: Request<Incoming>| async {
        ask.notified().await;
        echo(request).await
    });
    let client = async {
        near.write_all(
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        )
        .await
        .unwrap();
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(nothing_to_read(&mut near).await);
        ask.notify_one();
        assert_eq!(
            read_until(&mut near, "\r\n\r\n").await,
            "HTTP/1.1 100 Continue\r\n\r\n"
        );
        near.write_all(b"ab").await.unwrap();
        assert!(
            read_until(&mut near, "ab")
                .await
                .starts_with("HTTP/1.1 200")
        );
        // Again on the same connection, with the body in the same flight: nobody has to be told.
        ask.notify_one();
        near.write_all(
            b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\ncd",
        )
        .await
        .unwrap();
        assert!(
            read_until(&mut near, "cd")
                .await
                .starts_with("HTTP/1.1 200")
        );
        drop(near);
    };
    tokio::join!(served(far, &service), client);
}

async fn nothing_to_read(io: &mut DuplexStream) -> bool {
    poll_fn(|cx| {
        let mut byte = [0];
        let mut buf = tokio::io::ReadBuf::new(&mut byte);
        Poll::Ready(tokio::io::AsyncRead::poll_read(Pin::new(io), cx, &mut buf).is_pending())
    })
    .await
}

#[tokio::test]
async fn who_waits_for_a_100_and_gets_an_answer_is_neither_told_to_go_on_nor_drained() {
    let (text, why) = talk_with(
        "PUT /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        |request: Request<Incoming>| async move {
            let answer = path(request).await;
            // The body came in the same flight here; what counts is that nobody asked for it.
            answer
        },
    )
    .await;
    assert_eq!(statuses(&text), ["200"]);
    assert!(text.contains("connection: close") && !text.contains("100 Continue"));
    assert_eq!(why, Why::Answered);
}

#[tokio::test]
async fn upload_and_answer_flow_at_the_same_time() {
    let (mut near, far) = duplex(WIDE);
    let service = Answering::new(|request: Request<Incoming>| async {
        Response::new(TestBody::Incoming(request.into_body()))
    });
    let client = async {
        near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut near, "\r\n\r\n").await;
        for word in ["one", "two", "six"] {
            near.write_all(format!("3\r\n{word}\r\n").as_bytes())
                .await
                .unwrap();
            assert_eq!(
                read_until(&mut near, &format!("{word}\r\n")).await,
                format!("3\r\n{word}\r\n")
            );
        }
        near.write_all(b"0\r\n\r\n").await.unwrap();
        read_until(&mut near, "0\r\n\r\n").await;
        drop(near);
    };
    tokio::join!(served(far, &service), client);
}

#[tokio::test]
async fn an_upload_outlasts_its_answer_and_the_connection_goes_on() {
    let (mut near, far) = duplex(64);
    let service = Answering::new(|request: Request<Incoming>| async {
        Response::new(if request.uri().path() == "/up" {
            TestBody::Beside(http_body_util::Full::from("ok"), request.into_body())
        } else {
            TestBody::from("next")
        })
    });
    let client = async {
        near.write_all(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut near, "\r\n\r\nok").await;
        near.write_all(&[b'x'; 1000]).await.unwrap();
        near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        read_until(&mut near, "\r\n\r\nnext").await;
        drop(near);
    };
    tokio::join!(served(far, &service), client);
}

#[tokio::test]
async fn an_early_answer_arrives_and_a_small_rest_leaves_the_connection_open() {
    let body = "x".repeat(300_000);
    let input = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n{body}GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    );
    let (text, why) = talk_with(&input, path).await;
    assert_eq!(statuses(&text), ["200", "200"]);
    assert!(text.ends_with("/b") && why == Why::Client);
}

#[tokio::test]
async fn a_rest_beyond_the_bound_ends_the_connection() {
    let body = "x".repeat(9 << 20);
    let input = format!(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}GET /b HTTP/1.1\r\n\r\n",
        body.len()
    );
    let (text, why) = talk_with(&input, path).await;
    assert_eq!((statuses(&text), why), (vec!["200"], Why::Upload));
    let mut service = Answering::new(path);
    service.drains = false;
    let (text, why) = talk(
        "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET /b HTTP/1.1\r\n\r\n",
        &service,
    )
    .await;
    assert_eq!((statuses(&text), why), (vec!["200"], Why::Upload));
}

#[tokio::test(start_paused = true)]
async fn a_rest_that_does_not_come_ends_the_connection_in_time() {
    let (mut near, far) = duplex(WIDE);
    let service = Answering::new(path);
    let begin = Instant::now();
    let client = async {
        near.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
            .await
            .unwrap();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        assert!(text.ends_with("/a"));
    };
    let (end, ()) = tokio::join!(served(far, &service), client);
    assert!(matches!(end, End::Closed(Why::Upload)), "{end:?}");
    assert_eq!(begin.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn no_body_where_none_may_be() {
    for (method, status, length) in [("HEAD", 200, true), ("GET", 204, false), ("GET", 304, true)] {
        let (text, _) = talk_with(
            format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"),
            |_: Request<Incoming>| async move {
                Response::builder()
                    .status(status)
                    .header("content-length", "4")
                    .body(TestBody::from("body"))
                    .unwrap()
            },
        )
        .await;
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        assert_eq!(text.contains("content-length: 4"), length, "{text}");
    }
}

#[tokio::test]
async fn a_half_closed_client_is_answered_and_one_that_resets_is_gone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Cell::new(false);
    struct Told<'a>(&'a Cell<bool>);
    impl Drop for Told<'_> {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let (begun, go) = (Notify::new(), Notify::new());
    let service = Answering::new(|request: Request<Incoming>| async {
        let told = Told(&ended);
        begun.notify_one();
        go.notified().await;
        drop(told);
        path(request).await
    });
    for resets in [false, true] {
        ended.set(false);
        let client = async {
            let mut near = TcpStream::connect(address).await.unwrap();
            near.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
                .await
                .unwrap();
            near.shutdown().await.unwrap();
            begun.notified().await;
            if resets {
                near.set_zero_linger().unwrap();
                drop(near);
                return String::new();
            }
            go.notify_one();
            let mut text = String::new();
            near.read_to_string(&mut text).await.unwrap();
            text
        };
        let server = async {
            let (far, _) = listener.accept().await.unwrap();
            served(far, &service).await
        };
        let (end, text) = tokio::join!(server, client);
        assert!(ended.get());
        if resets {
            assert!(matches!(end, End::Closed(Why::Gone)), "{end:?}");
        } else {
            assert!(text.ends_with("/a"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_switch_hands_over_the_stream_with_what_came_early() {
    let (mut near, far) = duplex(WIDE);
    let service = Answering::new(|_: Request<Incoming>| async {
        Response::builder()
            .status(101)
            .header("upgrade", "websocket")
            .body(TestBody::empty())
            .unwrap()
    });
    near.write_all(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nearly",
    )
    .await
    .unwrap();
    let End::Upgraded { mut io, read } = served(far, &service).await else {
        panic!("not handed over")
    };
    assert_eq!(read, "early");
    io.write_all(b"late").await.unwrap();
    assert_eq!(
        read_until(&mut near, "late").await,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nlate"
    );
}

#[tokio::test]
async fn hints_pass_but_not_to_http_10_nor_too_many_nor_too_late() {
    let late = RefCell::new(None);
    let service = Answering::new(|request: Request<Incoming>| async {
        let body = request.into_body();
        let interim = body.interim().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("link", "</a>".parse().unwrap());
        let sent = (0..10)
            .filter(|_| interim.send(StatusCode::EARLY_HINTS, &headers))
            .count();
        assert!(!interim.send(StatusCode::CONTINUE, &headers));
        assert!(!interim.send(StatusCode::OK, &headers));
        tokio::task::yield_now().await;
        *late.borrow_mut() = Some(interim);
        Response::new(TestBody::from(sent.to_string().as_str()))
    });
    let (text, _) = talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &service).await;
    assert_eq!(statuses(&text)[..8], ["103"; 8]);
    assert!(text.starts_with("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 103"));
    assert!(text.ends_with("\r\n\r\n8"), "{text}");
    assert!(
        !late
            .take()
            .unwrap()
            .send(StatusCode::EARLY_HINTS, &HeaderMap::new())
    );
    let (text, _) = talk("GET / HTTP/1.0\r\n\r\n", &service).await;
    assert_eq!(statuses(&text), ["200"]);
}

#[tokio::test(start_paused = true)]
async fn each_wait_has_its_end() {
    for (input, answer, why, seconds) in [
        ("", "", Why::Idle, 10),
        (
            "GET / HTTP/1.1\r\nX-Request-Id: r\r\n",
            "HTTP/1.1 408",
            Why::Refused,
            10,
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "HTTP/1.1 200",
            Why::Idle,
            60,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx",
            "HTTP/1.1 408",
            Why::Answered,
            30,
        ),
    ] {
        let (mut near, far) = duplex(WIDE);
        near.write_all(input.as_bytes()).await.unwrap();
        let begin = Instant::now();
        let service = Answering::new(echo);
        let client = async {
            let mut text = String::new();
            near.read_to_string(&mut text).await.unwrap();
            (text, begin.elapsed().as_secs())
        };
        let (end, (text, after)) = tokio::join!(served(far, &service), client);
        assert!(
            matches!(end, End::Closed(ended) if ended == why),
            "{input:?}: {end:?}"
        );
        assert!(text.starts_with(answer), "{input:?}: {text}");
        assert_eq!(after, seconds, "{input:?}");
        if let Some(refusal) = service.refusals.borrow().first() {
            assert_eq!(refusal.kind, RefusalKind::Timeout);
            assert_eq!(refusal.seen.request_id.as_ref().unwrap(), "r");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_let_go() {
    let (mut near, far) = duplex(64);
    near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let service = Answering::new(|_: Request<Incoming>| async {
        Response::new(TestBody::from("x".repeat(1000).as_str()))
    });
    let begin = Instant::now();
    let end = served(far, &service).await;
    assert!(matches!(end, End::Closed(Why::Stalled)), "{end:?}");
    assert_eq!(begin.elapsed().as_secs(), 60);
}

#[tokio::test]
async fn told_to_stop_it_closes_when_idle_and_serves_what_has_begun() {
    let service = Answering::new(path);
    let (near, far) = duplex(WIDE);
    let settings = Settings::client();
    let end = serve(far, &service, &settings, &Clock, &Buffers::new(), async {}).await;
    assert!(matches!(end, End::Closed(Why::Stopped)), "{end:?}");
    drop(near);

    let (mut near, far) = duplex(WIDE);
    let (stop, stopped) = oneshot::channel::<()>();
    let (begun, go) = (Notify::new(), Notify::new());
    let service = Answering::new(|request: Request<Incoming>| async {
        begun.notify_one();
        go.notified().await;
        path(request).await
    });
    let client = async {
        near.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        begun.notified().await;
        stop.send(()).unwrap();
        go.notify_one();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        text
    };
    let stopping = async {
        let _ = stopped.await;
    };
    let buffers = Buffers::new();
    let (end, text) = tokio::join!(
        serve(far, &service, &settings, &Clock, &buffers, stopping),
        client
    );
    assert!(matches!(end, End::Closed(Why::Answered)), "{end:?}");
    assert!(
        text.contains("connection: close\r\n") && text.ends_with("/a"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_that_fails_leaves_its_head_and_a_visible_cut() {
    let fails = |length: Option<&'static str>, pieces: &'static [&'static str]| {
        move |_: Request<Incoming>| {
            let frames = pieces.iter().map(|piece| Ok(data(piece)));
            let body = TestBody::frames(frames.chain([Err(BodyError::Cut)]));
            let mut response = Response::new(body);
            if let Some(length) = length {
                response
                    .headers_mut()
                    .insert("content-length", length.parse().unwrap());
            }
            async move { response }
        }
    };
    let get = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(
        talk_with(get, fails(None, &[])).await,
        (chunked.to_owned(), Why::Cut)
    );
    assert_eq!(
        talk_with(get, fails(None, &["ab"])).await,
        (format!("{chunked}2\r\nab\r\n"), Why::Cut)
    );
    let (text, why) = talk_with(get, fails(Some("5"), &["ab"])).await;
    assert!(
        text.ends_with("content-length: 5\r\n\r\nab") && why == Why::Cut,
        "{text}"
    );
    // All bytes of a known length are there: it is whole, whatever comes behind them.
    let (text, why) = talk_with(get, fails(Some("2"), &["ab"])).await;
    assert!(
        text.ends_with("content-length: 2\r\n\r\nab") && why == Why::Answered,
        "{text}"
    );
    let (text, why) = talk_with(get, fails(Some("2"), &["abc"])).await;
    assert!(
        text.ends_with("content-length: 2\r\n\r\nab") && why == Why::Answered,
        "{text}"
    );
}

#[tokio::test]
async fn a_body_shorter_than_its_length_is_cut() {
    let (text, why) = talk_with(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        |_: Request<Incoming>| async {
            Response::builder()
                .header("content-length", "5")
                .body(TestBody::from("ab"))
                .unwrap()
        },
    )
    .await;
    assert!(
        text.ends_with("content-length: 5\r\n\r\nab") && why == Why::Cut,
        "{text}"
    );
}

#[tokio::test]
async fn a_cut_answer_to_http_10_is_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (far, _) = listener.accept().await.unwrap();
    let (sender, body) = TestBody::channel();
    let body = Cell::new(Some(body));
    let service = Answering::new(|_: Request<Incoming>| {
        let body = body.take().unwrap();
        async { Response::new(body) }
    });
    let client = async {
        near.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        sender.send(Ok(data("part"))).unwrap();
        read_until(&mut near, "part").await;
        sender.send(Err(BodyError::Cut)).unwrap();
        near.read_to_end(&mut Vec::new()).await
    };
    let (_, read) = tokio::join!(served(far, &service), client);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn trailers_go_to_those_who_take_them() {
    let service = Answering::new(|_: Request<Incoming>| async {
        Response::new(TestBody::frames([
            Ok(data("ab")),
            Ok(trailers("x-sum", "1")),
        ]))
    });
    let (text, _) = talk(
        "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n",
        &service,
    )
    .await;
    assert!(text.ends_with("2\r\nab\r\n0\r\nx-sum: 1\r\n\r\n"), "{text}");
    let (text, _) = talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &service).await;
    assert!(text.ends_with("2\r\nab\r\n0\r\n\r\n"), "{text}");
}

#[tokio::test]
async fn an_idle_connection_owns_no_buffer() {
    let (mut near, far) = duplex(WIDE);
    let buffers = Buffers::new();
    let service = Answering::new(echo);
    let settings = Settings::client();
    let client = async {
        // The one that the first look took is back already.
        assert!(buffers.spare() <= 1);
        for size in [10, 100_000] {
            let body = "x".repeat(size);
            near.write_all(
                format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n{body}")
                    .as_bytes(),
            )
            .await
            .unwrap();
            read_until(&mut near, &format!("\r\n\r\n{body}")).await;
            while buffers.spare() < 2 {
                tokio::task::yield_now().await;
            }
        }
        // One was lent for reading and one for writing, and both are back.
        assert_eq!(buffers.spare(), 2);
        drop(near);
    };
    tokio::join!(
        serve(far, &service, &settings, &Clock, &buffers, pending()),
        client
    );
}

#[tokio::test]
async fn an_http2_preface_is_told_apart() {
    for cut in [1, 3, 18, 24] {
        let (mut near, far) = duplex(WIDE);
        let service = Answering::new(path);
        let client = async {
            let preface = crate::http1::head::HTTP2_PREFACE;
            near.write_all(&preface[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            near.write_all(&preface[cut..]).await.unwrap();
            near
        };
        let (end, _near) = tokio::join!(served(far, &service), client);
        let End::Http2 { read, .. } = end else {
            panic!("{end:?}")
        };
        assert!(crate::http1::head::HTTP2_PREFACE.starts_with(&read) && read.len() >= 18);
    }
    let (text, _) = talk_with(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        path,
    )
    .await;
    assert_eq!(statuses(&text), ["200", "400"]);
    let (text, _) = talk_with("PUT /p HTTP/1.1\r\nHost: a\r\n\r\n", path).await;
    assert_eq!(statuses(&text), ["200"]);
}

#[tokio::test]
async fn a_body_that_outlives_its_exchange_reads_nothing_of_the_next() {
    let kept: RefCell<Option<Incoming>> = RefCell::new(None);
    let service = Answering::new(|request: Request<Incoming>| async {
        if let Some(mut before) = kept.take() {
            let frame = before.frame().await;
            assert!(matches!(frame, Some(Err(BodyError::Cut))), "{frame:?}");
            assert!(before.interim().is_some_and(|interim| {
                !interim.send(StatusCode::EARLY_HINTS, &HeaderMap::new())
            }));
        }
        let (parts, body) = request.into_parts();
        let answer = collect_len(body, &kept).await;
        let _ = parts;
        answer
    });
    let (text, _) = talk(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        &service,
    )
    .await;
    assert_eq!(statuses(&text), ["200", "200"]);
    assert!(text.ends_with("\r\n\r\n3"), "{text}");
}

/// Counts the bytes of a body and keeps what is left of it.
async fn collect_len(mut body: Incoming, kept: &RefCell<Option<Incoming>>) -> Response<TestBody> {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    *kept.borrow_mut() = Some(body);
    Response::new(TestBody::from(count.to_string().as_str()))
}

#[tokio::test]
async fn a_long_pipeline_lets_others_have_their_turn() {
    let (mut near, far) = duplex(WIDE);
    let (answered, turns) = (Cell::new(0), Cell::new(0));
    let service = Answering::new(|request: Request<Incoming>| {
        answered.set(answered.get() + 1);
        path(request)
    });
    near.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(200).as_bytes())
        .await
        .unwrap();
    near.shutdown().await.unwrap();
    let others = async {
        while answered.get() < 200 {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    let mut text = String::new();
    tokio::join!(
        served(far, &service),
        others,
        near.read_to_string(&mut text)
    )
    .2
    .unwrap();
    assert_eq!(statuses(&text).len(), 200);
    assert!(turns.get() >= 10, "{} turns", turns.get());
}

#[tokio::test]
async fn reading_ahead_has_its_bound() {
    let (mut near, far) = duplex(WIDE * 4);
    let go = Notify::new();
    let service = Answering::new(|request: Request<Incoming>| async {
        go.notified().await;
        path(request).await
    });
    near.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    near.write_all(&vec![b'\r'; WIDE]).await.unwrap();
    let mut server = std::pin::pin!(served(far, &service));
    for _ in 0..10 {
        poll_fn(|cx| {
            assert!(server.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    // What was not taken is still there: the pipe, four times as wide, has room for the rest and no
    // more.
    let taken = poll_fn(|cx| {
        let mut written = 0;
        while let Poll::Ready(Ok(count)) =
            tokio::io::AsyncWrite::poll_write(Pin::new(&mut near), cx, &[b'x'; 1 << 16])
        {
            written += count;
        }
        Poll::Ready(written)
    })
    .await
        + WIDE
        - WIDE * 4;
    assert!(taken <= 96 * 1024, "{taken} bytes were read ahead");
}

#[tokio::test]
async fn a_date_and_the_version_of_the_answer() {
    struct Dated;
    impl Service for Dated {
        type Body = TestBody;
        async fn call(&self, request: Request<Incoming>) -> Response<TestBody> {
            assert_eq!(request.version(), Version::HTTP_11);
            Response::new(TestBody::empty())
        }
        fn refuse(&self, _: Refusal) -> Response<TestBody> {
            Response::new(TestBody::empty())
        }
        fn date(&self) -> Option<HttpDate> {
            Some(*b"Sun, 06 Nov 1994 08:49:37 GMT")
        }
    }
    let (text, _) = talk("GET / HTTP/1.2\r\nHost: a\r\n\r\n", &Dated).await;
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n"
    );
}

#[tokio::test]
async fn a_connection_is_small() {
    let (_near, far) = duplex(1);
    let stream = std::mem::size_of::<DuplexStream>();
    let service = Answering::new(path);
    let (settings, buffers) = (Settings::client(), Buffers::new());
    let connection = serve(far, &service, &settings, &Clock, &buffers, pending());
    let size = std::mem::size_of_val(&connection);
    assert!(
        size - stream < 3 * 1024,
        "{size} bytes of state a connection"
    );
}

#[tokio::test]
async fn an_interim_answer_is_never_the_last() {
    let (text, _) = talk_with(
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        |_: Request<Incoming>| async {
            let mut response = Response::new(TestBody::empty());
            *response.status_mut() = StatusCode::EARLY_HINTS;
            response
        },
    )
    .await;
    assert_eq!(statuses(&text), ["500", "500"]);
}

#[tokio::test]
async fn a_body_that_another_task_reads_wakes_the_connection() {
    tokio::task::LocalSet::new()
        .run_until(async {
            let (mut near, far) = duplex(64);
            let service = Answering::new(|request: Request<Incoming>| async {
                let reader = tokio::task::spawn_local(collect(request.into_body()));
                // The answer goes out first; the connection goes on once the other task is done.
                drop(reader);
                Response::new(TestBody::from("ok"))
            });
            let client = async {
                for _ in 0..2 {
                    near.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
                        .await
                        .unwrap();
                    read_until(&mut near, "\r\n\r\nok").await;
                    near.write_all(&[b'x'; 1000]).await.unwrap();
                }
                drop(near);
            };
            let (end, ()) = tokio::join!(served(far, &service), client);
            assert!(matches!(end, End::Closed(Why::Client)), "{end:?}");
        })
        .await;
}

#[tokio::test]
async fn an_end_without_a_goodbye_is_a_client_that_is_gone() {
    let (mut near, far) = duplex(WIDE);
    let service = Answering::new(|_: Request<Incoming>| pending());
    near.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    near.shutdown().await.unwrap();
    let end = served(Truncated(far), &service).await;
    assert!(matches!(end, End::Closed(Why::Gone)), "{:?}", end_of(&end));
}

fn end_of<IO>(end: &End<IO>) -> Option<Why> {
    match end {
        End::Closed(why) => Some(*why),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn an_upload_on_its_way_outlasts_the_answer_the_next_request_and_a_little_the_connection() {
    for ends in [true, false] {
        let (over, lasting) = oneshot::channel();
        let lasting = Cell::new(Some(lasting));
        let service = Answering::new(|_: Request<Incoming>| {
            let body = match lasting.take() {
                Some(lasting) => TestBody::Lasting(http_body_util::Full::from("one"), lasting),
                None => TestBody::from("two"),
            };
            async { Response::new(body) }
        });
        let (mut near, far) = duplex(WIDE);
        let over = Cell::new(Some(over));
        let client = async {
            near.write_all("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2).as_bytes())
                .await
                .unwrap();
            read_until(&mut near, "two").await;
            let sender = over.take().unwrap();
            assert!(!sender.is_closed());
            if ends {
                sender.send(()).unwrap();
            } else {
                over.set(Some(sender));
            }
            drop(near);
            Instant::now()
        };
        let (end, closed) = tokio::join!(served(far, &service), client);
        assert!(matches!(end, End::Closed(Why::Client)), "{end:?}");
        let waited = closed.elapsed().as_secs();
        assert_eq!(waited, if ends { 0 } else { 5 });
    }
}
