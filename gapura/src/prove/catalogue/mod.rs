//! The catalogue: every attack with an id for good, in four rooms. Adding one is adding data.
//!
//! The ids are those of the threat model (`docs/threat-model.md`), where each stands with its line
//! of defence and its test.

mod framing; // F: two readers, one message
mod headers; // H: who is speaking
mod host; // T: TLS and the machine
mod paths; // P: which resource, which host
mod tokens; // J: which token counts

use super::attack::Attack;

/// All of them, in the order of the table.
pub(super) fn all() -> impl Iterator<Item = &'static Attack> {
    let rooms: [&'static [Attack]; 5] = [
        headers::ATTACKS,
        paths::ATTACKS,
        framing::ATTACKS,
        tokens::ATTACKS,
        host::ATTACKS,
    ];
    rooms.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::all;
    use crate::prove::attack::By;

    #[test]
    fn each_id_of_the_catalogue_stands_once_and_each_attack_is_tried_or_says_why_not() {
        let rows = |letter: &str, last: usize| {
            (1..=last)
                .map(|n| format!("{letter}{n}"))
                .collect::<Vec<_>>()
        };
        let mut wanted: Vec<String> = [("H", 12), ("P", 10), ("F", 12), ("J", 11)]
            .iter()
            .flat_map(|(letter, last)| rows(letter, *last))
            .collect();
        wanted.push("J13".to_owned());
        wanted.extend(rows("T", 10));
        let ids: Vec<String> = all().map(|attack| attack.id.to_owned()).collect();
        assert_eq!(ids, wanted);
        for attack in all() {
            let tried = match &attack.by {
                By::Shots(probes) => probes.len(),
                By::Tokens(forgeries) => forgeries.len(),
                By::Nothing(why) => why.len(),
                _ => 1,
            };
            assert!(
                tried > 0 && !attack.tries.is_empty() && attack.tries.len() <= 60,
                "{}",
                attack.id
            );
        }
        let names: BTreeSet<&str> = all().map(|attack| attack.tries).collect();
        assert_eq!(names.len(), ids.len());
    }
}
