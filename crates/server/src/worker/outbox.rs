//! What waits to be written: every connection's queue of chunks, in one table for the worker.
//!
//! A queue is four numbers in the connection's slot; its chunks are entries of the table, linked
//! by index. So an idle connection owns no buffer, a chunk costs no allocation once the table has
//! grown, and a turn that sends one chunk to a thousand connections fills a thousand entries in
//! a row. The queues themselves have no bound here: the shard asks for [`Queue::bytes`] and keeps
//! the bound. The table shrinks whenever it is empty.

use bytes::Bytes;
use std::io::{self, IoSlice, Write};

/// No entry.
const NONE: u32 = u32::MAX;
/// Chunks that go into one system call.
pub(crate) const GATHER_COUNT: usize = 64;
/// An empty table keeps room for so many chunks.
const KEPT_COUNT: usize = 16_384;

/// One connection's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    head: u32,
    tail: u32,
    /// Bytes of the head that the kernel has taken.
    taken: usize,
    bytes: usize,
}

impl Queue {
    pub(crate) const EMPTY: Self = Self { head: NONE, tail: NONE, taken: 0, bytes: 0 };

    /// Bytes that the kernel has not yet taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == NONE
    }
}

/// The chunks of all queues of one worker.
#[derive(Debug)]
pub(crate) struct Chunks {
    entries: Vec<Entry>,
    /// The first free entry; the others follow by `next`.
    free: u32,
    used: usize,
    /// Of all queues.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    chunk: Bytes,
    next: u32,
}

/// How far a [`Chunks::write`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The queue is empty.
    Done,
    /// The peer, or the network, is slower than we are; go on when the socket is writable.
    Blocked,
}

