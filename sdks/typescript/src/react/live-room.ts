import type { Client } from '../client.ts';
import type { JoinPayload, Position, Publication, Sender } from '../codec.ts';
import type { Unsubscribe } from '../emitter.ts';
import type { ClarionError } from '../errors.ts';
import type { Room } from '../room.ts';
import { systemClock } from '../timer.ts';
import { type Feed, FeedBuilder, type Message, NO_FEED } from './feed.ts';
import { perFrame, Store } from './store.ts';

export interface RoomOptions extends JoinPayload {
  /** The types of publications that are messages. Default: all but `typing`. */
  types?: readonly string[];
}

declare const queueMicrotask: (run: () => void) => void;

/** The type of the ephemeral publication that says whether its sender is: true or false. */
export const TYPING = 'typing';

/** A room that nobody needs is left after this long: remounting must not leave and join. */
const GRACE_MS = 250;
const DEFAULTS: RoomOptions = { last: 50, members: true };
/** Says again that one is typing, as long as one is. */
const TYPING_AGAIN_MS = 3_000;
/** Is not typing any more, unless that is said again. */
const TYPING_OVER_MS = 6_000;
const TYPISTS_MAX = 50;

/** The room's state tells it, too; and rooms with `$` are joined and left by the server. */
const ignore = () => {};

/**
 * A room as long as a component is interested in it: joined by the first, left after the last.
 *
 * There is one per room of a client. Who renders reads its stores; they change once per frame.
 */
export class LiveRoom {
  readonly room: Room;
  readonly feed = new Store<Feed>(NO_FEED);
  /** Who is typing, I excluded. */
  readonly typists = new Store<readonly Sender[]>([]);
  readonly #client: Client;
  #options: RoomOptions = {};
  #holds = 0;
  #grace: unknown;
  #off: Unsubscribe[] = [];
  #builder = new FeedBuilder();
  #isScheduled = false;
  /** Out for good: what a later join brings is not the continuation of what is shown. */
  #isOver = false;
  #typing = new Map<string, { from: Sender; timer: unknown }>();
  #saidTypingAt = 0;

  constructor(client: Client, room: Room) {
    this.#client = client;
    this.room = room;
  }

