//! The core, and what joins it to handles, tasks and streams.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use clarion_protocol::Position;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::core::{
    CallId, ClientEvent, ClientState, CommandError, ConnId, Core, FetchId, Now, Outcome, Output,
    PublishError, RoomEvent, TokenReason,
};
use crate::events::{Owner, Queue};
use crate::inbox::Inbox;
use crate::link::Link;

/// Rooms that the server made us join and whose events nobody has asked for yet.
const UNCLAIMED_MAX: usize = 16;
/// Most events that wait in one of those.
const UNCLAIMED_EVENTS_MAX: usize = 128;

/// How a call ended.
pub(crate) enum Answer {
    Done(Result<Outcome, CommandError>),
    Unpublished(PublishError),
}

/// What the driver's task has to do.
#[derive(Default)]
pub(crate) struct Todo {
    pub(crate) opens: Vec<(ConnId, Option<String>, Arc<Link>)>,
    pub(crate) fetch: Option<(FetchId, TokenReason)>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) ended: bool,
}

/// One client, as its handles and tasks share it.
///
/// A plain mutex: it is held for as long as the core thinks, never over an await.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For the driver: there is something to do.
    driver: Notify,
    /// For who waits for the client to stand somewhere.
    changed: Notify,
    start: Instant,
    /// For streams, which do not keep it alive.
    myself: Weak<Self>,
}

struct State {
    core: Core,
    calls: HashMap<CallId, oneshot::Sender<Answer>>,
    links: HashMap<ConnId, Arc<Link>>,
    todo: Todo,
    deadline_ms: Option<u64>,
    client_events: Vec<Weak<Queue<ClientEvent>>>,
    room_events: BTreeMap<Arc<str>, Vec<Weak<Queue<RoomEvent>>>>,
    unclaimed: VecDeque<(Arc<str>, Arc<Queue<RoomEvent>>)>,
    /// What is to be acknowledged; one, unless the user changes.
    inboxes: HashMap<Arc<str>, Inbox>,
    /// No handle is left, or no driver.
    ended: bool,
}

