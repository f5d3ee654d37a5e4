//! What a server sees of a client, and what the client's user hears.

use std::future::pending;

use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::*;
use crate::held::Streams;
use crate::server;
use crate::shared_testing::{Clock, TestBody, collect, data, trailers};
use crate::testing::*;
use gapura_http::http1::body::BodyError;

const SECOND: Duration = Duration::from_secs(1);

/// A connection to a server by hand; a task drives it.
struct Opened {
    connection: Connection<Clock>,
    raw: Raw<DuplexStream>,
    streams: Streams,
    share: Rc<Share>,
    driver: tokio::task::JoinHandle<()>,
}

async fn opened() -> Opened {
    let (near, far) = duplex(WIDE);
    let streams = Streams::new(usize::MAX);
    let share = streams.open();
    let mut raw = Raw(far);
    let shaken = Connection::handshake(near, Settings::default(), &Clock, &share);
    let (shaken, ()) = tokio::join!(shaken, async {
        let mut preface = [0_u8; 24];
        raw.0.read_exact(&mut preface).await.unwrap();
        raw.until(SETTINGS).await;
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw.send(SETTINGS, ACK, 0, &[]).await;
    });
    let (connection, driver) = shaken.unwrap();
    let driver = tokio::task::spawn_local(driver);
    Opened {
        connection,
        raw,
        streams,
        share,
        driver,
    }
}

fn owner() -> Rc<Owner> {
    Streams::new(usize::MAX).owner(None)
}

fn asking() -> Request<TestBody> {
    get("/").map(|()| TestBody::empty())
}

fn sending(body: TestBody) -> Request<TestBody> {
    post(&[]).map(|()| body)
}

type Answered = Result<Response<Incoming>, SendError<TestBody>>;

/// Sends a request in a task of its own.
fn send(
    connection: &Connection<Clock>,
    request: Request<TestBody>,
) -> tokio::task::JoinHandle<Answered> {
    let connection = connection.clone();
    tokio::task::spawn_local(async move { connection.send(request, &owner(), |_, _| {}).await })
}

impl Raw<DuplexStream> {
    async fn answer(&mut self, stream: u32, flags: u8, fields: &[(&str, &str)]) {
        let mut all = vec![(":status", "200")];
        all.extend_from_slice(fields);
        self.send(HEADERS, flags | END_HEADERS, stream, &block(&all))
            .await;
    }
}

#[tokio::test]
async fn no_request_is_written_before_the_settings_have_come() {
    locally(async {
        let (near, mut far) = duplex(WIDE);
        let share = Streams::new(usize::MAX).open();
        let shaking = Connection::handshake(near, Settings::default(), &Clock, &share);
        assert!(timeout(Duration::from_millis(50), shaking).await.is_err());
        let mut preface = [0_u8; 24];
        far.read_exact(&mut preface).await.unwrap();
        let frames = Raw(far).rest().await;
        assert!(
            frames.iter().all(|frame| frame.kind != HEADERS),
            "{frames:?}"
        );
        // With them it is ready.
        let Opened { connection, .. } = opened().await;
        assert!(connection.is_open() && connection.has_room());
    })
    .await;
}

#[tokio::test]
async fn what_the_stream_failed_with_is_told() {
    locally(async {
        let (near, far) = duplex(WIDE);
        drop(far);
        let share = Streams::new(usize::MAX).open();
        let shaken = Connection::handshake(near, Settings::default(), &Clock, &share).await;
        assert_eq!(shaken.err().unwrap().kind(), io::ErrorKind::BrokenPipe);
    })
    .await;
}

#[tokio::test]
async fn a_request_its_interim_answers_and_its_answer() {
    locally(async {
        let Opened {
            connection,
            mut raw,
            share,
            ..
        } = opened().await;
        let heard = Rc::new(RefCell::new(Vec::new()));
        let (noted, sender) = (heard.clone(), connection.clone());
        let answer = tokio::task::spawn_local(async move {
            let body = TestBody::frames([Ok(data("abc")), Ok(trailers("x-t", "1"))]);
            let interim = |status: StatusCode, _| noted.borrow_mut().push(status.as_u16());
            let answer = sender.send(sending(body), &owner(), interim).await.unwrap();
            collect(answer.into_body()).await.unwrap()
        });
        assert_eq!(raw.until(HEADERS).await.stream, 1);
        assert_eq!(raw.until(DATA).await.payload, b"abc");
        assert_eq!(raw.until(HEADERS).await.flags & END_STREAM, END_STREAM);
        assert_eq!(connection.open(), 1);
        for status in ["100", "103"] {
            let head = block(&[(":status", status), ("link", "</a>")]);
            raw.send(HEADERS, END_HEADERS, 1, &head).await;
        }
        raw.answer(1, 0, &[]).await;
        raw.send(DATA, 0, 1, b"one ").await;
        raw.send(DATA, 0, 1, b"two").await;
        let tail = block(&[("grpc-status", "0"), ("content-length", "9")]);
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &tail).await;
        let (bytes, trailers) = answer.await.unwrap();
        assert_eq!(bytes, "one two");
        assert_eq!(trailers.unwrap().len(), 1);
        assert_eq!(*heard.borrow(), [103]);
        assert_eq!(connection.open(), 0);
        assert_eq!(share.held(), crate::Held::default());
    })
    .await;
}

