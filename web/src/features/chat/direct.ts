import type { ClarionError, Client, Publication } from '@clarion/client';
import { type Delivery, type Entry, type Message, Store } from '@clarion/client/react';
import { directRoom } from './chat-room.ts';
import { authorOf, CHAT_MESSAGE, chatPayload, textOf } from './message.ts';
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

const THREADS_MAX = 100;
const ENTRIES_MAX = 1_000;

/**
 * Conversations with one user each, outside of React.
 *
 * Each writes into the other's `$user/` room and reads its own, so nobody but the two windows has
 * both halves: they are kept here, in memory, and nowhere else. A guest's room is an address of one
 * session and has no log, so a guest who is away is not reached.
 */
export class DirectMessages {
  /** By user, in the order in which they began; a new map on every change. */
  readonly threads = new Store<ReadonlyMap<string, Thread>>(new Map());
  readonly #client: Client;
  readonly #author: () => string;
  #inbox = '';
  #off = () => {};
  #watched: string | undefined;
  readonly #unread = new Map<string, number>();
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
    if (user !== undefined) this.#count(user, 0);
  }

  /** Takes it off the list, with all that was said. */
  close(user: string): void {
    const threads = new Map(this.threads.get());
    threads.delete(user);
    this.#count(user, 0);
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
        () => this.#settle(user, id, 'sent'),
        (error: ClarionError) => this.#settle(user, id, 'failed', error),
      );
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
    const inbox = session ? directRoom(session.user) : '';
    if (inbox === this.#inbox || inbox === '') return;
    this.#inbox = inbox;
    this.#off();
    const room = this.#client.room(inbox);
    const off = [
      room.on('publication', (publication) => this.#receive(publication)),
      room.on('gap', (gap) => {
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

  #receive(publication: Publication): void {
    const { user } = publication.from;
    // What the API sends without a name has nobody who could be answered.
    if (user === undefined || textOf(publication) === undefined) return;
    const message: Message = {
      kind: 'message',
      id: `theirs-${++this.#ids}`,
      publication,
      delivery: 'sent',
    };
    this.#add(user, message, authorOf(publication.payload as { user?: unknown }, user));
    if (this.#watched !== user) this.#count(user, (this.#unread.get(user) ?? 0) + 1);
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
      this.#count(oldest, 0);
    }
    this.threads.set(threads);
  }

  #count(user: string, count: number): void {
    this.#unread.set(user, count);
    setUnread(directRoom(user), count);
  }
}
