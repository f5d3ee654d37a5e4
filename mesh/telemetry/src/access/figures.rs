//! What a finished request costs, and what it costs to look at it, printed:
//! `cargo test --release -p gapura-telemetry -- --ignored --nocapture figures`. Nothing is promised
//! by a machine that does other work meanwhile, so nothing is asserted.
#![allow(clippy::print_stdout)] // figures are printed

use gapura_protocol::clock::Clock;

use super::*;
use crate::tap::{Filter, Watch};

#[test]
#[ignore = "prints figures"]
fn what_a_line_costs() {
    const MANY: u32 = 1_000_000;
    let log = Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap();
    let meters = Arc::new(Meters::new(1, &[]));
    let peer = Rc::<str>::from("127.0.0.1:50000");
    let plugin = meters.plugin("lab");
    for mode in [AccessLog::Off, AccessLog::On, AccessLog::Off, AccessLog::On] {
        let sink = Sink::new(log.clone(), mode, meters.clone(), 0, None, None);
        let begun = Instant::now();
        for _ in 0..MANY {
            let id = RequestId::parse(b"0af7651916cd43dd8448eb211c80319c").unwrap();
            let mut record = sink.begin(id, Method::GET, peer.clone());
            record.path = LoggedPath::Same(PathAndQuery::from_static("/v1/plugins/lab/reports/42"));
            record.tenant = Some(TenantId::parse(b"42").unwrap());
            record.belongs_to(&plugin);
            record.status = 200;
            record.upstream = Some(Duration::from_micros(1234));
        }
        println!(
            "{mode:?}: {:?} a request, {} lines dropped",
            begun.elapsed() / MANY,
            log.dropped()
        );
    }
}

#[test]
#[ignore = "prints figures"]
fn what_a_tap_costs() {
    const MANY: u32 = 200_000;
    let log = Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap();
    let meters = Arc::new(Meters::new(1, &[]));
    let (tap, peer) = (Tap::default(), Rc::<str>::from("127.0.0.1:50000"));
    let sinks = [None, Some(tap.clone())]
        .map(|tap| Sink::new(log.clone(), AccessLog::Off, meters.clone(), 0, tap, None));
    let plugin = meters.plugin("lab");
    let each = |what: &str, sink: &Rc<Sink>, watch: Option<&Watch>| {
        let (begun, mut lines) = (Instant::now(), Vec::new());
        for at in 0..MANY {
            let id = RequestId::parse(b"0af7651916cd43dd8448eb211c80319c").unwrap();
            let mut record = sink.begin(id, Method::GET, peer.clone());
            if sink.logs() {
                record.path =
                    LoggedPath::Same(PathAndQuery::from_static("/v1/plugins/lab/reports/42"));
            }
            record.tenant = Some(TenantId::parse(b"42").unwrap());
            record.belongs_to(&plugin);
            record.status = 200;
            drop(record);
            if let Some(watch) = watch.filter(|_| at % 1000 == 0) {
                sink.flush();
                lines.clear();
                watch.take(&mut lines);
            }
        }
        println!("{what}: {:?} a request", begun.elapsed() / MANY);
    };
    for _ in 0..2 {
        each("without a tap        ", &sinks[0], None);
        each("nobody looks         ", &sinks[1], None);
    }
    let other = Filter {
        plugin: Some("other".to_owned()),
        ..Filter::default()
    };
    let one = tap.watch(other).unwrap();
    each("one looks at others  ", &sinks[1], Some(&one));
    let all: Vec<_> = (0..7)
        .map(|_| tap.watch(Filter::default()).unwrap())
        .collect();
    each("seven, six asleep    ", &sinks[1], all.first());
    drop(all);
    drop(one);
    let one = tap.watch(Filter::default()).unwrap();
    each("one looks at all     ", &sinks[1], Some(&one));
}
