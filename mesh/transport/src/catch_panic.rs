//! A panic in one request's work is that request's failure, and not the program's.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

/// Runs `work`; `None` if it panicked. What it shared stays as the panic left it: nothing outlives
/// a poll half-done in there.
///
/// Takes a pinned reference: a request's future is kilobytes, and handing it on by value would copy
/// it.
pub async fn catch_panic<F: Future>(mut work: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(polled) => polled.map(Some),
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[tokio::test]
    async fn a_panic_is_caught_and_anything_else_passes() {
        assert_eq!(catch_panic(pin!(async { 7 })).await, Some(7));
        assert_eq!(
            catch_panic(pin!(async { if true { panic!("on purpose") } else { 7 } })).await,
            None
        );
    }
}
