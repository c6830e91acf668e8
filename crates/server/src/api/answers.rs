//! Questions of the HTTP API that workers have not answered yet.

use clarion_engine::ApiId;
use clarion_engine::mail::ApiAnswer;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a worker may take. It answers within a turn, so only a stuck one takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who waits for which answer.
///
/// It holds one entry for each question under way. A connection of the front asks each worker one, or
/// all workers together as many as a request may publish.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    waiting: Mutex<HashMap<u64, oneshot::Sender<ApiAnswer>>>,
    next: AtomicU64,
}

/// A question that was asked.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    id: ApiId,
    answers: &'a Answers,
    receiver: oneshot::Receiver<ApiAnswer>,
    deadline: Instant,
}

impl Answers {
    /// Expects an answer to the question that is asked under [`Pending::id`].
    pub(crate) fn expect(&self) -> Pending<'_> {
        let id = ApiId(self.next.fetch_add(1, Relaxed));
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(id.0, sender);
        Pending { id, answers: self, receiver, deadline: Instant::now() + PATIENCE }
    }

    /// Gives an answer to whoever waits for it; nobody does if it comes too late.
    pub(crate) fn give(&self, id: ApiId, answer: ApiAnswer) {
        if let Some(sender) = self.lock().remove(&id.0) {
            // It fails if the one who asked has gone in this moment.
            let _ = sender.send(answer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<ApiAnswer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending<'_> {
    pub(crate) fn id(&self) -> ApiId {
        self.id
    }

    /// Waits for the answer; `None` when none comes, and then it is unknown whether what was asked
    /// was done. An answer that is there is taken however late it is.
    pub(crate) async fn wait(&mut self) -> Option<ApiAnswer> {
        let answer = tokio::time::timeout_at(self.deadline, &mut self.receiver).await;
        answer.ok()?.ok()
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.answers.lock().remove(&self.id.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats() -> ApiAnswer {
        ApiAnswer::Stats(Box::default())
    }

    #[tokio::test(start_paused = true)]
    async fn each_gets_its_own_answer() {
        let answers = Answers::default();
        let (mut first, mut second) = (answers.expect(), answers.expect());
        answers.give(second.id(), ApiAnswer::Clients(Vec::new()));
        answers.give(first.id(), stats());
        assert!(matches!(first.wait().await, Some(ApiAnswer::Stats(_))));
        assert!(matches!(second.wait().await, Some(ApiAnswer::Clients(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_answer_leaves_nothing() {
        let answers = Answers::default();
        let mut pending = answers.expect();
        let id = pending.id();
        assert!(pending.wait().await.is_none());
        drop(pending);
        assert!(answers.lock().is_empty());
        answers.give(id, stats());
    }
}
