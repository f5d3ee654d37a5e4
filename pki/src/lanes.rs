//! Work that mostly waits for the disk, done several at a time: a mesh directory costs half a dozen syncs, and a disk takes many at once.

use crate::error::Error;

/// How many run at a time.
const LANES: usize = 8;

/// Does `work` on every item and gives the results in the items' order.
pub(crate) fn each<T: Send, R: Send>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Sync,
) -> Result<Vec<R>, Error> {
    if items.len() < 2 {
        return Ok(items.into_iter().map(work).collect());
    }
    let (length, lane) = (items.len(), items.len().div_ceil(LANES));
    let mut rest = items.into_iter();
    let work = &work;
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        while rest.len() > 0 {
            let share: Vec<T> = rest.by_ref().take(lane).collect();
            running.push(scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>()));
        }
        let mut done = Vec::with_capacity(length);
        for lane in running {
            done.extend(lane.join().map_err(|_| {
                Error::Failed("a writer stopped in the middle of its work".to_owned())
            })?);
        }
        Ok(done)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_and_in_order() {
        for length in [0, 1, 2, 31, 33, 1000] {
            let done = each((0..length).collect(), |item: usize| item * 2).unwrap();
            assert_eq!(done, (0..length).map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
