//! Which valid name was most likely meant.

/// The valid name that `name` was most likely meant to be; `None` only where nothing is valid. Case
/// and the choice between `-`, `_` and none do not count as a difference.
#[must_use]
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = fold(name);
    known
        .into_iter()
        .min_by_key(|known| distance(&folded, &fold(known)))
}

fn fold(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .take(64)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// How many single letters must be put in, taken out or changed to make one name of the other
/// (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *above;
            left = changed.min(*above + 1).min(left + 1);
            *above = left;
        }
    }
    // The first entry of the row stands for an empty `b` and is not kept up to date.
    if b.is_empty() {
        a.len()
    } else {
        row.last().copied().unwrap_or(a.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest() {
        let known = ["name", "mount", "upstream", "timeout_ms", "forward_headers"];
        for (wrong, right) in [
            ("nmae", "name"),
            ("upstreams", "upstream"),
            ("timeoutMs", "timeout_ms"),
            ("timeout", "timeout_ms"),
            ("Forward-Headers", "forward_headers"),
            ("", "name"),
        ] {
            assert_eq!(nearest(wrong, known), Some(right), "{wrong}");
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn counts_the_letters_between_two_names() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, far) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(&letters(a), &letters(b)), far, "{a} {b}");
            assert_eq!(distance(&letters(b), &letters(a)), far, "{b} {a}");
        }
    }
}
