//! A call that was made, and its answer.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::core::{CallId, CommandError, Core, Now};
use crate::shared::{Answer, Handle};

/// A call that was made; waits for the answer.
///
/// The call is made when this is returned, not when it is awaited, so that several can be under way
/// in a known order. It always becomes ready, within its timeout.
///
/// # Cancel safety
/// Dropping it before it is ready takes back what was not sent: a publication that waits for a
/// connection, a question. What was sent is carried out or not; nobody hears of it. A room that is
/// joined or left stays so.
#[must_use = "a call that nobody waits for may be taken back"]
pub struct Call<T> {
    state: State,
    read: fn(Answer) -> T,
}

enum State {
    Waiting {
        handle: Arc<Handle>,
        id: CallId,
        answer: oneshot::Receiver<Answer>,
    },
    /// It failed before it could be made.
    Failed(Option<Answer>),
}

impl<T> Call<T> {
    pub(crate) fn new(
        handle: &Arc<Handle>,
        act: impl FnOnce(&mut Core, Now) -> CallId,
        read: fn(Answer) -> T,
    ) -> Self {
        let (id, answer) = handle.shared.call(act);
        Self { state: State::Waiting { handle: handle.clone(), id, answer }, read }
    }

    pub(crate) fn failed(answer: Answer, read: fn(Answer) -> T) -> Self {
        Self { state: State::Failed(Some(answer)), read }
    }
}

impl<T> Future for Call<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let read = self.read;
        match &mut self.state {
            State::Failed(answer) => Poll::Ready(read(answer.take().unwrap_or_else(closed))),
            State::Waiting { answer, .. } => {
                let answer = Pin::new(answer).poll(context);
                answer.map(|answer| read(answer.unwrap_or_else(|_| closed())))
            }
        }
    }
}

/// Nobody is left who could answer.
fn closed() -> Answer {
    Answer::Done(Err(CommandError::Closed))
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let State::Waiting { handle, id, .. } = &self.state {
            handle.shared.cancel(*id);
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").finish_non_exhaustive()
    }
}

/// The error of an answer that is not of the kind that was asked for.
pub(crate) fn error_of(answer: Answer) -> CommandError {
    match answer {
        Answer::Done(Err(error)) => error,
        Answer::Unpublished(error) => error.error,
        Answer::Done(Ok(_)) => CommandError::Malformed,
    }
}
