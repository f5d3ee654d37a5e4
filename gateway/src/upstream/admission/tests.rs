//! Who gets a place, who waits, and that no place is ever lost.

use std::future::{pending, ready};
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::*;

type Entering = Pin<Box<dyn Future<Output = Result<InFlight, Overloaded>>>>;

fn company(name: &str) -> Party {
    Party::Company(TenantId::parse(name.as_bytes()).unwrap())
}

/// One of `name`'s comes, and waits as long as it takes.
fn comes(admission: &Arc<Admission>, most: u32, name: &str) -> Entering {
    let (admission, party) = (admission.clone(), company(name));
    Box::pin(async move { admission.enter(most, || party, pending).await })
}

fn poll(entering: &mut Entering) -> Poll<Result<InFlight, Overloaded>> {
    entering
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

#[track_caller]
fn admitted(entering: &mut Entering) -> InFlight {
    match poll(entering) {
        Poll::Ready(Ok(place)) => place,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn waits(entering: &mut Entering) {
    assert!(poll(entering).is_pending());
}

fn counts(admission: &Admission) -> (u64, u64) {
    (admission.in_flight(), admission.waiting())
}

#[test]
fn a_place_is_free_again_when_it_is_dropped() {
    let admission = Arc::default();
    let first = admitted(&mut comes(&admission, 2, "a"));
    let second = admitted(&mut comes(&admission, 2, "a"));
    let mut third = comes(&admission, 2, "a");
    waits(&mut third);
    assert_eq!(counts(&admission), (2, 1));
    drop(first);
    let third = admitted(&mut third);
    assert_eq!(counts(&admission), (2, 0));
    drop((second, third));
    assert_eq!(counts(&admission), (0, 0));
    let _again = admitted(&mut comes(&admission, 1, "a"));
}

#[test]
fn companies_take_turns_and_nobody_goes_past_who_waits() {
    let admission = Arc::default();
    let mut place = admitted(&mut comes(&admission, 1, "flood"));
    let mut flood: Vec<Entering> = (0..100).map(|_| comes(&admission, 1, "flood")).collect();
    flood.iter_mut().for_each(waits);
    let mut quiet = comes(&admission, 1, "quiet");
    waits(&mut quiet);
    drop(place);
    let mut late = comes(&admission, 1, "late");
    waits(&mut late);
    place = admitted(&mut flood[0]);
    waits(&mut quiet);
    drop(place);
    place = admitted(&mut quiet);
    waits(&mut flood[1]);
    drop(place);
    place = admitted(&mut flood[1]);
    drop(place);
    let _place = admitted(&mut late);
    assert_eq!(counts(&admission), (1, 98));
}

#[test]
fn the_company_with_most_waiting_is_shed_and_the_others_are_not() {
    let admission = Arc::default();
    let place = admitted(&mut comes(&admission, 1, "flood"));
    let mut flood: Vec<Entering> = (0..WAITING_MOST)
        .map(|_| comes(&admission, 1, "flood"))
        .collect();
    flood.iter_mut().for_each(waits);
    let one_more = poll(&mut comes(&admission, 1, "flood"));
    assert!(matches!(one_more, Poll::Ready(Err(Overloaded::Shed))));
    let mut quiet = comes(&admission, 1, "quiet");
    waits(&mut quiet);
    let last = poll(flood.last_mut().unwrap());
    assert!(matches!(last, Poll::Ready(Err(Overloaded::Shed))));
    assert_eq!(counts(&admission), (1, WAITING_MOST as u64));
    drop(place);
    drop(admitted(&mut flood[0]));
    drop(admitted(&mut quiet));
    flood.truncate(WAITING_MOST - 1);
    drop(flood);
    assert_eq!(counts(&admission), (0, 0));
}

#[test]
fn who_gives_up_takes_nothing_along() {
    let admission: Arc<Admission> = Arc::default();
    let place = admitted(&mut comes(&admission, 1, "a"));
    let mut gone = comes(&admission, 1, "a");
    waits(&mut gone);
    drop(gone);
    assert_eq!(counts(&admission), (1, 0));
    // One that was let in and never heard of it.
    let mut deaf = comes(&admission, 1, "a");
    waits(&mut deaf);
    let mut next = comes(&admission, 1, "b");
    waits(&mut next);
    drop(place);
    assert_eq!(counts(&admission), (1, 1));
    drop(deaf);
    let place = admitted(&mut next);
    drop(place);
    // One whose time is over.
    let place = admitted(&mut comes(&admission, 1, "a"));
    let late = pin!(admission.enter(1, || company("a"), || ready(())));
    let over = late.poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(over, Poll::Ready(Err(Overloaded::Waited))));
    assert_eq!(counts(&admission), (1, 0));
    drop(place);
    assert_eq!(counts(&admission), (0, 0));
}

#[test]
fn another_limit_holds_from_the_next_request_on() {
    let admission: Arc<Admission> = Arc::default();
    let places: Vec<InFlight> = (0..2)
        .map(|_| admitted(&mut comes(&admission, 2, "a")))
        .collect();
    let mut waiting: Vec<Entering> = (0..3).map(|_| comes(&admission, 2, "a")).collect();
    waiting.iter_mut().for_each(waits);
    // More: those who wait come in first.
    let mut next = comes(&admission, 4, "a");
    waits(&mut next);
    let mut more: Vec<InFlight> = waiting.iter_mut().take(2).map(admitted).collect();
    waits(&mut waiting[2]);
    assert_eq!(counts(&admission), (4, 2));
    // All of them at once, and who asks as well.
    let mut sixth = comes(&admission, 8, "a");
    let sixth = admitted(&mut sixth);
    more.push(admitted(&mut waiting[2]));
    more.push(admitted(&mut next));
    assert_eq!(counts(&admission), (7, 0));
    // Fewer: nobody comes in before there is room.
    let mut last = comes(&admission, 1, "a");
    waits(&mut last);
    drop(places);
    drop(more);
    assert_eq!(counts(&admission), (1, 1));
    waits(&mut last);
    drop(sixth);
    let _place = admitted(&mut last);
    assert_eq!(counts(&admission), (1, 0));
}

/// What the workers of the next test share.
#[derive(Default)]
struct Seen {
    admission: Arc<Admission>,
    in_flight: AtomicUsize,
    highest: AtomicUsize,
    served: AtomicUsize,
}

const MOST: u32 = 3;

/// One request: every third is impatient, and every ninth is dropped in the middle.
async fn one(seen: Arc<Seen>, worker: u64, turn: u64) {
    let impatient = turn.is_multiple_of(3);
    let over = || async move {
        if impatient {
            tokio::time::sleep(Duration::from_micros(turn % 50)).await;
        } else {
            pending().await
        }
    };
    let party = || company(&(worker % 3).to_string());
    let entering = seen.admission.enter(MOST, party, over);
    let entered = if turn.is_multiple_of(9) {
        let span = Duration::from_micros(turn % 70);
        tokio::time::timeout(span, entering).await.ok()
    } else {
        Some(entering.await)
    };
    if let Some(Ok(_place)) = entered {
        let now = seen.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        seen.highest.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        seen.in_flight.fetch_sub(1, Ordering::SeqCst);
        seen.served.fetch_add(1, Ordering::SeqCst);
    } else {
        assert!(impatient, "only who has a deadline is ever sent away");
    }
}

/// Threads of which each is a worker: places are taken, waited for, given up and handed over at any
/// moment.
#[test]
fn no_place_is_lost_and_nobody_is_forgotten_whatever_happens_at_once() {
    const ROUNDS: u64 = 150;
    let seen: Arc<Seen> = Arc::default();
    let work = |seen: Arc<Seen>, worker: u64| async move {
        for round in 0..ROUNDS {
            let many = (0..8).map(|at| one(seen.clone(), worker, round * 8 + at));
            for one in many.map(tokio::task::spawn_local).collect::<Vec<_>>() {
                let ended = tokio::time::timeout(Duration::from_secs(60), one).await;
                ended.expect("nobody is forgotten").unwrap();
            }
        }
    };
    let workers = (0..6).map(|worker| {
        let seen = seen.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, work(seen, worker));
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.join().unwrap();
    }
    assert_eq!(counts(&seen.admission), (0, 0));
    assert!(seen.highest.load(Ordering::SeqCst) <= MOST as usize);
    let patient = usize::try_from(6 * ROUNDS * 8 * 2 / 3).unwrap();
    assert!(seen.served.load(Ordering::SeqCst) >= patient);
}

/// Printed, not asserted but for what would show a mistake of kind.
#[test]
fn a_place_costs_little_while_nobody_waits() {
    let admission: Arc<Admission> = Arc::default();
    let rounds = 100_000;
    let begun = Instant::now();
    for _ in 0..rounds {
        drop(admitted_at_once(&admission));
    }
    let each = begun.elapsed() / rounds;
    #[allow(clippy::print_stdout)] // that is what it is for
    {
        println!("a place, taken and given back: {each:?}");
    }
    assert!(each.as_micros() < 100, "{each:?}");
}

fn admitted_at_once(admission: &Arc<Admission>) -> InFlight {
    let entering = pin!(admission.enter(256, || company("a"), pending));
    match entering.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(place)) => place,
        other => panic!("{other:?}"),
    }
}