impl Shared {
    pub(crate) fn new(core: Core) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            state: Mutex::new(State {
                core,
                calls: HashMap::new(),
                links: HashMap::new(),
                todo: Todo::default(),
                deadline_ms: None,
                client_events: Vec::new(),
                room_events: BTreeMap::new(),
                unclaimed: VecDeque::new(),
                inboxes: HashMap::new(),
                ended: false,
            }),
            driver: Notify::new(),
            changed: Notify::new(),
            start: Instant::now(),
            myself: myself.clone(),
        })
    }

    /// Looks at the core.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.lock().core)
    }

    /// Tells the core something, and does what it wants done.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Core, Now) -> R) -> R {
        let mut state = self.lock();
        let now = self.now();
        let result = act(&mut state.core, now);
        self.dispatch(&mut state, now);
        result
    }

    /// Connects, unless there is no driver any more that could.
    pub(crate) fn connect(&self) {
        let mut state = self.lock();
        if !state.ended {
            let now = self.now();
            state.core.connect(now);
            self.dispatch(&mut state, now);
        }
    }

    /// Makes a call of the core that has an answer.
    pub(crate) fn call(
        &self,
        act: impl FnOnce(&mut Core, Now) -> CallId,
    ) -> (CallId, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        let now = self.now();
        let call = act(&mut state.core, now);
        state.calls.insert(call, sender);
        self.dispatch(&mut state, now);
        if state.ended && state.calls.remove(&call).is_some() {
            // Nobody keeps the time any more, so what waits would wait for ever.
            state.core.cancel(call, now);
        }
        (call, receiver)
    }

    /// Nobody waits for this call any more.
    pub(crate) fn cancel(&self, call: CallId) {
        let mut state = self.lock();
        if state.calls.remove(&call).is_some() {
            let now = self.now();
            state.core.cancel(call, now);
            self.dispatch(&mut state, now);
        }
    }

    pub(crate) fn client_events(&self, capacity: usize) -> Arc<Queue<ClientEvent>> {
        let queue = Queue::new(capacity, None);
        let mut state = self.lock();
        if state.ended {
            queue.close();
        }
        state.client_events.retain(|it| it.strong_count() > 0);
        state.client_events.push(Arc::downgrade(&queue));
        queue
    }

    pub(crate) fn room_events(&self, room: &str, capacity: usize) -> Arc<Queue<RoomEvent>> {
        let mut state = self.lock();
        if let Some(index) = state.unclaimed.iter().position(|(name, _)| &**name == room)
            && let Some((_, queue)) = state.unclaimed.remove(index)
        {
            return queue;
        }
        let queue = Queue::new(capacity, Some(self.owner(room.into())));
        if state.ended {
            queue.close();
        }
        let listeners = state.room_events.entry(room.into()).or_default();
        listeners.retain(|it| it.strong_count() > 0);
        listeners.push(Arc::downgrade(&queue));
        queue
    }

    /// The application has acknowledged everything up to here.
    pub(crate) fn acknowledged(&self, room: &str, position: &Position) {
        if let Some(inbox) = self.lock().inboxes.get_mut(room) {
            inbox.acknowledged(position);
        }
    }

    /// Learns what the reader of a room's stream has handled.
    fn owner(&self, room: Arc<str>) -> Owner<RoomEvent> {
        let shared = self.myself.clone();
        Box::new(move |number, reader| {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.lock();
            let inbox = state.inboxes.get_mut(&room);
            if let Some(position) = inbox.and_then(|inbox| inbox.handled(number, reader)) {
                let now = shared.now();
                state.core.handled(&room, &position, now);
                shared.dispatch(&mut state, now);
            }
        })
    }

    /// Waits until `find` finds something.
    pub(crate) async fn wait<R>(&self, find: impl Fn(&Core, bool) -> Option<R>) -> R {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let found = {
                let state = self.lock();
                find(&state.core, state.links.is_empty())
            };
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    /// The last handle is gone, or the driver: ends the session and every stream.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        let now = self.now();
        state.core.close(now);
        self.dispatch(&mut state, now);
        state.ended = true;
        // To those who waited in a client that was closed already, this is the answer.
        state.calls.clear();
        state.unclaimed.clear();
        for queue in std::mem::take(&mut state.client_events) {
            queue.upgrade().iter().for_each(|queue| queue.close());
        }
        for queue in std::mem::take(&mut state.room_events).into_values().flatten() {
            queue.upgrade().iter().for_each(|queue| queue.close());
        }
        drop(state);
        self.driver.notify_one();
    }

    /// The driver is gone, and with it the tasks of the connections, even those that never ran.
    pub(crate) fn abandon(&self) {
        self.end();
        let mut state = self.lock();
        state.links.clear();
        state.todo = Todo::default();
        drop(state);
        self.changed.notify_waiters();
    }

    // For the driver and the connections' tasks

    pub(crate) async fn has_work(&self) {
        self.driver.notified().await;
    }

    pub(crate) fn take_todo(&self) -> Todo {
        let mut state = self.lock();
        let deadline_ms = state.core.next_deadline_ms();
        state.deadline_ms = deadline_ms;
        Todo {
            deadline: deadline_ms
                .and_then(|ms| self.start.checked_add(std::time::Duration::from_millis(ms))),
            ended: state.ended,
            ..std::mem::take(&mut state.todo)
        }
    }

    /// The connection's task has ended.
    pub(crate) fn forget(&self, conn: ConnId) {
        self.lock().links.remove(&conn);
        self.changed.notify_waiters();
    }

    /// A token could not even be asked for, or the asking panicked.
    pub(crate) fn on_token(&self, fetch: FetchId, result: Result<String, crate::core::TokenError>) {
        self.with(|core, now| core.on_token(fetch, result, now));
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.start.elapsed().as_millis() as u64, wall_ms: wall.as_millis() as u64 }
    }

    fn dispatch(&self, state: &mut State, now: Now) {
        let mut has_work = false;
        while let Some(output) = state.core.poll_output() {
            match output {
                Output::Open { conn, url } => {
                    let link = Arc::new(Link::default());
                    state.links.insert(conn, link.clone());
                    state.todo.opens.push((conn, url, link));
                    has_work = true;
                }
                Output::Send { conn, text } => {
                    let link = state.links.get(&conn);
                    if link.is_some_and(|link| link.send(text)) {
                        state.core.on_congested(true, now);
                    }
                }
                Output::Close { conn, code, reason } => {
                    if let Some(link) = state.links.get(&conn) {
                        link.end(code, reason);
                    }
                }
                Output::FetchToken { fetch, reason } => {
                    state.todo.fetch = Some((fetch, reason));
                    has_work = true;
                }
                // Whoever asked may be gone; then nobody is told.
                Output::Done { call, result } => {
                    if let Some(sender) = state.calls.remove(&call) {
                        let _ = sender.send(Answer::Done(result));
                    }
                }
                Output::PublishFailed { call, error } => {
                    if let Some(sender) = state.calls.remove(&call) {
                        let _ = sender.send(Answer::Unpublished(error));
                    }
                }
                Output::Client(event) => self.tell_client(state, &event),
                Output::Room(room, event) => tell_room(state, &room, &event),
            }
        }
        // The driver sleeps until what it was told last; tell it only of what is sooner.
        let deadline_ms = state.core.next_deadline_ms();
        let is_sooner = match (deadline_ms, state.deadline_ms) {
            (Some(next), Some(known)) => next < known,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_sooner || has_work {
            state.deadline_ms = deadline_ms;
            self.driver.notify_one();
        }
    }

    fn tell_client(&self, state: &mut State, event: &ClientEvent) {
        match event {
            ClientEvent::State(_) => self.changed.notify_waiters(),
            ClientEvent::Room(room) if !state.client_events.is_empty() => {
                let owner = self.owner(room.clone());
                let queue = Queue::new(UNCLAIMED_EVENTS_MAX, Some(owner));
                let listeners = state.room_events.entry(room.clone()).or_default();
                listeners.push(Arc::downgrade(&queue));
                state.unclaimed.push_back((room.clone(), queue));
                if state.unclaimed.len() > UNCLAIMED_MAX {
                    state.unclaimed.pop_front();
                }
            }
            ClientEvent::Room(_) | ClientEvent::Error(_) => {}
        }
        state.client_events.retain(|queue| match queue.upgrade() {
            Some(queue) => {
                queue.push(event.clone(), 0, None);
                true
            }
            None => false,
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell_room(state: &mut State, room: &Arc<str>, event: &RoomEvent) {
    let (size, position) = match event {
        RoomEvent::Publication(it) => (it.payload.text().len(), it.position.as_ref()),
        _ => (0, None),
    };
    let position = position.filter(|_| state.core.acknowledges(room));
    let mut inbox = position.map(|it| (it, state.inboxes.entry(room.clone()).or_default()));
    let number = inbox.as_ref().map(|(_, inbox)| inbox.next_number());
    let (mut readers, mut is_whole) = (Vec::new(), true);
    if let Some(listeners) = state.room_events.get_mut(room) {
        listeners.retain(|listener| {
            let Some(queue) = listener.upgrade() else { return false };
            let is_kept = queue.push(event.clone(), size, number);
            is_whole &= is_kept;
            if is_kept && number.is_some() {
                readers.push(listener.clone());
            }
            true
        });
        if listeners.is_empty() {
            state.room_events.remove(room);
        }
    }
    if let Some((position, inbox)) = &mut inbox {
        inbox.delivered(position.clone(), readers, is_whole);
    }
}

/// What keeps a client going: when the last one is dropped, it ends.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.end();
    }
}

/// Tells whether a client is closed, and how far its sockets are.
pub(crate) fn is_closed(core: &Core, no_links: bool) -> Option<()> {
    (no_links && matches!(core.status().state, ClientState::Closed | ClientState::Idle))
        .then_some(())
}
