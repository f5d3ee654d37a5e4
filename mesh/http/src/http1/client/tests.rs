//! What a server meets, and what its answers make of the connection.

use std::future::Future;
use std::pin::pin;

use http::{Method, Version, header};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http1::body::BodyError;
use crate::http1::testing::{TestBody, Truncated, collect, data, trailers};

type Near = Connection<DuplexStream, TestBody>;

fn pair(width: usize) -> (Near, DuplexStream) {
    let (near, far) = duplex(width);
    let near = Connection::new(near, Settings::default(), &Buffers::new());
    (near, far)
}

fn get(path: &str) -> Request<TestBody> {
    Request::get(path)
        .header("host", "a")
        .body(TestBody::empty())
        .unwrap()
}

fn post(body: impl Into<TestBody>) -> Request<TestBody> {
    Request::post("/")
        .header("host", "a")
        .body(body.into())
        .unwrap()
}

/// Reads a whole request, of no body or up to `end`, and answers.
async fn answer(far: &mut DuplexStream, end: &str, answer: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(far.read_u8().await.unwrap());
    }
    far.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8(text).unwrap()
}

async fn send(
    near: &Near,
    request: Request<TestBody>,
) -> Result<Response<Incoming>, SendError<TestBody>> {
    near.send(request, |_, _| {}).await
}

/// What `answer` alone is taken for, as the answer to a GET: the body, or what went wrong.
async fn taken(answer_text: &str) -> (Result<String, String>, bool) {
    let (near, mut far) = pair(1 << 20);
    let exchange = async {
        let response = match send(&near, get("/")).await {
            Ok(response) => response,
            Err(error) => return Err(format!("{error}")),
        };
        match collect(response.into_body()).await {
            Ok((bytes, _)) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            Err(error) => Err(format!("{error:?}")),
        }
    };
    let server = async {
        answer(&mut far, "\r\n\r\n", answer_text).await;
        far.shutdown().await.unwrap();
    };
    let (result, ()) = tokio::join!(exchange, server);
    (result, near.is_reusable())
}

#[tokio::test]
async fn one_request_after_another_on_one_connection() {
    let (near, mut far) = pair(1 << 16);
    for (request, seen, end) in [
        (
            get("/a?b"),
            "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n",
            "\r\n\r\n",
        ),
        (
            post("body"),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody",
            "body",
        ),
        (
            post(""),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            "\r\n\r\n",
        ),
        (
            post(TestBody::chunks(["ab", "c"])),
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            "0\r\n\r\n",
        ),
        // Of unknown length, and none: the request says so.
        (
            post(TestBody::chunks([])),
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
            "\r\n\r\n",
        ),
        (
            post(TestBody::frames([Ok(data("a")), Ok(trailers("x-t", "1"))])),
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: 1\r\n\r\n",
            "x-t: 1\r\n\r\n",
        ),
    ] {
        assert!(near.is_reusable());
        let exchange = async {
            let response = send(&near, request).await.unwrap();
            assert_eq!(response.status(), 200);
            assert!(!near.is_reusable());
            collect(response.into_body()).await.unwrap().0
        };
        let server = answer(
            &mut far,
            end,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        );
        let (body, text) = tokio::join!(exchange, server);
        assert_eq!((text.as_str(), &body[..]), (seen, &b"ok"[..]));
    }
    assert!(near.is_reusable());
}

#[tokio::test]
async fn an_answer_is_whole_by_its_own_framing_and_the_connection_reusable_only_then() {
    for (text, body, reusable) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", true),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            "",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "ok",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            true,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "",
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nok", "ok", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok!",
            "ok",
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
            "",
            false,
        ),
        (
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            "",
            false,
        ),
    ] {
        assert_eq!(
            taken(text).await,
            (Ok(body.to_owned()), reusable),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_none_or_not_whole_says_why() {
    for (text, reason) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", "Cut"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
            "Cut",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok!",
            "Bad(\"a chunk is longer than its size\")",
        ),
        ("HTTP/1.1 200 OK\r\n", "the answer broke off in its head"),
        ("", "the connection was closed before an answer"),
        ("HELO\r\n", "the answer does not begin with HTTP/1"),
        (
            "HTTP/1.1 200 OK\nA: b\n\n",
            "a line ends without its carriage return",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "two Content-Length fields",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "Content-Length beside Transfer-Encoding",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "a switch of protocols that nobody asked for",
        ),
    ] {
        assert_eq!(
            taken(text).await,
            (Err(reason.to_owned()), false),
            "{text:?}"
        );
    }
    let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(70_000));
    assert_eq!(
        taken(&large).await.0.unwrap_err(),
        "the fields are larger than allowed"
    );
    let hints = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        taken(&(hints.repeat(8) + answer)).await,
        (Ok(String::new()), true)
    );
    let (many, _) = taken(&(hints.repeat(9) + answer)).await;
    assert_eq!(many.unwrap_err(), "too many interim answers");
}

