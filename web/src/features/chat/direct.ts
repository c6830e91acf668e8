import type { ClarionError, Client, Position, Publication, Room } from '@clarion/client';
import {
  type Delivery,
  type Earlier,
  type Entry,
  type Message,
  Store,
} from '@clarion/client/react';
import { userName } from '../../shared/user-name.ts';
import { directRoom } from './chat-room.ts';
import { authorOf, CHAT_MESSAGE, type ChatPayload, chatPayload, textOf } from './message.ts';
import { setUnread } from './unread.ts';

/** What I and one other user have written to each other. */
export interface Thread {
  readonly user: string;
  /** What the other was last called. */
  readonly name: string;
  readonly entries: readonly Entry[];
  /** The server does not let me write to users. */
  readonly isForbidden: boolean;
}

/** What is known of my own room, where others write to me. */
export interface Inbox {
  /** The server keeps what comes while I am away; undefined until it is known. */
  readonly isKept: boolean | undefined;
  /** Whether there is more that I have seen on some device. */
  readonly earlier: Earlier;
  /** Something that I have never seen is not kept any more. */
  readonly isTrimmed: boolean;
  /** What I write can be kept, too. */
  readonly keepsMine: boolean;
}

const UNKNOWN: Inbox = { isKept: undefined, earlier: 'none', isTrimmed: false, keepsMine: true };
/** My copy of what I wrote to somebody, in my own room. */
const CHAT_SENT = 'chat_sent';
const PAGE = 50;
const THREADS_MAX = 100;
const ENTRIES_MAX = 1_000;

/**
 * Conversations with one user each, outside of React.
 *
 * Each writes into the other's `$user/` room and reads its own, so nobody but the two windows has
 * both halves. What others write is in my room's log, if I am no guest, and comes when I am back; a
 * message is acknowledged when I have seen it, so that a device that is new begins with what I have
 * not. What I write is in a log that I may not read, so a copy goes to my own. A guest's room is an
 * address of one session and has no log, so a guest who is away is not reached, and all that is said
 * is kept here, in memory, and nowhere else.
 */
export class DirectMessages {
  /** By user, in the order in which they began; a new map on every change. */
  readonly threads = new Store<ReadonlyMap<string, Thread>>(new Map());
  readonly inbox = new Store<Inbox>(UNKNOWN);
  readonly #client: Client;
  readonly #author: () => string;
  #room: Room | undefined;
  /** What is earlier lies before it. */
  #oldest: Position | undefined;
  #off = () => {};
  #watched: string | undefined;
  /** Keys of copies of what is shown already. */
  readonly #copies = new Set<string>();
  /** By user: what to call when their messages have been seen. */
  readonly #unseen = new Map<string, (() => void)[]>();
  #ids = 0;