impl Chunks {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), free: NONE, used: 0, bytes: 0 }
    }

    /// Puts `chunk` at the end of `queue`.
    pub(crate) fn push(&mut self, queue: &mut Queue, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        queue.bytes += chunk.len();
        self.bytes += chunk.len();
        let entry = Entry { chunk, next: NONE };
        let index = if self.free == NONE {
            self.entries.push(entry);
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 chunks fit in memory")
        } else {
            let index = self.free;
            let slot = &mut self.entries[index as usize];
            self.free = slot.next;
            *slot = entry;
            index
        };
        self.used += 1;
        if queue.tail == NONE {
            queue.head = index;
        } else {
            self.entries[queue.tail as usize].next = index;
        }
        queue.tail = index;
    }

    /// Writes as much of `queue` as `out` takes, many chunks at a time.
    ///
    /// A short write means that the socket is full, and that the kernel will report when it no
    /// longer is, just as `WouldBlock` does: epoll(7), question 9.
    ///
    /// # Errors
    /// What `out` reports, but for `WouldBlock` and `Interrupted`.
    pub(crate) fn write(
        &mut self,
        queue: &mut Queue,
        out: &mut impl Write,
    ) -> io::Result<Progress> {
        while !queue.is_empty() {
            let (offered, result) = self.write_once(queue, out);
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(size) => {
                    self.advance(queue, size);
                    if size < offered {
                        return Ok(Progress::Blocked);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Progress::Done)
    }

    fn write_once(&self, queue: &Queue, out: &mut impl Write) -> (usize, io::Result<usize>) {
        let head = &self.entries[queue.head as usize];
        let first = &head.chunk[queue.taken..];
        if head.next == NONE {
            return (first.len(), out.write(first));
        }
        let mut slices = [IoSlice::new(&[]); GATHER_COUNT];
        slices[0] = IoSlice::new(first);
        let (mut count, mut offered, mut next) = (1, first.len(), head.next);
        while next != NONE && count < GATHER_COUNT {
            let entry = &self.entries[next as usize];
            slices[count] = IoSlice::new(&entry.chunk);
            offered += entry.chunk.len();
            count += 1;
            next = entry.next;
        }
        (offered, out.write_vectored(&slices[..count]))
    }

    fn advance(&mut self, queue: &mut Queue, size: usize) {
        queue.bytes -= size;
        self.bytes -= size;
        queue.taken += size;
        while queue.head != NONE {
            let len = self.entries[queue.head as usize].chunk.len();
            if queue.taken < len {
                return;
            }
            queue.taken -= len;
            self.pop(queue);
        }
    }

    fn pop(&mut self, queue: &mut Queue) {
        let index = queue.head;
        let entry = &mut self.entries[index as usize];
        entry.chunk = Bytes::new();
        queue.head = std::mem::replace(&mut entry.next, self.free);
        if queue.head == NONE {
            queue.tail = NONE;
        }
        self.free = index;
        self.used -= 1;
        if self.used == 0 {
            self.entries.clear();
            self.entries.shrink_to(KEPT_COUNT);
            self.free = NONE;
        }
    }

    /// Bytes in all queues that the kernel has not yet taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Throws away what waits in `queue`.
    pub(crate) fn clear(&mut self, queue: &mut Queue) {
        self.bytes -= queue.bytes;
        while !queue.is_empty() {
            self.pop(queue);
        }
        *queue = Queue::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, at most `step` a call, then blocks.
    struct Socket {
        got: Vec<u8>,
        room: usize,
        step: usize,
        calls: usize,
    }

    impl Socket {
        fn with_room(room: usize) -> Self {
            Self { got: Vec::new(), room, step: usize::MAX, calls: 0 }
        }
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.write_vectored(&[IoSlice::new(bytes)])
        }

        fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            self.calls += 1;
            if self.room == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let size = all.len().min(self.room).min(self.step);
            self.got.extend_from_slice(&all[..size]);
            self.room -= size;
            Ok(size)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn push_all(chunks: &mut Chunks, queue: &mut Queue, texts: &[&'static str]) {
        texts.iter().for_each(|text| chunks.push(queue, Bytes::from_static(text.as_bytes())));
    }

    #[test]
    fn a_turns_chunks_go_out_in_one_call() {
        let (mut chunks, mut queue) = (Chunks::new(), Queue::EMPTY);
        push_all(&mut chunks, &mut queue, &["one ", "two ", "", "three"]);
        assert_eq!((queue.bytes(), chunks.bytes()), (13, 13));
        let mut socket = Socket::with_room(usize::MAX);
        assert_eq!(chunks.write(&mut queue, &mut socket).unwrap(), Progress::Done);
        assert_eq!((socket.got.as_slice(), socket.calls), (b"one two three".as_slice(), 1));
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn more_chunks_than_one_call_takes_keep_their_order() {
        let (mut chunks, mut queue) = (Chunks::new(), Queue::EMPTY);
        let texts = ["ab", "c", "def"].repeat(100);
        push_all(&mut chunks, &mut queue, &texts);
        let mut socket = Socket::with_room(usize::MAX);
        assert_eq!(chunks.write(&mut queue, &mut socket).unwrap(), Progress::Done);
        assert_eq!((socket.got, socket.calls), (texts.concat().into_bytes(), 5));
    }

    #[test]
    fn a_write_that_stops_anywhere_goes_on_there() {
        let texts = ["ab", "c", "defgh", "i"].repeat(30);
        let whole = texts.concat().into_bytes();
        for step in 1..12 {
            let (mut chunks, mut queue) = (Chunks::new(), Queue::EMPTY);
            push_all(&mut chunks, &mut queue, &texts);
            let mut socket = Socket::with_room(0);
            for written in 0.. {
                assert_eq!(queue.bytes(), whole.len() - socket.got.len());
                if chunks.write(&mut queue, &mut socket).unwrap() == Progress::Done {
                    break;
                }
                assert!(written < whole.len() * 2);
                socket.room = step;
            }
            assert_eq!(socket.got, whole);
        }
    }

    #[test]
    fn a_short_write_is_not_tried_again() {
        let (mut chunks, mut queue) = (Chunks::new(), Queue::EMPTY);
        push_all(&mut chunks, &mut queue, &["hello"]);
        let mut socket = Socket { step: 2, ..Socket::with_room(100) };
        assert_eq!(chunks.write(&mut queue, &mut socket).unwrap(), Progress::Blocked);
        assert_eq!((socket.calls, queue.bytes()), (1, 3));
    }

    #[test]
    fn queues_do_not_mix_and_entries_are_used_again() {
        let mut chunks = Chunks::new();
        let (mut a, mut b) = (Queue::EMPTY, Queue::EMPTY);
        for _ in 0..100 {
            push_all(&mut chunks, &mut a, &["a"]);
            push_all(&mut chunks, &mut b, &["b"]);
        }
        chunks.clear(&mut a);
        push_all(&mut chunks, &mut a, &["A"; 50]);
        assert_eq!(chunks.entries.len(), 200);
        let mut socket = Socket::with_room(usize::MAX);
        chunks.write(&mut b, &mut socket).unwrap();
        chunks.write(&mut a, &mut socket).unwrap();
        assert_eq!(socket.got, [[b'b'; 100].as_slice(), &[b'A'; 50]].concat());
        assert!(chunks.entries.is_empty() && chunks.used == 0 && chunks.bytes() == 0);
    }
}
