//! Who waits, and whose turn it is: one line for each party, and one turn after another for each
//! line.
//!
//! In: who comes, who gives up, and that there is room for one. Out: who goes, and who has to leave
//! since too many wait. Every request costs one turn, so that deficit round robin is plain round
//! robin. Whoever comes anew joins the end of the turns: had the shortest line always gone first,
//! parties that come one by one would keep a longer one waiting for ever. Nothing here knows time,
//! threads or requests.
//! Invariant: between two turns of one party each other that waits all the while has exactly one;
//! within a party the first to come is the first to go; never do more than the most wait, and who
//! has to leave belongs to the party with most of them.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Those who wait.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    lines: HashMap<K, VecDeque<(u64, T)>>,
    /// Each party that has a line, once, the next one first.
    turns: VecDeque<K>,
    len: usize,
    next: u64,
    most: usize,
}

/// What becomes of who comes.
#[derive(Debug, PartialEq, Eq)]
pub enum Joined<T> {
    /// It waits under this number.
    Waits(u64),
    /// It waits, and the last one of the longest line leaves for it.
    InsteadOf(u64, T),
    /// It may not wait: its own line would be the longest.
    Turned(T),
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty one for so many.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            lines: HashMap::new(),
            turns: VecDeque::new(),
            len: 0,
            next: 0,
            most,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One more comes.
    pub fn join(&mut self, party: K, item: T) -> Joined<T> {
        if self.len < self.most {
            return Joined::Waits(self.push(party, item));
        }
        let own = self.lines.get(&party).map_or(0, VecDeque::len);
        let lines = self.turns.iter().map(|other| (self.length(other), other));
        let longest = lines.max_by_key(|(length, _)| *length);
        // Of two lines that would be as long as each other the one that grows gives way, or they
        // would push each other out.
        let Some((_, longest)) = longest.filter(|(length, _)| *length > own + 1) else {
            return Joined::Turned(item);
        };
        let longest = longest.clone();
        let Some(left) = self.drop_last(&longest) else {
            return Joined::Turned(item);
        };
        Joined::InsteadOf(self.push(party, item), left)
    }

    /// There is room for one: whose turn it is goes.
    pub fn go(&mut self) -> Option<T> {
        let party = self.turns.pop_front()?;
        let line = self.lines.get_mut(&party)?;
        let (_, item) = line.pop_front()?;
        self.len -= 1;
        if line.is_empty() {
            self.lines.remove(&party);
        } else {
            self.turns.push_back(party);
        }
        Some(item)
    }

    /// The one of this number gives up; nothing if it has gone.
    pub fn give_up(&mut self, party: &K, number: u64) -> Option<T> {
        let line = self.lines.get_mut(party)?;
        let at = line.iter().position(|(known, _)| *known == number)?;
        let (_, item) = line.remove(at)?;
        self.shrunk(party);
        Some(item)
    }

    fn length(&self, party: &K) -> usize {
        self.lines.get(party).map_or(0, VecDeque::len)
    }

    fn push(&mut self, party: K, item: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.len += 1;
        let line = self.lines.entry(party.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(party);
        }
        line.push_back((number, item));
        number
    }

    /// The last of a line had the longest to wait.
    fn drop_last(&mut self, party: &K) -> Option<T> {
        let (_, item) = self.lines.get_mut(party)?.pop_back()?;
        self.shrunk(party);
        Some(item)
    }

