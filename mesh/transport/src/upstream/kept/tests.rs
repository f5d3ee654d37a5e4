//! Whose connection is used again, and what is sent twice.

use std::future::poll_fn;
use std::pin::Pin;

use http_body::Body as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use std::task::Poll;

use super::*;

struct Nothing;

impl Held for Nothing {}

type Servers = mpsc::UnboundedReceiver<DuplexStream>;

/// A pool, and the far ends of the connections it opens.
struct World {
    pool: Rc<Pool<DuplexStream>>,
    crowd: Crowd,
    opened: mpsc::UnboundedSender<DuplexStream>,
    timers: Timers,
    _tasks: Tasks,
}

fn world() -> (World, Servers) {
    let (opened, servers) = mpsc::unbounded_channel();
    let (timers, crowd) = (Timers::new(), Crowd::new());
    let keep = Duration::from_secs(3);
    let tasks = Tasks::default();
    let pool = Pool::crowded(&timers, &tasks, &Buffers::new(), keep, crowd.clone());
    let world = World {
        pool,
        crowd,
        opened,
        timers,
        _tasks: tasks,
    };
    (world, servers)
}

impl World {
    async fn send(&self, method: &str) -> Result<Answer, Unanswered<io::Error>> {
        let request = Request::builder()
            .method(method)
            .uri("/x")
            .header("host", "a")
            .body(Body::empty())
            .unwrap();
        let connect = || async {
            let (near, far) = tokio::io::duplex(4096);
            self.opened.send(far).unwrap();
            Ok(Opened {
                io: near,
                held: Rc::new(Nothing) as Rc<dyn Held>,
            })
        };
        let upload = Rc::new(Upload::finished());
        let patience = Patience::new(&upload, &self.timers, Duration::MAX);
        let hint = &mut |_, _| {};
        self.pool.send(request, &patience, connect, hint).await
    }

    fn idle(&self) -> usize {
        self.pool.idle.borrow().len()
    }
}

async fn read_head(io: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn answer(io: &mut DuplexStream, text: &str) {
    let head = read_head(io).await;
    assert!(head.contains(" /x HTTP/1.1\r\n"), "{head}");
    io.write_all(text.as_bytes()).await.unwrap();
}

async fn read(answer: Answer) -> usize {
    let mut body = answer.response.into_body();
    let mut length = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        length += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    length
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

/// One request and its whole answer, which leaves a connection behind.
async fn one(world: &World, servers: &mut Servers) -> DuplexStream {
    let serving = async {
        let mut server = servers.recv().await.unwrap();
        answer(&mut server, WHOLE).await;
        server
    };
    let (sent, server) = tokio::join!(world.send("GET"), serving);
    assert_eq!(read(sent.unwrap()).await, 3);
    assert_eq!(world.idle(), 1);
    server
}

#[tokio::test]
async fn an_answer_that_was_read_leaves_its_connection_and_one_that_was_dropped_does_not() {
    let test = async {
        let (world, mut servers) = world();
        let mut server = one(&world, &mut servers).await;
        let again = async {
            answer(&mut server, WHOLE).await;
        };
        let (sent, ()) = tokio::join!(world.send("POST"), again);
        assert_eq!(world.idle(), 0, "not at the head");
        drop(sent);
        assert_eq!(world.idle(), 0, "nor in the middle");
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "it is closed");
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_answer_that_does_not_keep_its_connection_leaves_none() {
    let test = async {
        for text in [
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n",
        ] {
            let (world, mut servers) = world();
            let serving = async {
                let mut server = servers.recv().await.unwrap();
                answer(&mut server, text).await;
            };
            let (sent, ()) = tokio::join!(world.send("GET"), serving);
            assert_eq!(read(sent.unwrap()).await, 3);
            assert_eq!(world.idle(), 0, "{text}");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_connection_that_closed_while_idle_costs_no_request() {
    let test = async {
        for method in ["GET", "POST"] {
            let (world, mut servers) = world();
            drop(one(&world, &mut servers).await);
            let serving = async {
                let mut server = servers.recv().await.unwrap();
                answer(&mut server, WHOLE).await;
                server
            };
            let (sent, _server) = tokio::join!(world.send(method), serving);
            assert_eq!(read(sent.unwrap()).await, 3, "{method}");
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn a_connection_that_closes_at_reuse_costs_nothing_that_can_be_done_twice_and_doubles_nothing_else()
 {
    let test = async {
        for (method, sends) in [("GET", 2), ("PUT", 2), ("POST", 1), ("PATCH", 1)] {
            let (world, mut servers) = world();
            let mut kept = one(&world, &mut servers).await;
            let serving = async {
                read_head(&mut kept).await;
                drop(kept);
                let mut seen = 1;
                while let Ok(server) = servers.try_recv() {
                    drop(server);
                    seen += 1;
                }
                if sends == 2 {
                    // Once more, and this one closes too: it is not tried for ever.
                    let mut server = servers.recv().await.unwrap();
                    read_head(&mut server).await;
                    seen += 1;
                }
                seen
            };
            let (sent, seen) = tokio::join!(world.send(method), serving);
            assert!(
                matches!(sent, Err(Unanswered::Failed(Failed::Closed(..)))),
                "{method}"
            );
            assert_eq!(seen, sends, "{method}");
            assert!(
                servers.try_recv().is_err(),
                "{method}: no further connection"
            );
        }
    };
    LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn idle_connections_go_when_a_request_waits_for_a_place() {
    let test = async {
        let (world, mut servers) = world();
        let mut first = one(&world, &mut servers).await;
        let mut asking = world.crowd.wait(&world.timers);
        poll_fn(|cx| {
            for _ in 0..5 {
                world.timers.step();
                asking.look(cx);
            }
            Poll::Ready(())
        })
        .await;
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "it was let go");
        assert!(world.crowd.is_asked());
        let mut second = one_while_asked(&world, &mut servers).await;
        assert_eq!(
            second.read(&mut [0]).await.unwrap(),
            0,
            "and none is kept meanwhile"
        );
        drop(asking);
        one(&world, &mut servers).await;
    };
    LocalSet::new().run_until(test).await;
}

async fn one_while_asked(world: &World, servers: &mut Servers) -> DuplexStream {
    let serving = async {
        let mut server = servers.recv().await.unwrap();
        answer(&mut server, WHOLE).await;
        server
    };
    let (sent, server) = tokio::join!(world.send("GET"), serving);
    assert_eq!(read(sent.unwrap()).await, 3);
    server
}