#[tokio::test]
async fn nonsense_is_no_answer() {
    locally(async {
        for (heads, fields) in [
            (vec!["103"; 9], &[][..]),
            (vec!["101"], &[]),
            (
                vec![],
                &[("content-length", "1"), ("content-length", "1")][..],
            ),
            (vec![], &[("a", "b"); 129][..]),
        ] {
            let Opened {
                connection,
                mut raw,
                ..
            } = opened().await;
            let answer = send(&connection, asking());
            raw.until(HEADERS).await;
            for status in heads {
                let head = block(&[(":status", status)]);
                raw.send(HEADERS, END_HEADERS, 1, &head).await;
            }
            raw.answer(1, END_STREAM, fields).await;
            let answer = answer.await.unwrap();
            assert!(matches!(answer, Err(SendError::Protocol(_))), "{answer:?}");
            // The connection is none the worse.
            let answer = send(&connection, asking());
            assert_eq!(raw.until(HEADERS).await.stream, 3);
            raw.answer(3, END_STREAM, &[("a", "b"); 128]).await;
            assert!(answer.await.unwrap().is_ok());
        }
    })
    .await;
}

#[tokio::test]
async fn what_reached_nobody_comes_back_whole() {
    locally(async {
        // The peer did not look at it.
        let mut it = opened().await;
        let answer = send(&it.connection, asking());
        it.raw.until(HEADERS).await;
        it.raw.send(RST_STREAM, 0, 1, &7_u32.to_be_bytes()).await;
        let Err(SendError::Unsent { request, .. }) = answer.await.unwrap() else {
            panic!("not unsent")
        };
        assert_eq!(request.uri(), "http://a/");
        // The same with a body, of which some is gone.
        let answer = send(&it.connection, sending(TestBody::from("abc")));
        it.raw.until(DATA).await;
        it.raw.send(RST_STREAM, 0, 3, &7_u32.to_be_bytes()).await;
        let answer = answer.await.unwrap();
        assert!(
            matches!(answer, Err(SendError::Closed { .. })),
            "{answer:?}"
        );
        // The peer has looked at it.
        let answer = send(&it.connection, asking());
        it.raw.until(HEADERS).await;
        it.raw.send(RST_STREAM, 0, 5, &2_u32.to_be_bytes()).await;
        let answer = answer.await.unwrap();
        assert!(
            matches!(answer, Err(SendError::Closed { .. })),
            "{answer:?}"
        );
        // It was gone before anything was written.
        drop(it.raw);
        let answer = send(&it.connection, asking()).await.unwrap();
        assert!(
            matches!(answer, Err(SendError::Unsent { .. })),
            "{answer:?}"
        );
        assert!(!it.connection.is_open());
        // It went with the requests that shared it: those that nobody has begun to answer come
        // back, where they have no body.
        let mut it = opened().await;
        let first = send(&it.connection, asking());
        let hinted = send(&it.connection, asking());
        let upload = send(&it.connection, sending(TestBody::from("abc")));
        it.raw.until(DATA).await;
        let hint = block(&[(":status", "103")]);
        it.raw.send(HEADERS, END_HEADERS, 3, &hint).await;
        it.raw.send(PING, 0, 0, &[7; 8]).await;
        it.raw.until(PING).await;
        drop(it.raw);
        for (answer, comes_back) in [(first, true), (hinted, false), (upload, false)] {
            let answer = answer.await.unwrap();
            let Err(SendError::Closed { request, .. }) = answer else {
                panic!("{answer:?}")
            };
            assert_eq!(request.is_some(), comes_back);
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_that_can_be_made_once_more_is_made_then_and_not_before() {
    locally(async {
        let sent = |it: &Opened, body: TestBody, made: &Rc<Cell<u32>>| {
            let (connection, made) = (it.connection.clone(), made.clone());
            tokio::task::spawn_local(async move {
                let again = || {
                    made.set(made.get() + 1);
                    Some(get("/again"))
                };
                let (request, owner) = (Box::new(asking().map(|_| body)), owner());
                let sent = connection.send_as(request, Some(&again), &owner, |_, _| {});
                sent.await
            })
        };
        let made = Rc::new(Cell::new(0));
        let mut it = opened().await;
        let answer = sent(&it, TestBody::empty(), &made);
        it.raw.until(HEADERS).await;
        it.raw.answer(1, END_STREAM, &[]).await;
        assert!(answer.await.unwrap().is_ok() && made.get() == 0);
        // The peer did not look at it.
        let answer = sent(&it, TestBody::empty(), &made);
        it.raw.until(HEADERS).await;
        it.raw.send(RST_STREAM, 0, 3, &7_u32.to_be_bytes()).await;
        let Err(SendError::Unsent { request, .. }) = answer.await.unwrap() else {
            panic!("not unsent")
        };
        assert_eq!((request.uri().path(), made.get()), ("/again", 1));
        // It went with the connection; what has a body does not come back, and is not made.
        for (body, comes_back) in [(TestBody::empty(), true), (TestBody::from("abc"), false)] {
            let (mut it, made) = (opened().await, Rc::new(Cell::new(0)));
            let answer = sent(&it, body, &made);
            it.raw.until(HEADERS).await;
            drop(it.raw);
            let Err(SendError::Closed { request, .. }) = answer.await.unwrap() else {
                panic!("not closed")
            };
            assert_eq!(request.is_some(), comes_back);
            assert_eq!(made.get(), u32::from(comes_back));
        }
    })
    .await;
}

#[tokio::test]
async fn a_goodbye_ends_new_requests_and_not_those_under_way() {
    locally(async {
        let mut it = opened().await;
        let answer = send(&it.connection, asking());
        it.raw.until(HEADERS).await;
        it.raw.send(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let second = send(&it.connection, asking()).await.unwrap();
        assert!(
            matches!(second, Err(SendError::Unsent { .. })),
            "{second:?}"
        );
        assert!(!it.connection.is_open());
        it.raw.answer(1, END_STREAM, &[]).await;
        assert!(answer.await.unwrap().is_ok());
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_is_cut_says_why() {
    locally(async {
        let mut it = opened().await;
        let link = it.connection.link();
        let answer = send(&it.connection, asking());
        it.raw.until(HEADERS).await;
        link.retire();
        assert!(!it.connection.is_open());
        assert_eq!(link.open(), 1);
        link.cut("revoked");
        it.driver.abort();
        let answer = answer.await.unwrap();
        assert!(
            matches!(answer, Err(SendError::Ended("revoked"))),
            "{answer:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn an_upload_goes_on_while_its_answer_is_read_and_after_its_end() {
    locally(async {
        let mut it = opened().await;
        let (more, body) = TestBody::channel();
        let answer = send(&it.connection, sending(body));
        it.raw.until(HEADERS).await;
        it.raw.answer(1, 0, &[]).await;
        let mut answer = answer.await.unwrap().unwrap().into_body();
        more.send(Ok(data("one"))).unwrap();
        it.raw.send(DATA, 0, 1, b"two").await;
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "two");
        assert_eq!(it.raw.until(DATA).await.payload, b"one");
        it.raw.send(DATA, END_STREAM, 1, b"").await;
        assert!(answer.frame().await.is_none());
        more.send(Ok(data("three"))).unwrap();
        drop(more);
        poll_fn(|cx| answer.poll_upload(cx)).await;
        let mut last = it.raw.until(DATA).await;
        assert_eq!(last.payload, b"three");
        while last.flags & END_STREAM == 0 {
            last = it.raw.until(DATA).await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_upload_ends_with_the_answers_body() {
    locally(async {
        let mut it = opened().await;
        let (_more, body) = TestBody::channel();
        let answer = send(&it.connection, sending(body));
        it.raw.until(HEADERS).await;
        it.raw.answer(1, 0, &[]).await;
        drop(answer.await.unwrap().unwrap());
        assert_eq!(it.raw.until(RST_STREAM).await.code(), 8);
        assert_eq!(it.connection.open(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_upload_that_fails_is_why_there_is_no_answer() {
    locally(async {
        let mut it = opened().await;
        let broken = TestBody::frames([Ok(data("abc")), Err(BodyError::Idle)]);
        let answer = send(&it.connection, sending(broken)).await.unwrap();
        assert!(
            matches!(answer, Err(SendError::Upload(BodyError::Idle))),
            "{answer:?}"
        );
        assert_eq!(it.raw.until(RST_STREAM).await.code(), 2);
        let mut short = sending(TestBody::chunks(["abc"]));
        short
            .headers_mut()
            .insert(CONTENT_LENGTH, "4".parse().unwrap());
        let answer = send(&it.connection, short).await.unwrap();
        assert!(matches!(answer, Err(SendError::Short)), "{answer:?}");
        assert_eq!(it.raw.until(RST_STREAM).await.code(), 2);
        // An answer that needs no more of it is one.
        let (_more, body) = TestBody::channel();
        let answer = send(&it.connection, sending(body));
        while it.raw.until(HEADERS).await.stream != 5 {}
        it.raw.answer(5, END_STREAM, &[]).await;
        it.raw.send(RST_STREAM, 0, 5, &0_u32.to_be_bytes()).await;
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_takes_is_given_up() {
    locally(async {
        let mut it = opened().await;
        let begun = Instant::now();
        let answer = send(&it.connection, sending(bulk(20)));
        let mut resets = 0;
        while resets == 0 {
            let frame = it.raw.next().await.unwrap();
            match (frame.kind, frame.flags) {
                (PING, 0) => it.raw.send(PING, ACK, 0, &frame.payload).await,
                (RST_STREAM, _) => resets = frame.code(),
                _ => {}
            }
        }
        assert_eq!(resets, 8);
        assert!(
            (59..=62).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        assert!(matches!(answer.await.unwrap(), Err(SendError::Stalled)));
    })
    .await;
}

#[tokio::test]
async fn cut_is_cut_and_whole_is_whole() {
    locally(async {
        for (length, last, code, end) in [
            (Some("3"), END_STREAM, None, Ok(3)),
            // The end of the stream has not come, and is not waited for.
            (Some("3"), 0, None, Ok(3)),
            (Some("3"), 0, Some(2), Ok(3)),
            (Some("4"), END_STREAM, None, Err(None)),
            (Some("2"), END_STREAM, None, Err(None)),
            (Some("4"), 0, Some(0), Err(Some(BodyError::Cut))),
            (Some("4"), 0, Some(2), Err(Some(BodyError::Cut))),
            (None, 0, Some(2), Err(Some(BodyError::Cut))),
            (None, 0, Some(0), Ok(3)),
            (None, END_STREAM, None, Ok(3)),
        ] {
            let mut it = opened().await;
            let answer = send(&it.connection, asking());
            it.raw.until(HEADERS).await;
            let fields: Vec<_> = length
                .iter()
                .map(|length| ("content-length", *length))
                .collect();
            it.raw.answer(1, 0, &fields).await;
            let answer = answer.await.unwrap().unwrap();
            let body = tokio::task::spawn_local(collect(answer.into_body()));
            it.raw.send(DATA, last, 1, b"abc").await;
            if let Some(code) = code {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
                let code: u32 = code;
                it.raw.send(RST_STREAM, 0, 1, &code.to_be_bytes()).await;
            }
            let case = (length, last, code);
            let seen = timeout(SECOND * 10, body).await.unwrap().unwrap();
            match (seen.map(|(bytes, _)| bytes.len()), end) {
                (Ok(count), Ok(expected)) => assert_eq!(count, expected, "{case:?}"),
                (Err(BodyError::Bad(_)), Err(None)) => {}
                (Err(error), Err(Some(expected))) => assert_eq!(error, expected, "{case:?}"),
                other => panic!("{case:?}: {other:?}"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn head_and_bodiless_answers_keep_their_length_and_have_no_body() {
    locally(async {
        let mut it = opened().await;
        for (stream, method, status) in [(1, "HEAD", "200"), (3, "GET", "304")] {
            let mut request = asking();
            *request.method_mut() = method.parse().unwrap();
            let answer = send(&it.connection, request);
            it.raw.until(HEADERS).await;
            let head = block(&[(":status", status), ("content-length", "7")]);
            it.raw
                .send(HEADERS, END_HEADERS | END_STREAM, stream, &head)
                .await;
            let answer = answer.await.unwrap().unwrap();
            assert_eq!(answer.headers()["content-length"], "7");
            assert!(answer.body().is_end_stream());
            assert_eq!(collect(answer.into_body()).await.unwrap().0, "");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_path_that_died_is_noticed_and_a_quiet_one_lives() {
    locally(async {
        let dead = opened().await;
        let begun = Instant::now();
        dead.driver.await.unwrap();
        assert!(
            (29..=32).contains(&begun.elapsed().as_secs()),
            "{:?}",
            begun.elapsed()
        );
        let mut quiet = opened().await;
        let raw = tokio::task::spawn_local(async move {
            while let Some(frame) = quiet.raw.next().await {
                if frame.kind == PING && frame.flags == 0 {
                    quiet.raw.send(PING, ACK, 0, &frame.payload).await;
                }
            }
        });
        tokio::time::sleep(SECOND * 300).await;
        assert!(quiet.connection.is_open() && !raw.is_finished());
    })
    .await;
}

#[tokio::test]
async fn a_stalled_answer_delays_no_other_and_is_ended() {
    locally(async {
        let mut it = opened().await;
        let first = send(&it.connection, asking());
        it.raw.until(HEADERS).await;
        it.raw.answer(1, 0, &[]).await;
        let stalled = first.await.unwrap().unwrap();
        for _ in 0..16 {
            it.raw.send(DATA, 0, 1, &[7; 16 * 1024]).await;
        }
        let second = send(&it.connection, asking());
        assert_eq!(it.raw.until(HEADERS).await.stream, 3);
        it.raw.answer(3, 0, &[]).await;
        it.raw.send(DATA, END_STREAM, 3, b"abc").await;
        let answer = second.await.unwrap().unwrap();
        assert_eq!(collect(answer.into_body()).await.unwrap().0, "abc");
        assert_eq!(it.share.held().unread, 256 * 1024);
        for _ in 0..61 {
            it.streams.look();
        }
        assert_eq!(it.streams.held().unread, 0);
        assert_eq!(it.raw.until(RST_STREAM).await.code(), 8);
        let end = collect(stalled.into_body()).await;
        assert_eq!(end.unwrap_err(), BodyError::Stalled);
    })
    .await;
}

/// Passes what it is asked on over the client's side to another server, as the gateway does.
#[tokio::test]
async fn a_chain_of_both_sides_moves_bulk_both_ways() {
    locally(async {
        let (near, far) = duplex(64 * 1024);
        let streams = Streams::new(usize::MAX);
        let (front, back) = (streams.open(), streams.open());
        let given = back.clone();
        tokio::task::spawn_local(async move {
            let service = Noting::new(|request: Request<Incoming>| async move {
                Response::new(TestBody::Incoming(request.into_body()))
            });
            let settings = server::Settings::hop();
            server::serve(
                far,
                Bytes::new(),
                service,
                &settings,
                &Clock,
                &given,
                pending(),
            )
            .await
        });
        let shaken = Connection::handshake(near, Settings::default(), &Clock, &front);
        let (connection, driver) = shaken.await.unwrap();
        tokio::task::spawn_local(driver);
        let mut served = served(Noting::new(move |request: Request<Incoming>| {
            let connection = connection.clone();
            async move {
                let request = request.map(TestBody::Incoming);
                match connection.send(request, &owner(), |_, _| {}).await {
                    Ok(answer) => answer.map(TestBody::Incoming),
                    Err(error) => panic!("{error:?}"),
                }
            }
        }));
        let mut client = served.client().await;
        let (answer, mut upload) = client.send_request(post(&[]), false).unwrap();
        let (pieces, mut given) = mpsc::channel::<Bytes>(1);
        let sending = async move {
            for _ in 0..320 {
                let piece = Bytes::from_static(&[7; 16 * 1024]);
                upload.reserve_capacity(piece.len());
                while upload.capacity() < piece.len() {
                    poll_fn(|cx| upload.poll_capacity(cx))
                        .await
                        .unwrap()
                        .unwrap();
                }
                upload.send_data(piece.clone(), false).unwrap();
                pieces.send(piece).await.unwrap();
            }
            upload.send_data(Bytes::new(), true).unwrap();
        };
        let reading = async {
            let mut body = answer.await.unwrap().into_body();
            read(&mut body).await
        };
        let counting = async {
            let mut count = 0;
            while let Some(piece) = given.recv().await {
                count += piece.len();
            }
            count
        };
        let ((), (bytes, end), count) = tokio::join!(sending, reading, counting);
        assert_eq!((bytes.len(), end), (count, Ok(None)));
        assert_eq!(streams.held().unread, 0);
        assert_eq!(served.streams.held().unread, 0);
    })
    .await;
}