    /// One has left this line out of turn.
    fn shrunk(&mut self, party: &K) {
        self.len -= 1;
        if self.length(party) == 0 {
            self.lines.remove(party);
            self.turns.retain(|other| other != party);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waits<T: std::fmt::Debug>(joined: Joined<T>) -> u64 {
        match joined {
            Joined::Waits(number) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_company_after_another_has_its_turn() {
        let mut queue = FairQueue::new(100);
        for (party, item) in [
            ("a", 1),
            ("a", 2),
            ("a", 3),
            ("a", 4),
            ("b", 5),
            ("c", 6),
            ("b", 7),
        ] {
            waits(queue.join(party, item));
        }
        let gone: Vec<u32> = std::iter::from_fn(|| queue.go()).collect();
        assert_eq!(gone, [1, 5, 6, 2, 7, 3, 4]);
        assert!(queue.lines.is_empty() && queue.turns.is_empty() && queue.is_empty());
    }

    #[test]
    fn whoever_comes_one_by_one_does_not_keep_a_longer_line_waiting() {
        let mut queue = FairQueue::new(100);
        for item in 0..10 {
            waits(queue.join("flood", item));
        }
        let mut flood = 0;
        for _ in 0..10 {
            waits(queue.join("quiet", 100));
            flood += u32::from(queue.go() != Some(100));
        }
        assert_eq!(flood, 5);
    }

    #[test]
    fn the_company_with_most_waiting_is_shed_first() {
        let mut queue = FairQueue::new(4);
        for item in 1..=4 {
            waits(queue.join("flood", item));
        }
        assert_eq!(queue.join("flood", 5), Joined::Turned(5));
        assert_eq!(queue.join("quiet", 6), Joined::InsteadOf(4, 4));
        assert_eq!(queue.join("flood", 7), Joined::Turned(7));
        // Three to one: one more leaves; two to two: nobody does.
        assert_eq!(queue.join("quiet", 8), Joined::InsteadOf(5, 3));
        assert_eq!(queue.join("quiet", 9), Joined::Turned(9));
        assert_eq!(queue.join("flood", 10), Joined::Turned(10));
        assert_eq!(queue.join("other", 11), Joined::InsteadOf(6, 8));
        assert_eq!(queue.join("fourth", 12), Joined::InsteadOf(7, 2));
        assert_eq!(queue.join("fifth", 13), Joined::Turned(13));
        let gone: Vec<u32> = std::iter::from_fn(|| queue.go()).collect();
        assert_eq!(gone, [1, 6, 11, 12]);
    }

    #[test]
    fn who_gives_up_leaves_no_trace() {
        let mut queue = FairQueue::new(100);
        let (first, second) = (waits(queue.join("a", 1)), waits(queue.join("a", 2)));
        let other = waits(queue.join("b", 3));
        assert_eq!(queue.give_up(&"a", first), Some(1));
        assert_eq!(queue.give_up(&"a", first), None);
        assert_eq!(queue.give_up(&"b", second), None);
        assert_eq!(queue.give_up(&"b", other), Some(3));
        assert_eq!((queue.go(), queue.go()), (Some(2), None));
        assert!(queue.lines.is_empty() && queue.turns.is_empty());
    }

    proptest! {
        /// Against the words of the header, for any order of any number of parties.
        #[test]
        fn the_invariant_holds(steps in proptest::collection::vec((0_u8..10, 0_u8..6), 1..400), most in 1_usize..12) {
            let mut queue = FairQueue::new(most);
            // Who waits, in the order they came; and for each pair how often the second went since
            // the first did.
            let mut waiting: Vec<(u64, u8)> = Vec::new();
            let mut since: HashMap<(u8, u8), u32> = HashMap::new();
            let gone = |since: &mut HashMap<(u8, u8), u32>, party: u8| {
                since.retain(|(a, b), _| *a != party && *b != party);
            };
            for (what, party) in steps {
                match what {
                    0..5 => match queue.join(party, party) {
                        Joined::Waits(number) => {
                            prop_assert!(waiting.len() < most);
                            waiting.push((number, party));
                        }
                        Joined::InsteadOf(number, left) => {
                            prop_assert_eq!(waiting.len(), most);
                            let count = |who: u8| waiting.iter().filter(|(_, other)| *other == who).count();
                            prop_assert!((0..6).all(|other| count(other) <= count(left)));
                            prop_assert!(count(left) > count(party) + 1);
                            let at = waiting.iter().rposition(|(_, other)| *other == left).unwrap();
                            waiting.remove(at);
                            waiting.push((number, party));
                        }
                        Joined::Turned(same) => {
                            prop_assert_eq!((same, waiting.len()), (party, most));
                        }
                    },
                    5..8 => {
                        let went = queue.go();
                        prop_assert_eq!(went.is_some(), !waiting.is_empty());
                        if let Some(went) = went {
                            let at = waiting.iter().position(|(_, other)| *other == went).unwrap();
                            waiting.remove(at);
                            for other in 0..6 {
                                if other != went && waiting.iter().any(|(_, who)| *who == other) {
                                    // No other that waits sees it go twice before it goes itself.
                                    let seen = since.entry((other, went)).or_default();
                                    *seen += 1;
                                    prop_assert!(*seen <= 1, "{went} went twice before {other}");
                                }
                                since.remove(&(went, other));
                            }
                            if waiting.iter().all(|(_, who)| *who != went) {
                                since.retain(|(a, _), _| *a != went);
                            }
                        }
                    }
                    _ => {
                        let Some(at) = waiting.iter().position(|(_, other)| *other == party) else {
                            continue;
                        };
                        let (number, _) = waiting.remove(at);
                        prop_assert_eq!(queue.give_up(&party, number), Some(party));
                        if waiting.iter().all(|(_, who)| *who != party) {
                            gone(&mut since, party);
                        }
                    }
                }
                prop_assert_eq!(queue.len(), waiting.len());
                prop_assert_eq!(queue.turns.len(), queue.lines.len());
                prop_assert!(queue.turns.iter().all(|party| queue.length(party) > 0));
            }
        }
    }
}
