//! What is counted, and who goes.

use super::*;

struct Fake {
    share: Rc<Share>,
    key: Cell<usize>,
    held: Cell<usize>,
    given_up: Cell<bool>,
    mark: Mark,
}

impl Fake {
    fn new(share: &Rc<Share>, held: usize) -> Rc<Self> {
        Self::marked(share, held, Mark::default())
    }

    fn marked(share: &Rc<Share>, held: usize, mark: Mark) -> Rc<Self> {
        let fake = Rc::new(Self {
            share: share.clone(),
            key: Cell::new(0),
            held: Cell::new(held),
            given_up: Cell::new(false),
            mark,
        });
        let weak: Weak<Self> = Rc::downgrade(&fake);
        fake.key.set(share.enter(weak));
        fake
    }
}

impl Holds for Fake {
    fn held(&self) -> usize {
        self.held.get()
    }

    fn give_up(&self) {
        self.given_up.set(true);
        self.held.set(0);
        self.share.dropped(&self.mark);
    }

    fn mark(&self) -> &Mark {
        &self.mark
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.share.leave(self.key.get(), &self.mark);
    }
}

#[test]
fn the_sums_follow_what_comes_is_taken_and_goes() {
    let streams = Streams::new(usize::MAX);
    let (one, two) = (streams.open(), streams.open());
    let (a, b) = (Fake::new(&one, 100), Fake::new(&two, 10));
    assert_eq!(streams.held(), Held::default());
    one.came(ASK_EVERY);
    assert_eq!((one.held().unread, streams.held().unread), (100, 100));
    streams.look();
    assert_eq!((two.held().unread, streams.held().unread), (10, 110));
    one.taken(&a.mark, 40);
    assert_eq!((one.held().unread, streams.held().unread), (60, 70));
    one.taken(&a.mark, 1000);
    assert_eq!((one.held().unread, streams.held().unread), (0, 10));
    drop(b);
    assert_eq!(streams.held().unread, 0);
    one.handed(500);
    two.handed(5);
    assert_eq!((one.held().unsent, streams.held().unsent), (500, 505));
    one.sent(200, 100);
    assert_eq!((one.held().unsent, streams.held().unsent), (300, 305));
    one.sent(290, 100);
    assert_eq!(one.held().unsent, 100);
    one.sent(100, 0);
    assert_eq!((one.held().unsent, streams.held().unsent), (0, 5));
    drop((a, one, two));
    assert_eq!(streams.held(), Held::default());
}

#[test]
fn a_stream_that_nobody_takes_from_goes_after_a_minute_and_one_that_moves_stays() {
    let streams = Streams::new(usize::MAX);
    let share = streams.open();
    let (stalled, moving) = (Fake::new(&share, 100), Fake::new(&share, 100));
    for _ in 0..60 {
        streams.look();
        share.taken(&moving.mark, 1);
    }
    assert!(!stalled.given_up.get());
    streams.look();
    assert!(stalled.given_up.get() && !moving.given_up.get());
    assert_eq!(share.held().unread, 100);
}

const KIB: usize = 1024;

#[test]
fn beyond_the_budget_the_longest_stalled_goes_first_and_the_others_stay() {
    let streams = Streams::new(250 * KIB);
    let share = streams.open();
    let old = Fake::new(&share, 100 * KIB);
    streams.look();
    let young = Fake::new(&share, 150 * KIB);
    streams.look();
    assert!(
        !old.given_up.get() && !young.given_up.get(),
        "it is within the budget"
    );
    let next = Fake::new(&share, 50 * KIB);
    share.came(ASK_EVERY);
    assert!(old.given_up.get() && !young.given_up.get() && !next.given_up.get());
    for _ in 0..10 {
        streams.look();
    }
    assert!(!young.given_up.get() && !next.given_up.get());
}

