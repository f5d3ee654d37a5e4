//! What a client meets.

use std::cell::Cell;
use std::future::pending;

use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::*;
use crate::shared_testing::{TestBody, collect, data, trailers};
use crate::testing::*;
use gapura_http::http1::body::BodyError;
use gapura_http::http1::{Incoming, RefusalKind};
use http::{Request, Response};

const SECOND: Duration = Duration::from_secs(1);

/// Answers with the body and trailers of the request, once they have come.
async fn echo(request: Request<Incoming>) -> Response<TestBody> {
    match collect(request.into_body()).await {
        Ok((bytes, trailers)) => {
            let mut frames = vec![Ok(http_body::Frame::data(bytes))];
            frames.extend(trailers.map(|trailers| Ok(http_body::Frame::trailers(trailers))));
            Response::new(TestBody::frames(frames))
        }
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

/// Answers at once and never asks for the request's body.
async fn hasty(_: Request<Incoming>) -> Response<TestBody> {
    Response::new(TestBody::from("no"))
}

/// Sends a request without a body, and reads its answer.
async fn ask(
    client: &h2::client::SendRequest<Bytes>,
    path: &str,
) -> (
    Response<()>,
    Vec<u8>,
    Result<Option<HeaderMap>, Option<h2::Reason>>,
) {
    let mut client = client.clone().ready().await.unwrap();
    let (answer, _) = client.send_request(get(path), true).unwrap();
    let (parts, mut body) = answer.await.unwrap().into_parts();
    let (bytes, end) = read(&mut body).await;
    (Response::from_parts(parts, ()), bytes, end)
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    locally(async {
        let mut served = served(Noting::new(echo));
        let mut client = served.client().await;
        let (answer, mut upload) = client.send_request(post(&[]), false).unwrap();
        upload.send_data("one ".into(), false).unwrap();
        upload.send_data("two".into(), false).unwrap();
        let mut map = HeaderMap::new();
        map.insert("x-checksum", "7".parse().unwrap());
        map.insert("authorization", "evil".parse().unwrap());
        upload.send_trailers(map).unwrap();
        let mut body = answer.await.unwrap().into_body();
        let (bytes, end) = read(&mut body).await;
        assert_eq!(bytes, b"one two");
        let trailers = end.unwrap().unwrap();
        assert_eq!(
            (trailers.len(), &trailers["x-checksum"]),
            (1, &"7".parse().unwrap())
        );
    })
    .await;
}

#[tokio::test]
async fn trailers_behind_a_known_length_pass_if_they_came_or_were_announced() {
    locally(async {
        let mut served = served(Noting::new(echo));
        let mut raw = served.raw().await;
        let trailer = block(&[("x-checksum", "7")]);
        // All at once.
        let mut bytes = frame(
            HEADERS,
            END_HEADERS,
            1,
            &request_block("POST", &[("content-length", "3")]),
        );
        bytes.extend(frame(DATA, 0, 1, b"abc"));
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailer));
        raw.0.write_all(&bytes).await.unwrap();
        let text = |frame: RawFrame| String::from_utf8_lossy(&frame.payload).into_owned();
        raw.until(DATA).await;
        assert!(!raw.until(HEADERS).await.payload.is_empty());
        // One after the other.
        raw.request(
            3,
            0,
            "POST",
            &[("content-length", "3"), ("trailer", "x-checksum")],
        )
        .await;
        raw.send(DATA, 0, 3, b"abc").await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &trailer)
            .await;
        assert_eq!(text(raw.until(DATA).await), "abc");
        assert_eq!(raw.until(HEADERS).await.flags & END_STREAM, END_STREAM);
    })
    .await;
}