#[tokio::test]
async fn a_head_request_is_answered_without_a_body() {
    let (near, mut far) = pair(1 << 16);
    let mut request = get("/");
    *request.method_mut() = Method::HEAD;
    let exchange = async {
        let response = send(&near, request).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "5");
        assert!(Body::is_end_stream(response.body()));
        assert!(near.is_reusable());
    };
    let server = answer(
        &mut far,
        "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    );
    tokio::join!(exchange, server);
}

#[tokio::test]
async fn interim_answers_are_told_but_for_100() {
    let (near, mut far) = pair(1 << 16);
    let mut told = Vec::new();
    let exchange = near.send(get("/"), |status, headers| {
        told.push((
            status.as_u16(),
            headers["link"].to_str().unwrap().to_owned(),
        ));
    });
    let server = answer(
        &mut far,
        "\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    );
    let (response, _) = tokio::join!(exchange, server);
    assert_eq!(response.unwrap().status(), 204);
    assert_eq!(told, [(103, "</a>".to_owned())]);
}

#[tokio::test]
async fn what_comes_before_a_request_never_answers_it() {
    let unasked = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    for text in ["", "x", unasked] {
        let (near, mut far) = pair(1 << 16);
        far.write_all(text.as_bytes()).await.unwrap();
        if text.is_empty() {
            drop(far);
        }
        match send(&near, post("body")).await.unwrap_err() {
            SendError::Unsent { request, error } => {
                assert_eq!(request.uri(), "/");
                assert!(error.is_none());
                let body = request.into_body().collect().await.unwrap();
                assert_eq!(body.to_bytes(), "body");
            }
            other => panic!("{other}"),
        }
        assert!(!near.is_reusable());
    }
}

#[tokio::test]
async fn an_idle_connection_is_watched_and_owns_no_buffer() {
    for text in ["", "x"] {
        let (near, far) = duplex(1 << 16);
        let buffers = Buffers::new();
        let near = Connection::<_, TestBody>::new(near, Settings::default(), &buffers);
        let mut far = far;
        let exchange = async {
            let response = send(&near, get("/")).await.unwrap();
            collect(response.into_body()).await.unwrap();
        };
        tokio::join!(
            exchange,
            answer(
                &mut far,
                "\r\n\r\n",
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            )
        );
        let mut idle = pin!(poll_fn(|cx| near.poll_idle(cx)));
        poll_fn(|cx| {
            assert!(idle.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(buffers.spare(), 2);
        assert!(near.is_reusable());
        far.write_all(text.as_bytes()).await.unwrap();
        drop(far);
        idle.await;
        assert!(!near.is_reusable());
    }
}

#[tokio::test]
async fn closed_before_an_answer_gives_back_what_may_be_sent_again() {
    for (request, whole) in [(get("/x"), true), (post("body"), false)] {
        let (near, mut far) = pair(1 << 16);
        let server = async {
            let mut some = [0; 8];
            far.read_exact(&mut some).await.unwrap();
            drop(far);
        };
        let (result, ()) = tokio::join!(send(&near, request), server);
        match result.unwrap_err() {
            SendError::Closed { request, .. } => assert_eq!(request.is_some(), whole),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_switch_hands_over_the_stream_with_what_came_behind_it() {
    let (near, mut far) = pair(1 << 16);
    let request = Request::get("/")
        .header("host", "a")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(TestBody::empty())
        .unwrap();
    let exchange = async {
        let response = send(&near, request).await.unwrap();
        assert_eq!(response.status(), 101);
        assert!(near.upgraded().is_some_and(|(_, read)| read == "early"));
        assert!(!near.is_reusable() && near.upgraded().is_none());
        assert!(collect(response.into_body()).await.unwrap().0.is_empty());
    };
    let server = answer(
        &mut far,
        "\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly",
    );
    let ((), text) = tokio::join!(exchange, server);
    assert_eq!(
        text,
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
    );
}

#[tokio::test]
async fn the_upload_goes_on_while_the_answer_is_read_and_after_its_end() {
    let (near, mut far) = pair(64);
    let (sender, body) = TestBody::channel();
    sender.send(Ok(data("first"))).unwrap();
    let exchange = async {
        let response = send(&near, post(body)).await.unwrap();
        sender.send(Ok(data("second"))).unwrap();
        let (bytes, _) = collect(response.into_body()).await.unwrap();
        assert_eq!(bytes, "ok");
        assert!(!near.is_reusable());
        sender.send(Ok(data("third"))).unwrap();
        drop(sender);
        poll_fn(|cx| near.poll_upload(cx)).await;
        assert!(near.is_reusable());
    };
    let server = async {
        answer(
            &mut far,
            "first\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        )
        .await;
        answer(&mut far, "second\r\n", "ok").await;
        answer(&mut far, "third\r\n0\r\n\r\n", "").await;
    };
    tokio::join!(exchange, server);
}

#[tokio::test]
async fn an_upload_that_fails_before_the_answer_is_the_reason() {
    let fails = || TestBody::frames([Ok(data("ab")), Err(BodyError::Bad("broken"))]);
    let (near, _far) = pair(1 << 16);
    match send(&near, post(fails())).await.unwrap_err() {
        SendError::Upload(Some(error)) => assert_eq!(error, BodyError::Bad("broken")),
        other => panic!("{other}"),
    }
    let (near, _far) = pair(1 << 16);
    let mut short = post("ab");
    short
        .headers_mut()
        .insert("content-length", "5".parse().unwrap());
    assert!(matches!(
        send(&near, short).await.unwrap_err(),
        SendError::Upload(None)
    ));
    assert!(!near.is_reusable());
}

#[tokio::test]
async fn an_upload_that_fails_behind_the_head_of_the_answer_is_visibly_cut() {
    let (near, mut far) = pair(1 << 16);
    let (sender, body) = TestBody::channel();
    sender.send(Ok(data("ab"))).unwrap();
    let exchange = async {
        let response = send(&near, post(body)).await.unwrap();
        sender.send(Err(BodyError::Cut)).unwrap();
        let (bytes, _) = collect(response.into_body()).await.unwrap();
        assert_eq!(bytes, "ok");
        assert!(!near.is_reusable());
    };
    let server = async {
        answer(
            &mut far,
            "ab\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        )
        .await;
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        far.write_all(b"ok").await.unwrap();
    };
    tokio::join!(exchange, server);
}

#[tokio::test]
async fn an_answer_that_comes_before_the_server_stops_reading_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (mut far, _) = listener.accept().await.unwrap();
    let near: Connection<_, TestBody> = Connection::new(near, Settings::default(), &Buffers::new());
    let large = "x".repeat(64 << 20);
    let exchange = near.send(post(large.as_str()), |_, _| {});
    let server = async {
        let mut some = [0; 100];
        far.read_exact(&mut some).await.unwrap();
        far.write_all(
            b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
        .await
        .unwrap();
        far
    };
    let (response, far) = tokio::join!(exchange, server);
    assert_eq!(response.unwrap().status(), 413);
    drop(far);
    assert!(!near.is_reusable());
}

#[tokio::test]
async fn an_answer_that_nobody_reads_spoils_the_connection() {
    let (near, mut far) = pair(1 << 16);
    let exchange = async {
        drop(send(&near, get("/")).await.unwrap());
        assert!(!near.is_reusable());
    };
    tokio::join!(
        exchange,
        answer(
            &mut far,
            "\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        )
    );
    let (near, _far) = pair(1 << 16);
    {
        let mut sending = pin!(send(&near, get("/")));
        poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx).is_pending())).await;
    }
    assert!(!near.is_reusable());
}

#[tokio::test]
async fn the_version_of_an_answer_is_what_it_says() {
    let (near, mut far) = pair(1 << 16);
    let (response, _) = tokio::join!(
        send(&near, get("/")),
        answer(&mut far, "\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n")
    );
    assert_eq!(response.unwrap().version(), Version::HTTP_10);
}

#[tokio::test]
async fn until_close_is_whole_only_at_a_proper_end() {
    for (text, cut) in [
        ("HTTP/1.1 200 OK\r\n\r\nok", true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
    ] {
        let (near, mut far) = duplex(1 << 16);
        let near: Connection<_, TestBody> =
            Connection::new(Truncated(near), Settings::default(), &Buffers::new());
        let exchange = async {
            let response = near.send(get("/"), |_, _| {}).await.unwrap();
            collect(response.into_body()).await
        };
        let server = async {
            answer(&mut far, "\r\n\r\n", text).await;
            drop(far);
        };
        let (body, ()) = tokio::join!(exchange, server);
        if cut {
            let gone = BodyError::Gone(io::ErrorKind::UnexpectedEof);
            assert_eq!(body.unwrap_err(), gone);
        } else {
            assert_eq!(body.unwrap().0, "ok");
        }
    }
}