  /** Joined until everyone who called this has called what it returned. */
  hold(options?: RoomOptions): () => void {
    if (options) this.#options = options;
    systemClock.clear(this.#grace);
    if (this.#holds++ === 0 && !this.#off[0]) this.#enter();
    return () => {
      if (--this.#holds === 0) {
        this.#grace = systemClock.after(GRACE_MS, () => this.#exit());
      }
    };
  }

  /** Joins again after having been refused or removed. */
  readonly rejoin = (): void => {
    const { types: _, ...options } = { ...DEFAULTS, ...this.#options };
    this.room.join(options).catch(ignore);
  };

  readonly send = (type: string, payload: unknown): void => {
    const { session: from = {} } = this.#client;
    const key = this.#client.newKey();
    const time = new Date(systemClock.now()).toISOString();
    this.#saidTypingAt = 0;
    this.#publish(key, { type, payload, room: this.room.name, time, from, key });
  };

  /** With the same key: if it had arrived after all, it is not doubled. */
  readonly retry = (id: string): void => {
    const message = this.#builder.outgoing(id);
    if (message?.error) this.#publish(id, message.publication);
  };

  readonly discard = (id: string): void => {
    this.#builder.discard(id);
    this.#changed();
  };

  readonly loadEarlier = async (): Promise<void> => {
    const builder = this.#builder;
    const { oldest, earlier } = builder;
    // Where there is more, something is known.
    if (earlier === 'loading' || earlier === 'none') return;
    builder.earlier = 'loading';
    this.#changed();
    try {
      const { publications, more } = await this.room.history({ before: oldest as Position });
      builder.oldest = publications[0]?.position ?? oldest;
      builder.prepend(publications.filter(this.#isMessage), more);
    } catch (error) {
      // The log from which the oldest came is gone: there is nothing earlier any more.
      builder.earlier = (error as ClarionError).name === 'epoch_changed' ? 'none' : 'failed';
    }
    this.#changed();
  };

  /** To be called on each key that is typed, and with false when one has stopped. */
  readonly sayTyping = (isTyping: boolean): void => {
    const now = systemClock.now();
    const isKnown = now - this.#saidTypingAt < TYPING_AGAIN_MS;
    if (isTyping === isKnown) return;
    this.#saidTypingAt = isTyping ? now : 0;
    // The first thing to be dropped when there is no connection or too much to say.
    const options = { ephemeral: true, echo: false };
    this.room.publish(TYPING, isTyping, options).catch(ignore);
  };

  #enter(): void {
    const { room } = this;
    const follow = () => {
      const { state, position } = room;
      if (state === 'left') this.#isOver = !position;
      else if (this.#isOver) this.#reset();
      if (state === 'joined' && position) this.#builder.joined(position);
      this.#changed();
    };
    this.#off = [
      room.on('state', follow),
      room.on('publication', (publication) => this.#receive(publication)),
      room.on('gap', (gap) => {
        this.#builder.note({ kind: 'gap', gap });
        this.#changed();
      }),
      room.on('recovered', ({ from, to }) => {
        if (to >= from) this.#builder.note({ kind: 'recovered', from, to });
        this.#changed();
      }),
    ];
    follow();
    // When all that mount together have said what they want.
    queueMicrotask(() => this.#off[0] && this.rejoin());
  }

  #exit(): void {
    for (const off of this.#off.splice(0)) off();
    this.room.leave().catch(ignore);
    this.#options = {};
    this.#reset();
    this.#changed();
  }

  #reset(): void {
    this.#isOver = false;
    this.#builder = new FeedBuilder();
    for (const [client, { from }] of this.#typing) this.#hear(client, from, false);
  }

  #publish(id: string, publication: Publication): void {
    const { room } = this;
    const builder = this.#builder;
    const message: Message = { kind: 'message', id, publication, delivery: 'sending' };
    const publish = (options: { key?: string }) =>
      room.publish(publication.type, publication.payload, options);
    const settle = (error?: ClarionError) => {
      builder.settle(id, error);
      this.#changed();
    };
    builder.send(message);
    this.#changed();
    publish(room.logged === false ? {} : { key: id })
      .catch((error: ClarionError) => {
        // It was not yet known that the room keeps no log.
        if (error.name !== 'key_needs_log') throw error;
        return publish({});
      })
      .then(() => settle(), settle);
  }

  #receive(publication: Publication): void {
    const { type, payload, from } = publication;
    const { client } = from;
    const isMine = client === this.#client.session?.client;
    if (this.#isMessage(publication)) {
      this.#builder.receive(publication, isMine);
      this.#changed();
    }
    // Whoever has said something has stopped typing it.
    if (!client || isMine || (type !== TYPING && !this.#typing.has(client))) return;
    this.#hear(client, from, payload === true);
  }

  #hear(client: string, from: Sender, isTyping: boolean): void {
    const typing = this.#typing;
    systemClock.clear(typing.get(client)?.timer);
    typing.delete(client);
    if (isTyping && typing.size < TYPISTS_MAX) {
      const timer = systemClock.after(TYPING_OVER_MS, () => this.#hear(client, from, false));
      typing.set(client, { from, timer });
    }
    this.typists.set([...typing.values()].map((typist) => typist.from));
  }

  readonly #isMessage = ({ type }: Publication): boolean =>
    this.#options.types?.includes(type) ?? type !== TYPING;

  #changed(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    perFrame(() => {
      this.#isScheduled = false;
      this.feed.set(this.#builder.feed());
    });
  }
}

const known = new WeakMap<Room, LiveRoom>();

/** The same one for the same name, as with the client's own handles. */
export function liveRoom(client: Client, name: string): LiveRoom {
  const room = client.room(name);
  const live = known.get(room) ?? new LiveRoom(client, room);
  known.set(room, live);
  return live;
}