#[tokio::test]
async fn a_body_is_whole_when_its_bytes_are() {
    locally(async {
        for (length, pieces) in [("0", &[][..]), ("3", &["a", "bc"])] {
            let mut served = served(Noting::new(echo));
            let mut raw = served.raw().await;
            raw.request(1, 0, "POST", &[("content-length", length)])
                .await;
            for piece in pieces {
                raw.send(DATA, 0, 1, piece.as_bytes()).await;
            }
            // The end of the stream has not come, and the answer does not wait for it.
            assert_eq!(raw.until(HEADERS).await.stream, 1);
            let mut body = raw.until(DATA).await;
            while body.flags & END_STREAM == 0 {
                let next = raw.until(DATA).await;
                body.payload.extend_from_slice(&next.payload);
                body.flags = next.flags;
            }
            assert_eq!(body.payload, pieces.concat().as_bytes());
            // It comes late, as from curl and Firefox, and nothing is reset.
            raw.send(DATA, END_STREAM, 1, &[]).await;
            raw.send(PING, 0, 0, &[1; 8]).await;
            let next = raw.next().await.unwrap();
            assert!(matches!(next.kind, PING | WINDOW_UPDATE), "{next:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn more_or_fewer_bytes_than_announced_are_the_clients_fault_and_hurt_nobody_else() {
    locally(async {
        for pieces in [&["ab"][..], &["ab", "cd"]] {
            let seen = Rc::new(Cell::new(None));
            let noted = seen.clone();
            let mut served = served(Noting::new(move |request: Request<Incoming>| {
                let noted = noted.clone();
                async move {
                    let result = collect(request.into_body()).await;
                    noted.set(Some(result.map(|(bytes, _)| bytes.len())));
                    Response::new(TestBody::empty())
                }
            }));
            let mut raw = served.raw().await;
            raw.request(1, 0, "POST", &[("content-length", "3")]).await;
            for (at, piece) in pieces.iter().enumerate() {
                let end = if at + 1 == pieces.len() {
                    END_STREAM
                } else {
                    0
                };
                raw.send(DATA, end, 1, piece.as_bytes()).await;
            }
            assert_eq!(raw.until(RST_STREAM).await.code(), 1);
            raw.request(3, END_STREAM, "GET", &[]).await;
            assert_eq!(raw.until(HEADERS).await.stream, 3);
            assert_eq!(seen.take(), Some(Ok(0)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_that_breaks_is_told_from_one_that_is_malformed() {
    locally(async {
        let seen: Rc<RefCell<Vec<BodyError>>> = Rc::default();
        let (noted, went_on) = (seen.clone(), Rc::new(Notify::new()));
        let told = went_on.clone();
        let mut served = served(Noting::new(move |request: Request<Incoming>| {
            let (noted, told) = (noted.clone(), told.clone());
            async move {
                // Beside the answer, which a reset would end.
                tokio::task::spawn_local(async move {
                    if let Err(error) = collect(request.into_body()).await {
                        noted.borrow_mut().push(error);
                    }
                    told.notify_one();
                });
                pending().await
            }
        }));
        let mut raw = served.raw().await;
        raw.request(1, 0, "POST", &[("content-length", "3")]).await;
        raw.send(DATA, END_STREAM, 1, b"ab").await;
        assert!(timeout(SECOND * 10, went_on.notified()).await.is_ok());
        assert!(matches!(
            seen.borrow()[0],
            BodyError::Bad(_) | BodyError::Cut
        ));
        raw.request(3, 0, "POST", &[]).await;
        raw.send(RST_STREAM, 0, 3, &8_u32.to_be_bytes()).await;
        assert!(timeout(SECOND * 10, went_on.notified()).await.is_ok());
        assert_eq!(seen.borrow()[1], BodyError::Cut);
    })
    .await;
}

#[tokio::test]
async fn head_and_bodiless_answers_have_no_data() {
    locally(async {
        let mut served = served(Noting::new(|request: Request<Incoming>| async move {
            let mut response = Response::new(TestBody::from("abc"));
            response
                .headers_mut()
                .insert("content-length", "3".parse().unwrap());
            if request.uri().path() == "/none" {
                *response.status_mut() = StatusCode::NO_CONTENT;
            }
            response
        }));
        let mut raw = served.raw().await;
        raw.request(1, END_STREAM, "HEAD", &[]).await;
        let head = raw.until(HEADERS).await;
        assert_eq!(head.flags & END_STREAM, END_STREAM);
        raw.request(3, END_STREAM, "GET", &[]).await;
        let head = raw.until(HEADERS).await;
        assert_eq!(head.flags & END_STREAM, 0);
        assert_eq!(raw.until(DATA).await.payload, b"abc");
        let block = block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/none"),
        ]);
        raw.send(HEADERS, END_HEADERS | END_STREAM, 5, &block).await;
        let head = raw.until(HEADERS).await;
        assert_eq!(head.flags & END_STREAM, END_STREAM);
    })
    .await;
}

#[tokio::test]
async fn refusals_are_worded_by_the_service_and_end_their_stream_alone() {
    locally(async {
        let service = Noting::new(hasty);
        let mut served = served(service.clone());
        let mut client = served.client().await;
        let crumbs: Vec<_> = (0..101).map(|_| ("cookie", "a=b")).collect();
        let value = "b".repeat(33 * 1024);
        for (fields, kind) in [
            (&crumbs[..], RefusalKind::HeadersTooLarge),
            (&[("a", value.as_str())][..], RefusalKind::HeadersTooLarge),
            (
                &[("content-length", "3"), ("content-length", "3")][..],
                RefusalKind::BadRequest,
            ),
        ] {
            let (answer, mut upload) = client.send_request(post(fields), false).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), kind.status());
            let _ = upload.send_data(Bytes::from_static(b"abc"), true);
            let (bytes, end) = read(&mut answer.into_body()).await;
            assert!(!bytes.is_empty() && end.is_ok(), "{end:?}");
            assert_eq!(service.refusals().borrow_mut().pop().unwrap().kind, kind);
            client = client.ready().await.unwrap();
        }
        // Beyond what is decoded it is `h2` that says so, without a body.
        let value = "b".repeat(70_000);
        let (answer, _upload) = client.send_request(post(&[("a", &value)]), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 431);
        client = client.ready().await.unwrap();
        let (answer, ..) = ask(&client, &format!("/{}", "a".repeat(9000))).await;
        assert_eq!(answer.status(), StatusCode::URI_TOO_LONG);
        let (answer, bytes, _) = ask(&client, "/").await;
        assert_eq!((answer.status(), &bytes[..]), (StatusCode::OK, &b"no"[..]));
    })
    .await;
}

#[tokio::test]
async fn a_request_that_is_taken_back_is_dropped() {
    struct Dropped(Rc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    locally(async {
        let (begun, dropped) = (Rc::new(Notify::new()), Rc::new(Notify::new()));
        let (starts, ends) = (begun.clone(), dropped.clone());
        let mut served = served(Noting::new(move |request: Request<Incoming>| {
            let (starts, ends) = (starts.clone(), ends.clone());
            async move {
                if request.uri().path() == "/" {
                    let _dropped = Dropped(ends);
                    starts.notify_one();
                    pending::<()>().await;
                }
                Response::new(TestBody::from("ok"))
            }
        }));
        let mut client = served.client().await;
        let (answer, mut stream) = client.send_request(get("/"), true).unwrap();
        begun.notified().await;
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        timeout(SECOND * 10, dropped.notified()).await.unwrap();
        assert_eq!(ask(&client, "/b").await.1, b"ok");
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_told_and_hurts_no_other_stream() {
    locally(async {
        let release = Rc::new(Notify::new());
        let waits = release.clone();
        let service = Noting::new(move |request: Request<Incoming>| {
            let waits = waits.clone();
            async move {
                assert!(request.uri().path() != "/panic", "on purpose");
                waits.notified().await;
                Response::new(TestBody::from("ok"))
            }
        });
        let mut served = served(service.clone());
        let mut client = served.client().await;
        let (good, _) = client.send_request(get("/good"), true).unwrap();
        let mut client = client.ready().await.unwrap();
        let (bad, _) = client.send_request(get("/panic"), true).unwrap();
        assert!(bad.await.is_err());
        release.notify_one();
        let (bytes, end) = read(&mut good.await.unwrap().into_body()).await;
        assert_eq!((&bytes[..], end), (&b"ok"[..], Ok(None)));
        assert!(matches!(served.end.await.unwrap(), End::Closed));
        assert_eq!(service.panics.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn told_to_stop_it_says_so_twice_and_serves_what_is_under_way() {
    locally(async {
        let release = Rc::new(Notify::new());
        let waits = release.clone();
        let mut served = served(Noting::new(move |_: Request<Incoming>| {
            let waits = waits.clone();
            async move {
                waits.notified().await;
                Response::new(TestBody::from("ok"))
            }
        }));
        let mut raw = served.raw().await;
        raw.request(1, END_STREAM, "GET", &[]).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        served.stop.send(()).unwrap();
        let first = raw.until(GOAWAY).await;
        assert_eq!(&first.payload[..4], &[0x7f, 0xff, 0xff, 0xff]);
        let ping = raw.until(PING).await;
        // One that was sent before the client knew is served too.
        raw.request(3, END_STREAM, "GET", &[]).await;
        raw.send(PING, ACK, 0, &ping.payload).await;
        let last = raw.until(GOAWAY).await;
        assert_eq!(&last.payload[..4], &[0, 0, 0, 3]);
        release.notify_one();
        release.notify_one();
        assert_eq!(raw.until(DATA).await.payload, b"ok");
        release.notify_one();
        assert_eq!(raw.until(DATA).await.payload, b"ok");
        assert!(raw.next().await.is_none());
        assert!(matches!(served.end.await.unwrap(), End::Closed));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_says_so_is_the_connections_last() {
    locally(async {
        let mut served = served(Noting::new(|_: Request<Incoming>| async {
            let mut response = Response::new(TestBody::from("denied"));
            let headers = response.headers_mut();
            headers.insert("connection", "close".parse().unwrap());
            headers.insert("keep-alive", "timeout=1".parse().unwrap());
            response
        }));
        let client = served.client().await;
        let (answer, bytes, _) = ask(&client, "/").await;
        assert_eq!(bytes, b"denied");
        assert!(answer.headers().is_empty());
        let end = served.end.await.unwrap();
        assert!(matches!(end, End::Closed), "{end:?}");
        assert!(client.ready().await.is_err());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_arrives_and_the_rest_of_the_upload_is_read_past_within_bounds() {
    locally(async {
        // A megabyte that nobody reads: the stream ends well.
        let mut served = served(Noting::new(hasty));
        let mut client = served.client().await;
        for _ in 0..20 {
            client = client.ready().await.unwrap();
            let (answer, upload) = client.send_request(post(&[]), false).unwrap();
            let (sent, answered) = tokio::join!(fill(upload, 64), answer);
            let (bytes, end) = read(&mut answered.unwrap().into_body()).await;
            assert_eq!((&bytes[..], end, sent), (&b"no"[..], Ok(None), Ok(())));
        }
        // More than 8 MiB: it is stopped, and the answer has arrived.
        client = client.ready().await.unwrap();
        let (answer, upload) = client.send_request(post(&[]), false).unwrap();
        let (sent, answered) = tokio::join!(fill(upload, 1024), answer);
        let (bytes, _) = read(&mut answered.unwrap().into_body()).await;
        assert_eq!(
            (&bytes[..], sent),
            (&b"no"[..], Err(Some(h2::Reason::NO_ERROR)))
        );
        // Nothing comes for 5 s: the same.
        client = client.ready().await.unwrap();
        let (answer, mut upload) = client.send_request(post(&[]), false).unwrap();
        let (bytes, _) = read(&mut answer.await.unwrap().into_body()).await;
        assert_eq!(bytes, b"no");
        let begun = Instant::now();
        let reason = std::future::poll_fn(|cx| upload.poll_reset(cx)).await;
        assert_eq!(reason.unwrap(), h2::Reason::NO_ERROR);
        assert!(
            (4..=7).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        assert!(served.share.held().unread == 0);
    })
    .await;
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(100))]

    /// However a body is cut into frames, it is whole exactly if it is as long as announced.
    #[test]
    fn a_body_is_held_to_its_length(
        announced in proptest::option::of(0_usize..40),
        pieces in proptest::collection::vec(0_usize..20, 1..5),
        ended_apart in proptest::bool::ANY,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let seen = runtime.block_on(locally(body_seen(announced, &pieces, ended_apart)));
        let sum: usize = pieces.iter().sum();
        match announced {
            Some(announced) if sum > announced => {
                // It may have been whole before too much came.
                proptest::prop_assert!(seen.is_err() || seen == Ok(announced), "{:?}", seen);
            }
            Some(announced) if sum < announced => {
                proptest::prop_assert!(seen.is_err(), "{:?}", seen);
            }
            _ => proptest::prop_assert_eq!(seen, Ok(sum)),
        }
    }
}

/// How many bytes of a request's body the service saw, if it was whole.
async fn body_seen(
    announced: Option<usize>,
    pieces: &[usize],
    ended_apart: bool,
) -> Result<usize, BodyError> {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut served = served(Noting::new(move |request: Request<Incoming>| {
        let tell = tell.clone();
        async move {
            let (_, body) = request.into_parts();
            // Beside the exchange, which a reset ends.
            tokio::task::spawn_local(async move {
                let seen = collect(body).await.map(|(bytes, _)| bytes.len());
                let _ = tell.send(seen);
            });
            pending().await
        }
    }));
    let mut raw = served.raw().await;
    let length = announced.map(|length| length.to_string());
    let fields: Vec<_> = length
        .iter()
        .map(|length| ("content-length", length.as_str()))
        .collect();
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &request_block("POST", &fields));
    for (at, size) in pieces.iter().enumerate() {
        let last = at + 1 == pieces.len() && !ended_apart;
        let flags = if last { END_STREAM } else { 0 };
        bytes.extend(frame(DATA, flags, 1, &vec![7; *size]));
    }
    if ended_apart {
        bytes.extend(frame(DATA, END_STREAM, 1, &[]));
    }
    raw.0.write_all(&bytes).await.unwrap();
    timeout(SECOND * 10, told.recv()).await.unwrap().unwrap()
}

/// Sends `pieces` of 16 KiB and an end, as fast as they are taken.
async fn fill(mut stream: h2::SendStream<Bytes>, pieces: usize) -> Result<(), Option<h2::Reason>> {
    const PIECE: usize = 16 * 1024;
    for _ in 0..pieces {
        let mut piece = Bytes::from_static(&[7; PIECE]);
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let granted = std::future::poll_fn(|cx| {
                if let Poll::Ready(reset) = stream.poll_reset(cx) {
                    return Poll::Ready(Err(reset.ok()));
                }
                match stream.capacity() {
                    0 => match stream.poll_capacity(cx) {
                        Poll::Ready(Some(Ok(granted))) => Poll::Ready(Ok(granted)),
                        Poll::Ready(_) => Poll::Ready(Err(None)),
                        Poll::Pending => Poll::Pending,
                    },
                    granted => Poll::Ready(Ok(granted)),
                }
            })
            .await?;
            let next = piece.split_to(granted.min(piece.len()));
            stream
                .send_data(next, false)
                .map_err(|error| error.reason())?;
        }
    }
    stream
        .send_data(Bytes::new(), true)
        .map_err(|error| error.reason())
}

/// curl 7.88 waits for ever for an upload of unknown length that it gave up itself, unless another
/// frame comes.
#[tokio::test]
async fn a_client_whose_upload_ends_behind_its_answer_hears_something_more() {
    locally(async {
        let mut served = served(Noting::new(hasty));
        let mut raw = served.raw().await;
        raw.request(1, END_STREAM, "GET", &[]).await;
        raw.until(DATA).await;
        raw.request(3, 0, "POST", &[]).await;
        let answer = raw.until(DATA).await;
        assert_eq!((answer.stream, answer.flags), (3, END_STREAM));
        raw.send(DATA, END_STREAM, 3, b"").await;
        let next = timeout(SECOND * 10, raw.next()).await.unwrap().unwrap();
        assert_eq!((next.kind, next.flags), (PING, 0));
    })
    .await;
}

#[tokio::test]
async fn refused_uploads_do_not_stall_their_neighbours() {
    locally(async {
        // Each leaves 200 KiB unread; the connection's window is a megabyte.
        let mut served = served(Noting::new(|request: Request<Incoming>| async move {
            match request.headers().contains_key("x-refused") {
                true => hasty(request).await,
                false => echo(request).await,
            }
        }));
        let mut raw = served.raw().await;
        let mut stream = 1;
        for _ in 0..20 {
            raw.request(stream, 0, "POST", &[("x-refused", "1")]).await;
            for _ in 0..12 {
                raw.send(DATA, 0, stream, &[7; 16 * 1024]).await;
            }
            while raw.until(DATA).await.stream != stream {}
            raw.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await;
            stream += 2;
        }
        raw.request(stream, 0, "POST", &[]).await;
        raw.send(DATA, END_STREAM, stream, b"abc").await;
        loop {
            let frame = raw.until(DATA).await;
            if frame.stream == stream {
                assert_eq!(frame.payload, b"abc");
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn what_nobody_will_read_takes_no_room_while_its_answer_is_on_its_way() {
    locally(async {
        let mut served = served(Noting::new(|request: Request<Incoming>| async move {
            if request.headers().contains_key("x-slow") {
                drop(request);
                return pending().await;
            }
            echo(request).await
        }));
        // Together they are twice the connection's window.
        let mut client = served.client().await;
        let mut slow = Vec::new();
        for _ in 0..10 {
            let (answer, upload) = client
                .send_request(post(&[("x-slow", "1")]), false)
                .unwrap();
            slow.push(answer);
            assert_eq!(fill(upload, 12).await, Ok(()));
            client = client.ready().await.unwrap();
        }
        let (answer, upload) = client.send_request(post(&[]), false).unwrap();
        let (sent, answered) = tokio::join!(fill(upload, 12), answer);
        let (bytes, end) = read(&mut answered.unwrap().into_body()).await;
        assert_eq!((bytes.len(), end, sent), (12 * 16 * 1024, Ok(None), Ok(())));
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_behind_what_came() {
    locally(async {
        let mut served = served(Noting::new(|request: Request<Incoming>| async move {
            let (length, body) = match request.uri().path() {
                "/broken" => (
                    None,
                    TestBody::frames([Ok(data("part")), Err(BodyError::Cut)]),
                ),
                "/at-once" => (None, TestBody::frames([Err(BodyError::Cut)])),
                "/short" => (Some("5"), TestBody::frames([Ok(data("part"))])),
                "/empty" => (Some("5"), TestBody::empty()),
                "/long" => (Some("3"), TestBody::frames([Ok(data("part"))])),
                _ => (
                    Some("4"),
                    TestBody::frames([Ok(data("part")), Ok(trailers("x-t", "1"))]),
                ),
            };
            let mut response = Response::new(body);
            if let Some(length) = length {
                let length = length.parse().unwrap();
                response.headers_mut().insert("content-length", length);
            }
            response
        }));
        let client = served.client().await;
        for (path, part) in [
            ("/broken", "part"),
            ("/at-once", ""),
            ("/short", "part"),
            ("/empty", ""),
        ] {
            let (answer, bytes, end) = ask(&client, path).await;
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
            assert_eq!(bytes, part.as_bytes(), "{path}");
            assert_eq!(end, Err(Some(h2::Reason::INTERNAL_ERROR)), "{path}");
        }
        let (_, bytes, end) = ask(&client, "/long").await;
        assert_eq!((&bytes[..], end), (&b"par"[..], Ok(None)));
        let (_, bytes, end) = ask(&client, "/whole").await;
        assert_eq!((&bytes[..], end.unwrap().unwrap().len()), (&b"part"[..], 1));
    })
    .await;
}

#[tokio::test]
async fn interim_answers_pass_and_100_comes_when_the_body_is_asked_for() {
    locally(async {
        let mut served = served(Noting::new(|request: Request<Incoming>| async move {
            let interim = request.body().interim().unwrap();
            let mut fields = HeaderMap::new();
            fields.insert("link", "</a>".parse().unwrap());
            let early = http::StatusCode::EARLY_HINTS;
            assert!(!interim.send(StatusCode::OK, &fields));
            assert!(!interim.send(StatusCode::CONTINUE, &fields));
            assert!(interim.send(early, &fields));
            let response = match request.method() == http::Method::POST {
                true => echo(request).await,
                false => hasty(request).await,
            };
            let sent = (0..20).filter(|_| interim.send(early, &fields)).count();
            assert!(sent <= 8);
            response
        }));
        let mut client = served.client().await;
        let (mut answer, mut upload) = client
            .send_request(post(&[("expect", "100-continue")]), false)
            .unwrap();
        for status in [103, 100] {
            let interim = std::future::poll_fn(|cx| answer.poll_informational(cx)).await;
            assert_eq!(interim.unwrap().unwrap().status(), status);
        }
        upload.send_data("abc".into(), true).unwrap();
        let (bytes, _) = read(&mut answer.await.unwrap().into_body()).await;
        assert_eq!(bytes, b"abc");
        assert_eq!(ask(&client, "/").await.1, b"no");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_its_100_is_not_drained() {
    locally(async {
        let mut served = served(Noting::new(hasty));
        let mut raw = served.raw().await;
        let begun = Instant::now();
        raw.request(1, 0, "POST", &[("expect", "100-continue")])
            .await;
        assert_eq!(raw.until(RST_STREAM).await.code(), 0);
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_none_of_an_answer_loses_it_and_one_that_does_keeps_it() {
    locally(async {
        let mut served = served(Noting::new(|_: Request<Incoming>| async {
            Response::new(bulk(20))
        }));
        let mut raw = served.raw().await;
        let begun = Instant::now();
        raw.request(1, END_STREAM, "GET", &[]).await;
        // The window is never opened; pings are answered.
        let reset = answering_pings(&mut raw).await;
        assert_eq!(reset.code(), 8);
        assert!(
            (59..=63).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        // A little of it each half minute is progress.
        raw.request(3, END_STREAM, "GET", &[]).await;
        raw.send(WINDOW_UPDATE, 0, 0, &1_000_000_u32.to_be_bytes())
            .await;
        let mut taken = 0;
        while taken < 20 * 16 * 1024 {
            match timeout(SECOND * 30, raw.next()).await {
                Ok(frame) => {
                    let frame = frame.unwrap();
                    assert_ne!(frame.kind, RST_STREAM);
                    if frame.kind == PING && frame.flags == 0 {
                        raw.send(PING, ACK, 0, &frame.payload).await;
                    }
                    taken += if frame.kind == DATA {
                        frame.payload.len()
                    } else {
                        0
                    };
                }
                Err(_) => {
                    raw.send(WINDOW_UPDATE, 0, 3, &50_000_u32.to_be_bytes())
                        .await
                }
            }
        }
    })
    .await;
}

/// Reads until a stream is reset.
async fn answering_pings(raw: &mut Raw<tokio::io::DuplexStream>) -> RawFrame {
    loop {
        let frame = raw.next().await.unwrap();
        match (frame.kind, frame.flags) {
            (PING, 0) => raw.send(PING, ACK, 0, &frame.payload).await,
            (RST_STREAM, _) => return frame,
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_bytes_at_all_is_let_go() {
    locally(async {
        let service = Noting::new(|_: Request<Incoming>| async { Response::new(bulk(20)) });
        let mut served = served_with(service, Settings::client(), 8 * 1024);
        let mut raw = served.raw().await;
        let begun = Instant::now();
        raw.send(SETTINGS, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff])
            .await;
        raw.send(WINDOW_UPDATE, 0, 0, &1_000_000_000_u32.to_be_bytes())
            .await;
        for stream in [1, 3, 5, 7] {
            raw.request(stream, END_STREAM, "GET", &[]).await;
        }
        // It does not read, but it is there.
        let end = loop {
            match timeout(SECOND * 5, &mut served.end).await {
                Ok(end) => break end.unwrap(),
                Err(_) => raw.send(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).await,
            }
        };
        assert!(matches!(end, End::Stalled), "{end:?}");
        let took = begun.elapsed().as_secs();
        assert!((59..=66).contains(&took), "{took}");
        assert_eq!(served.streams.held().unread, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn connections_without_requests_are_ended_in_time() {
    locally(async {
        // No preface.
        let mut none = served(Noting::new(hasty));
        let begun = Instant::now();
        let mut silent = none.io.take().unwrap();
        assert!(matches!(none.end.await.unwrap(), End::NoPreface));
        assert!((9..=11).contains(&begun.elapsed().as_secs()));
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        // A preface, and no request; pings are none.
        let mut first = served(Noting::new(hasty));
        let mut raw = first.raw().await;
        let begun = Instant::now();
        raw.send(PING, 0, 0, &[1; 8]).await;
        let end = timeout(SECOND * 20, async {
            while raw.next().await.is_some() {}
            first.end.await.unwrap()
        });
        assert!(matches!(end.await.unwrap(), End::Idle));
        assert!(
            (9..=13).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        // A request, and none after it.
        let mut idle = served(Noting::new(hasty));
        let client = idle.client().await;
        assert_eq!(ask(&client, "/").await.1, b"no");
        let begun = Instant::now();
        let end = idle.end.await.unwrap();
        assert!(matches!(end, End::Idle), "{end:?}");
        assert!(
            (59..=65).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_rests_holds_no_tasks() {
    locally(async {
        let mut served = served(Noting::new(hasty));
        let client = served.client().await;
        // Each task holds one.
        let before = Rc::strong_count(&served.share);
        assert_eq!(ask(&client, "/").await.1, b"no");
        assert_eq!(Rc::strong_count(&served.share), before + 2);
        tokio::time::sleep(SECOND * 3).await;
        assert_eq!(Rc::strong_count(&served.share), before + 1);
        assert_eq!(ask(&client, "/").await.1, b"no");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_noticed_and_a_silent_one_that_is_there_is_served() {
    locally(async {
        let slow = |_: Request<Incoming>| async {
            tokio::time::sleep(SECOND * 300).await;
            Response::new(TestBody::from("late"))
        };
        let mut gone = served(Noting::new(slow));
        let mut raw = gone.raw().await;
        let begun = Instant::now();
        raw.request(1, END_STREAM, "GET", &[]).await;
        assert!(matches!(gone.end.await.unwrap(), End::Silent));
        assert!(
            (39..=44).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        assert!(raw.rest().await.iter().any(|frame| frame.kind == PING));
        let mut there = served(Noting::new(slow));
        let client = there.client().await;
        assert_eq!(ask(&client, "/").await.1, b"late");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_coming_is_given_up_but_not_that_of_grpc() {
    locally(async {
        let mut served = served(Noting::new(echo));
        let mut client = served.client().await;
        let begun = Instant::now();
        let (answer, _upload) = client.send_request(post(&[]), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
        assert!((29..=32).contains(&begun.elapsed().as_secs()));
        // A connection that rests has sent its hands home, and finds others when it is needed.
        tokio::time::sleep(SECOND * 5).await;
        let mut client = client.ready().await.unwrap();
        let grpc = [("content-type", "application/grpc+proto")];
        let (answer, mut upload) = client.send_request(post(&grpc), false).unwrap();
        tokio::time::sleep(SECOND * 200).await;
        upload.send_data("abc".into(), true).unwrap();
        let (bytes, _) = read(&mut answer.await.unwrap().into_body()).await;
        assert_eq!(bytes, b"abc");
    })
    .await;
}

#[tokio::test]
async fn floods_end_their_own_connection() {
    locally(async {
        // Streams opened and reset at once.
        let mut rapid = served(Noting::new(|_: Request<Incoming>| pending()));
        let mut raw = rapid.raw().await;
        let mut flood = Vec::new();
        for stream in (1..2001).step_by(2) {
            flood.extend(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                stream,
                &request_block("GET", &[]),
            ));
            flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        raw.0.write_all(&flood).await.unwrap();
        let end = timeout(SECOND * 10, rapid.end).await.unwrap().unwrap();
        assert!(
            matches!(end, End::Protocol(h2::Reason::ENHANCE_YOUR_CALM)),
            "{end:?}"
        );
        // A head that does not end.
        let mut endless = served(Noting::new(hasty));
        let mut raw = endless.raw().await;
        raw.send(HEADERS, END_STREAM, 1, &request_block("GET", &[]))
            .await;
        for _ in 0..1000 {
            let more = frame(CONTINUATION, 0, 1, &block(&[("a", "b")]));
            if raw.0.write_all(&more).await.is_err() {
                break;
            }
        }
        let end = timeout(SECOND * 10, endless.end).await.unwrap().unwrap();
        assert!(matches!(end, End::Protocol(_) | End::Broken(_)), "{end:?}");
        // Frames that cost nothing and bring nothing on: their sender is told to calm down.
        let mut quiet = served(Noting::new(hasty));
        let neighbour = quiet.client().await;
        for (what, one) in [
            ("pings", frame(PING, 0, 0, &[7; 8])),
            ("answers to pings", frame(PING, ACK, 0, &[7; 8])),
            ("settings", frame(SETTINGS, 0, 0, &[])),
            ("priorities", frame(2, 0, 1, &[0, 0, 0, 3, 7])),
            ("data without data", frame(DATA, 0, 1, &[])),
            ("windows of all", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
            ("windows of one", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
            ("kinds unknown", frame(0xbe, 0, 0, &[])),
        ] {
            let mut flooded = served(Noting::new(|_: Request<Incoming>| pending()));
            let mut raw = flooded.raw().await;
            raw.request(1, 0, "POST", &[]).await;
            for _ in 0..30 {
                if raw.0.write_all(&one.repeat(100)).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            let code = raw.until(GOAWAY).await.code();
            assert_eq!(code, u32::from(h2::Reason::ENHANCE_YOUR_CALM), "{what}");
            let end = timeout(SECOND * 10, flooded.end).await.unwrap().unwrap();
            let calm = matches!(end, End::Protocol(h2::Reason::ENHANCE_YOUR_CALM));
            assert!(calm, "{what}: {end:?}");
            assert_eq!(ask(&neighbour, "/").await.1, b"no", "{what}");
        }
        // A connection that does none of it goes on.
        let mut good = served(Noting::new(hasty));
        let client = good.client().await;
        for _ in 0..500 {
            assert_eq!(ask(&client, "/").await.1, b"no");
        }
    })
    .await;
}

#[tokio::test]
async fn heads_that_are_malformed_without_end_end_the_connection_and_each_is_told_of() {
    locally(async {
        let service = Noting::new(hasty);
        let mut served = served(service.clone());
        let mut raw = served.raw().await;
        let block = request_block("GET", &[("connection", "close")]);
        for stream in (1..2300).step_by(2) {
            let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            if raw.0.write_all(&head).await.is_err() {
                break;
            }
        }
        let code = raw.until(GOAWAY).await.code();
        assert_eq!(code, u32::from(h2::Reason::ENHANCE_YOUR_CALM));
        let end = timeout(SECOND * 10, served.end).await.unwrap().unwrap();
        assert!(matches!(end, End::Protocol(_)), "{end:?}");
        let told = service.refusals().borrow().len();
        assert!((1000..=1024).contains(&told), "{told} of them");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_answers_and_updates_as_it_should_is_no_flood() {
    locally(async {
        let mut served = served(Noting::new(|_: Request<Incoming>| async {
            let pieces = (0..5000).map(|_| Ok(data("a piece")));
            Response::new(TestBody::frames(pieces))
        }));
        let mut raw = served.raw().await;
        raw.request(1, END_STREAM, "GET", &[]).await;
        let mut came = 0;
        while came < 5000 * 7 {
            let data = raw.until(DATA).await;
            came += data.payload.len();
            let credit = u32::try_from(data.payload.len()).unwrap().to_be_bytes();
            raw.send(WINDOW_UPDATE, 0, 0, &credit).await;
            raw.send(WINDOW_UPDATE, 0, 1, &credit).await;
        }
        raw.request(3, END_STREAM, "GET", &[]).await;
        while raw.until(DATA).await.stream != 3 {}
    })
    .await;
}

#[tokio::test]
async fn what_h2_refuses_by_itself_is_worded_for_its_line() {
    locally(async {
        let service = Noting::new(hasty);
        let mut served = served(service.clone());
        let mut raw = served.raw().await;
        // A good one, one that is malformed, one that is far too large, and one whose body is.
        raw.request(1, END_STREAM, "GET", &[]).await;
        raw.request(3, END_STREAM, "GET", &[("connection", "close")])
            .await;
        assert_eq!(raw.until(RST_STREAM).await.stream, 3);
        let name = "a".repeat(30_000);
        let large = request_block("GET", &[("b", &name)]);
        raw.send(HEADERS, END_STREAM, 5, &large).await;
        for part in 1..10 {
            let last = if part == 9 { END_HEADERS } else { 0 };
            let more = block(&[("c", &name)]);
            raw.send(CONTINUATION, last, 5, &more).await;
        }
        while raw.until(HEADERS).await.stream != 5 {}
        raw.request(7, 0, "POST", &[("content-length", "1")]).await;
        raw.send(DATA, END_STREAM, 7, b"two").await;
        raw.request(9, END_STREAM, "GET", &[]).await;
        while raw.until(HEADERS).await.stream != 9 {}
        let told: Vec<_> = service
            .refusals()
            .borrow()
            .iter()
            .map(|refusal| (refusal.kind, refusal.seen.method.clone()))
            .collect();
        assert_eq!(
            told,
            [
                (RefusalKind::BadRequest, None),
                (RefusalKind::HeadersTooLarge, None)
            ],
            "the last was handed on, and is told of as a request"
        );
    })
    .await;
}

#[tokio::test]
async fn what_nobody_reads_is_in_the_sums_until_it_goes() {
    locally(async {
        let release = Rc::new(Notify::new());
        let waits = release.clone();
        let mut served = served(Noting::new(move |request: Request<Incoming>| {
            let waits = waits.clone();
            async move {
                waits.notified().await;
                echo(request).await
            }
        }));
        let mut raw = served.raw().await;
        raw.request(1, 0, "POST", &[]).await;
        for _ in 0..8 {
            raw.send(DATA, 0, 1, &[7; 16 * 1024]).await;
        }
        let held = timeout(SECOND * 10, async {
            loop {
                tokio::task::yield_now().await;
                served.streams.look();
                let held = served.share.held().unread;
                if held == 128 * 1024 {
                    break held;
                }
            }
        });
        let held = held.await.unwrap();
        assert_eq!(served.streams.held().unread, held);
        release.notify_one();
        raw.send(DATA, END_STREAM, 1, b"").await;
        raw.until(HEADERS).await;
        assert_eq!(served.streams.held().unread, 0);
        assert!(served.share.held().unsent < 128 * 1024 + 1);
    })
    .await;
}

#[tokio::test]
async fn an_endless_upload_and_its_answer_flow_side_by_side() {
    locally(async {
        let mut served = served(Noting::new(|request: Request<Incoming>| async move {
            Response::new(TestBody::Incoming(request.into_body()))
        }));
        let mut client = served.client().await;
        let (answer, upload) = client.send_request(post(&[]), false).unwrap();
        let (sent, bytes) = tokio::join!(fill(upload, 320), async {
            let mut body = answer.await.unwrap().into_body();
            read(&mut body).await
        });
        assert_eq!(sent, Ok(()));
        assert_eq!((bytes.0.len(), bytes.1), (320 * 16 * 1024, Ok(None)));
    })
    .await;
}

#[tokio::test]
async fn of_many_requests_at_once_no_more_than_sixteen_are_taken_before_others_have_a_turn() {
    locally(async {
        let taken = Rc::new(Cell::new(0_usize));
        let counted = taken.clone();
        let mut served = served(Noting::new(move |_| {
            counted.set(counted.get() + 1);
            pending()
        }));
        let mut raw = served.raw().await;
        let mut bytes = Vec::new();
        for number in 0..80 {
            let head = request_block("GET", &[]);
            bytes.extend(frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                number * 2 + 1,
                &head,
            ));
        }
        raw.0.write_all(&bytes).await.unwrap();
        // Somebody else on the same worker, who is always ready for another turn.
        let (mut turns, mut before) = (Vec::new(), 0);
        let other = taken.clone();
        let other = tokio::task::spawn_local(poll_fn(move |cx| {
            let now = other.get();
            turns.push(now - std::mem::replace(&mut before, now));
            if now == 80 {
                return Poll::Ready(std::mem::take(&mut turns));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let turns = timeout(SECOND * 20, other).await.unwrap().unwrap();
        assert_eq!(taken.get(), 80);
        assert!(turns.iter().all(|taken| *taken <= 16), "{turns:?}");
    })
    .await;
}
