//! Looks up names side by side, so that a dead name server holds up nobody but the plugins that it
//! serves.
//!
//! In: a host's name and port. Out: its addresses, or none where they did not come in time. What
//! the system's resolver has begun it brings to its end, however long that takes: until then
//! whoever asks for the same name waits for that, and a bound on those under way keeps them from
//! taking all of the program's threads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// A host and its port.
type Name = (Box<str>, u16);

/// What a name stands for, once it is known.
type Answer = watch::Receiver<Option<Vec<SocketAddr>>>;

/// How long an answer is waited for.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// Names that are looked up at a time. Each takes a thread, of which the runtime has 512.
const AT_A_TIME: usize = 256;

/// The look-ups of one program.
pub(crate) struct Lookups {
    within: Duration,
    gate: Rc<Semaphore>,
    under_way: Rc<RefCell<HashMap<Name, Answer>>>,
    tasks: RefCell<JoinSet<()>>,
}

/// A name that is being looked up, until it is dropped.
struct LookupGuard {
    names: Rc<RefCell<HashMap<Name, Answer>>>,
    name: Name,
}

impl Lookups {
    pub(crate) fn new() -> Self {
        Self {
            within: LOOK_UP_WITHIN,
            gate: Rc::new(Semaphore::new(AT_A_TIME)),
            under_way: Rc::default(),
            tasks: RefCell::default(),
        }
    }

    /// The addresses of a name by the system's resolver; `None` if it gave none in time.
    pub(crate) async fn find(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        self.find_with(host, port, |(host, port)| async move {
            let found = tokio::net::lookup_host((&*host, port)).await?;
            Ok(found.collect())
        })
        .await
    }

    async fn find_with<F: Future<Output = io::Result<Vec<SocketAddr>>> + 'static>(
        &self,
        host: &str,
        port: u16,
        resolve: impl FnOnce(Name) -> F,
    ) -> Option<Vec<SocketAddr>> {
        let name: Name = (host.into(), port);
        let known = self.under_way.borrow().get(&name).cloned();
        let mut answer = known.unwrap_or_else(|| self.begin(name.clone(), resolve(name)));
        let found = tokio::time::timeout(self.within, answer.wait_for(Option::is_some)).await;
        found.ok()?.ok()?.clone()
    }

    fn begin(
        &self,
        name: Name,
        resolving: impl Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
    ) -> Answer {
        let (found, answer) = watch::channel(None);
        self.under_way
            .borrow_mut()
            .insert(name.clone(), answer.clone());
        let under_way = LookupGuard {
            names: self.under_way.clone(),
            name,
        };
        let gate = self.gate.clone();
        let mut tasks = self.tasks.borrow_mut();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_local(async move {
            let _under_way = under_way;
            let Ok(_permit) = gate.acquire().await else {
                return;
            };
            // Whoever asked may have gone; a name that has no address ends the wait without one.
            if let Ok(addresses) = resolving.await {
                found.send_replace(Some(addresses));
            }
        });
        answer
    }
}

impl Drop for LookupGuard {
    fn drop(&mut self) {
        self.names.borrow_mut().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use std::task::Poll;
    use tokio::task::LocalSet;

    fn quick() -> Lookups {
        Lookups {
            within: Duration::from_millis(50),
            ..Lookups::new()
        }
    }

    async fn good(_: Name) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([127, 0, 0, 1], 1))])
    }

    #[tokio::test]
    async fn a_name_server_that_is_dead_holds_up_no_other_name() {
        let test = async {
            let lookups = quick();
            let dead = |port| lookups.find_with("dead.example", port, |_| pending());
            let mut dead: Vec<_> = (0..200).map(dead).map(Box::pin).collect();
            poll_fn(|cx| {
                assert!(
                    dead.iter_mut()
                        .all(|one| one.as_mut().poll(cx).is_pending())
                );
                Poll::Ready(())
            })
            .await;
            assert!(lookups.find_with("good.example", 1, good).await.is_some());
            let began = std::time::Instant::now();
            for one in dead {
                assert_eq!(one.await, None);
            }
            let one_after_another = 200 * lookups.within;
            assert!(began.elapsed() < one_after_another / 4, "side by side");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn a_name_is_asked_for_again_only_once_the_resolver_is_done_with_it() {
        let test = async {
            let lookups = quick();
            let (done, until) = tokio::sync::oneshot::channel::<()>();
            let slow = |name| async {
                let _ = until.await;
                good(name).await
            };
            assert_eq!(lookups.find_with("a.example", 1, slow).await, None);
            let again = |_| async { unreachable!("the first is under way") };
            assert_eq!(lookups.find_with("a.example", 1, again).await, None);
            let (one, other) = tokio::join!(
                lookups.find_with("b.example", 1, good),
                lookups.find_with("b.example", 1, |_| async { unreachable!() })
            );
            assert!(one.is_some() && one == other, "two plugins on one host");
            done.send(()).unwrap();
            while !lookups.under_way.borrow().is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(lookups.find_with("a.example", 1, good).await.is_some());
        };
        LocalSet::new().run_until(test).await;
    }
}