  constructor(client: Client, author: () => string) {
    this.#client = client;
    this.#author = author;
    client.on('state', () => this.#listen());
  }

  /** Begins a conversation, or goes on with it. */
  open(user: string, name: string): void {
    if (!this.threads.get().has(user)) this.#change(user, name, (thread) => thread);
  }

  watch(user: string | undefined): void {
    this.#watched = user;
    if (user !== undefined) this.#see(user);
  }

  seeAll(): void {
    for (const user of [...this.#unseen.keys()]) this.#see(user);
  }

  /** Reads what I have seen before; it says itself that it could not. */
  async loadEarlier(): Promise<void> {
    const before = this.#oldest;
    const room = this.#room;
    if (!room || !before || this.inbox.get().earlier === 'loading') return;
    this.#learn({ earlier: 'loading' });
    try {
      const { publications, more } = await room.history({ before, limit: PAGE });
      if (room !== this.#room) return;
      this.#oldest = publications[0]?.position ?? before;
      // The newest first, each put before what is there.
      for (const publication of publications.reverse()) this.#take(publication, true);
      this.#learn({ earlier: more ? 'more' : 'none' });
    } catch (error) {
      // The log from which it came is gone: there is nothing earlier any more.
      const isGone = (error as ClarionError).name === 'epoch_changed';
      if (room === this.#room) this.#learn({ earlier: isGone ? 'none' : 'failed' });
    }
  }

  /** Takes it off the list, with all that was said. */
  close(user: string): void {
    const threads = new Map(this.threads.get());
    threads.delete(user);
    this.#see(user);
    this.threads.set(threads);
  }

  send(user: string, text: string): void {
    const { session } = this.#client;
    const publication: Publication = {
      type: CHAT_MESSAGE,
      payload: chatPayload(this.#author(), text),
      room: directRoom(user),
      time: new Date().toISOString(),
      from: session ? { client: session.client, user: session.user } : {},
    };
    const id = `mine-${++this.#ids}`;
    this.#add(user, { kind: 'message', id, publication, delivery: 'sending' });
    this.#publish(user, id, publication);
  }

  retry(user: string, id: string): void {
    const entry = this.threads
      .get()
      .get(user)
      ?.entries.find((each) => each.id === id);
    if (entry?.kind !== 'message' || entry.delivery !== 'failed') return;
    this.#settle(user, id, 'sending');
    this.#publish(user, id, entry.publication);
  }

  discard(user: string, id: string): void {
    this.#change(user, undefined, (thread) => ({
      ...thread,
      entries: thread.entries.filter((entry) => entry.id !== id),
    }));
  }

  #publish(user: string, id: string, { type, payload, room }: Publication): void {
    this.#client
      .room(room)
      .publish(type, payload)
      .then(
        () => {
          this.#settle(user, id, 'sent');
          this.#keep(user, id, payload);
        },
        (error: ClarionError) => this.#settle(user, id, 'failed', error),
      );
  }

  #keep(user: string, id: string, payload: unknown): void {
    const { session } = this.#client;
    if (!session || !this.inbox.get().isKept || user === session.user) return;
    const key = `${session.client}.${id}`;
    this.#copies.add(key);
    this.#room
      ?.publish(CHAT_SENT, { ...(payload as ChatPayload), to: user }, { key })
      .catch(() => this.#learn({ keepsMine: false }));
  }

  #settle(user: string, id: string, delivery: Delivery, error?: ClarionError): void {
    // Closed meanwhile: then there is nothing to show it in.
    if (!this.threads.get().has(user)) return;
    this.#change(user, undefined, (thread) => ({
      ...thread,
      isForbidden:
        delivery === 'failed' ? error?.code === 403 : thread.isForbidden && delivery !== 'sent',
      entries: thread.entries.map((entry): Entry => {
        if (entry.id !== id || entry.kind !== 'message') return entry;
        const { error: _, ...rest } = entry;
        return { ...rest, delivery, ...(error && { error }) };
      }),
    }));
  }

  /** Guests are another user after each new session, and have another inbox. */
  #listen(): void {
    const { session } = this.#client;
    if (!session || this.#room?.name === directRoom(session.user)) return;
    const room = this.#client.room(directRoom(session.user));
    this.#off();
    this.#room = room;
    this.#oldest = undefined;
    this.inbox.set(UNKNOWN);
    const off = [
      room.on('state', ({ state }) => {
        if (state === 'joined' && this.inbox.get().isKept === undefined) this.#begin(room);
      }),
      room.on('publication', (publication) => this.#receive(publication)),
      room.on('gap', (gap) => {
        // Without a beginning: it was gone before I came.
        if (gap.reason === 'trimmed' && gap.from === undefined) this.#learn({ isTrimmed: true });
        // Whose messages are missing nobody knows.
        for (const user of this.threads.get().keys()) {
          this.#add(user, { kind: 'gap', id: `gap-${++this.#ids}`, gap });
        }
      }),
    ];
    this.#off = () => {
      for (const stop of off) stop();
    };
  }

  #begin({ logged, position }: Room): void {
    this.#learn({ isKept: logged === true });
    if (!position) return;
    // What I have not seen comes by itself.
    this.#oldest = { ...position, offset: position.offset + 1 };
    this.loadEarlier();
  }

  #learn(news: Partial<Inbox>): void {
    this.inbox.set({ ...this.inbox.get(), ...news });
  }

  /** Handled, and with that acknowledged, when the promise is fulfilled. */
  #receive(publication: Publication): Promise<void> | undefined {
    const user = this.#take(publication, false);
    if (user === undefined || this.#watched === user) return undefined;
    return new Promise((resolve) => {
      const unseen = [...(this.#unseen.get(user) ?? []), resolve];
      this.#unseen.set(user, unseen);
      setUnread(directRoom(user), unseen.length);
    });
  }

  /** Puts it where it belongs; returns with whom, if it is a message. */
  #take(publication: Publication, isEarlier: boolean): string | undefined {
    const { user } = publication.from;
    const to = this.#receiver(publication);
    if (to !== undefined) {
      this.#takeCopy(to, publication, isEarlier);
      return undefined;
    }
    // What the API sends without a name has nobody who could be answered.
    if (user === undefined || textOf(publication) === undefined) return undefined;
    const name = authorOf(publication.payload as { user?: unknown }, user);
    this.#put(user, name, publication, isEarlier);
    return user;
  }

  /** To whom this is my copy of a message; undefined if it is something else. */
  #receiver({ type, payload, from }: Publication): string | undefined {
    if (type !== CHAT_SENT || from.user !== this.#client.session?.user) return undefined;
    const { to } = (payload ?? {}) as { to?: unknown };
    return typeof to === 'string' && to !== '' ? to : undefined;
  }

  #takeCopy(to: string, copy: Publication, isEarlier: boolean): void {
    if (copy.key !== undefined && this.#copies.delete(copy.key)) return;
    const { session } = this.#client;
    const from = session ? { client: session.client, user: session.user } : {};
    const publication = { ...copy, type: CHAT_MESSAGE, room: directRoom(to), from };
    if (textOf(publication) === undefined) return;
    // What they call themselves they say in what they write.
    const name = this.threads.get().get(to)?.name ?? userName(to) ?? to;
    this.#put(to, name, publication, isEarlier);
  }

  #put(user: string, name: string, publication: Publication, isEarlier: boolean): void {
    const id = `came-${++this.#ids}`;
    const message: Message = { kind: 'message', id, publication, delivery: 'sent' };
    if (!isEarlier) {
      this.#add(user, message, name);
      return;
    }
    const threads = this.threads.get();
    // What came later is worth more.
    if (!threads.has(user) && threads.size >= THREADS_MAX) return;
    // What they are called now is known from what came later, if they have said it.
    const known = threads.get(user)?.name;
    this.#change(user, known === undefined || known === user ? name : known, (thread) => ({
      ...thread,
      entries: [message, ...thread.entries].slice(0, ENTRIES_MAX),
    }));
  }

  #add(user: string, entry: Entry, name?: string): void {
    this.#change(user, name, (thread) => ({
      ...thread,
      entries: [...thread.entries, entry].slice(-ENTRIES_MAX),
    }));
  }

  #change(user: string, name: string | undefined, change: (thread: Thread) => Thread): void {
    const threads = new Map(this.threads.get());
    const before = threads.get(user);
    const known = before ?? { user, name: name ?? user, entries: [], isForbidden: false };
    threads.set(user, change(name === undefined ? known : { ...known, name }));
    for (const oldest of threads.keys()) {
      if (threads.size <= THREADS_MAX) break;
      threads.delete(oldest);
      // Not seen, and so not acknowledged: it comes again.
      this.#unseen.delete(oldest);
      setUnread(directRoom(oldest), 0);
    }
    this.threads.set(threads);
  }

  #see(user: string): void {
    for (const seen of this.#unseen.get(user) ?? []) seen();
    this.#unseen.delete(user);
    setUnread(directRoom(user), 0);
  }
}