#[test]
fn who_holds_most_pays_by_address_and_who_is_within_its_share_never() {
    let streams = Streams::new(1000 * KIB);
    let hop = streams.open();
    let of = |text: &str| streams.owner(Some(text.parse().unwrap()));
    let (heavy, second, other, slow) = (
        of("10.0.0.1"),
        of("10.0.0.1"),
        of("10.0.0.2"),
        of("10.0.0.3"),
    );
    let for_owner =
        |owner: &Rc<Owner>, held: usize| Fake::marked(&hop, held * KIB, Mark::of(owner));
    let many: Vec<_> = (0..4).map(|_| for_owner(&heavy, 150)).collect();
    let lesser = for_owner(&second, 200);
    let (others, slows) = (for_owner(&other, 150), for_owner(&slow, 60));
    hop.came(ASK_EVERY);
    let given_up = many.iter().filter(|one| one.given_up.get()).count();
    assert_eq!(
        given_up, 1,
        "as much as there was too much, of the heavier connection"
    );
    assert!(!lesser.given_up.get() && !others.given_up.get() && !slows.given_up.get());
    assert_eq!(heavy.held.get(), 450 * KIB);
    assert!(heavy.is_greedy() && !slow.is_greedy() && !other.is_greedy());
    assert_eq!(streams.held().unread, 860 * KIB);
}

#[test]
fn a_share_is_never_less_than_a_page() {
    let streams = Streams::new(100 * KIB);
    let hop = streams.open();
    let owners: Vec<_> = (0..10).map(|_| streams.owner(None)).collect();
    let fakes: Vec<_> = owners
        .iter()
        .map(|owner| Fake::marked(&hop, 60 * KIB, Mark::of(owner)))
        .collect();
    hop.came(ASK_EVERY);
    assert!(fakes.iter().all(|fake| !fake.given_up.get()));
    assert!(owners.iter().all(|owner| !owner.is_greedy()));
    let greedy = streams.owner(None);
    let much = Fake::marked(&hop, 65 * KIB, Mark::of(&greedy));
    hop.came(ASK_EVERY);
    assert!(much.given_up.get());
}

#[test]
fn what_is_handed_on_waits_for_what_was() {
    let streams = Streams::new(usize::MAX);
    let share = streams.open();
    let cx = Context::from_waker(Waker::noop());
    share.handed(UNSENT_MOST - 1);
    assert!(share.poll_room(&cx).is_ready());
    share.handed(1);
    assert!(share.poll_room(&cx).is_pending());
    share.sent(0, 0);
    assert!(share.poll_room(&cx).is_ready());
}

#[test]
fn what_is_too_much_is_written_by_pieces_and_of_the_heaviest_who_takes_nothing_the_connection_ends()
{
    let streams = Streams::new(500 * KIB);
    let cx = Context::from_waker(Waker::noop());
    let client = |address: &str| {
        let owner = streams.owner(Some(address.parse().unwrap()));
        let share = streams.open_for(&owner);
        (owner, share)
    };
    let many: Vec<_> = (0..3).map(|_| client("10.0.0.1")).collect();
    let (moving, slow) = (client("10.0.0.2"), client("10.0.0.3"));
    let hop = streams.open();
    for (_, share) in &many {
        share.handed(200 * KIB);
    }
    moving.1.handed(200 * KIB);
    slow.1.handed(60 * KIB);
    hop.handed(250 * KIB);
    assert_eq!(streams.held().unsent, 1110 * KIB);
    assert!(
        moving.1.poll_room(&cx).is_pending(),
        "it takes its piece first"
    );
    let idle = streams.open();
    assert!(
        idle.poll_room(&cx).is_ready(),
        "who takes what is written goes on"
    );
    let ended = |of: &(Rc<Owner>, Rc<Share>)| of.0.poll_ended(&cx).is_ready();
    for _ in 0..2 {
        streams.look();
    }
    moving.1.sent(100, 1);
    streams.look();
    assert!(!ended(&moving) && !ended(&slow));
    let gone = many.iter().filter(|one| ended(one)).count();
    assert_eq!(gone, 3, "all that is too much is of one client");
    drop(many);
    assert!(streams.held().unsent < 600 * KIB);
}

#[test]
fn http1_counts_as_well_and_nobody_is_counted_who_is_gone() {
    let streams = Streams::new(100 * KIB);
    let owner = streams.owner(None);
    owner.unsent(60 * KIB);
    assert!(!owner.is_crowded());
    let other = streams.owner(None);
    other.unsent(50 * KIB);
    assert!(owner.is_crowded());
    other.unsent(20 * KIB);
    assert!(!owner.is_crowded());
    drop((owner, other));
    assert_eq!(streams.held(), Held::default());
}
