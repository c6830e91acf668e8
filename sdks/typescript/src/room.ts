import {
  type AnyEvents,
  type Envelope,
  type GapPayload,
  type JoinPayload,
  type MembersPage,
  type Position,
  type Publication,
  toPublication,
  utf8Size,
} from './codec.ts';
import type { CallOptions } from './commands.ts';
import { Emitter, type Listener, type Unsubscribe } from './emitter.ts';
import { type ClarionError, invalid } from './errors.ts';
import type { Link } from './link.ts';
import type { MembersSnapshot } from './members.ts';
import { Membership, type RoomState } from './membership.ts';
import type { Published, PublishOptions } from './outbox.ts';
import type { StateEvent, Status } from './status.ts';

export interface RoomEvents<Events extends object> {
  state: StateEvent<RoomState>;
  publication: Publication<Events>;
  /** Something was lost for good, and what follows comes after it. */
  gap: GapPayload;
  /**
   * Back after a lost connection, or new in `$user/<me>`: the missed publications `from..to` follow,
   * all of them.
   */
  recovered: { from: number; to: number };
  members: MembersSnapshot;
}

export interface JoinOptions extends JoinPayload, CallOptions {}

export interface HistoryOptions extends CallOptions {
  /** The last `limit` publications below this position. */
  before?: Position;
  /** The first `limit` publications above this position. */
  after?: Position;
  /** At most this many; the server may send fewer. Default 50. */
  limit?: number;
}

/** A part of a room's log, ascending. */
export interface HistoryPage<Events extends object> {
  epoch: string;
  /** The newest offset of the log. */
  offset: number;
  /** The oldest offset that the log still has. */
  first: number;
  publications: Publication<Events>[];
  /** There is more in the direction that was asked for. */
  more: boolean;
}

interface HistoryReply extends Omit<HistoryPage<AnyEvents>, 'publications'> {
  publications: Envelope[];
}

const PAGE = 50;
/** The largest presence state, as JSON. */
const STATE_BYTES = 1024;

/**
 * A handle on one room, good for the life of its client: it survives reconnects.
 *
 * Publishing and history need permission, not membership, so they work before `join()`, too.
 */
export class Room<Events extends object = AnyEvents> {
  readonly name: string;
  /** @internal */
  readonly membership: Membership;
  readonly #link: Link;
  readonly #emitter: Emitter<RoomEvents<Events>>;

  /** @internal */
  constructor(name: string, link: Link, onThrow: (thrown: unknown) => void) {
    this.name = name;
    this.#link = link;
    this.#emitter = new Emitter(onThrow);
    this.membership = new Membership(name, link, {
      onState: (event) => this.#emitter.emit('state', event),
      onPublication: (event) => this.#emitter.emit('publication', event as Publication<Events>),
      onGap: (event) => this.#emitter.emit('gap', event),
      onRecovered: (from, to) => this.#emitter.emit('recovered', { from, to }),
      onMembers: (event) => this.#emitter.emit('members', event),
    });
  }

  get status(): Status<RoomState> {
    return this.membership.status;
  }

  get state(): RoomState {
    return this.membership.status.state;
  }

  /** The last publication seen; to join from there later, keep it before `leave()`. */
  get position(): Position | undefined {
    return this.membership.position;
  }

  /** Whether the room keeps a log; unknown before the first join. */
  get logged(): boolean | undefined {
    return this.membership.logged;
  }

  /** Who is here, if joined with `members: true`; the same object until somebody comes or goes. */
  get members(): MembersSnapshot {
    return this.membership.members;
  }

  /**
   * Listens; the function it returns stops listening.
   *
   * In `$user/<me>` a publication counts as handled when every listener has returned, and what they
   * returned, if it is a promise, is fulfilled. Then it is acknowledged (`ClientOptions.autoAck`).
   */
  on<E extends keyof RoomEvents<Events>>(
    event: E,
    listener: Listener<RoomEvents<Events>[E]>,
  ): Unsubscribe {
    return this.#emitter.on(event, listener);
  }

  /**
   * Joins, and stays joined over reconnects until `leave()`.
   *
   * Resolves once joined. A `timeout` rejects the promise and nothing else: the room is joined as
   * soon as that is possible. It may be ignored by who listens to `state`.
   */
  join({ timeout, signal, ...payload }: JoinOptions = {}): Promise<void> {
    return this.membership.join(payload, call(timeout, signal));
  }

  leave(options: CallOptions = {}): Promise<void> {
    return this.membership.leave(options);
  }

  /** Publishes; settles when the server has accepted it to the room's durability, or will not. */
  publish<Type extends keyof Events & string>(
    type: Type,
    payload: Events[Type],
    options?: PublishOptions,
  ): Promise<Published> {
    return this.#link.publish(this.name, type, payload, options);
  }

  /** Reads the log; without `before` and `after`, its end. */
  async history(options: HistoryOptions = {}): Promise<HistoryPage<Events>> {
    const { timeout, signal, ...rest } = options;
    const payload = { limit: PAGE, ...rest };
    const reply = await this.#request<HistoryReply>('$history', payload, call(timeout, signal));
    const publications = reply.publications.map(toPublication) as Publication<Events>[];
    return { ...reply, publications };
  }

  /** Asks who is here, a page at a time by client id; works without having joined. */
  listMembers(
    options: CallOptions & { limit?: number; after?: string } = {},
  ): Promise<MembersPage> {
    const { timeout, signal, ...payload } = options;
    return this.#request('$members', payload, call(timeout, signal));
  }

  /** Sets my presence state here (any JSON up to 1 KiB); it is set again after a reconnect. */
  async setState(state: unknown, options?: CallOptions): Promise<void> {
    // Kept, it would be refused again after each join.
    if (utf8Size(JSON.stringify(state) ?? 'null') > STATE_BYTES) {
      throw invalid('too_large', `over ${STATE_BYTES} bytes`, 'payload', STATE_BYTES);
    }
    this.membership.present(state);
    if (this.state !== 'joined') return;
    await this.#request('$state', state, options).catch((error: ClarionError) => {
      if (error.name !== 'connection_lost') throw error;
    });
  }

  /**
   * In `$user/<me>`: everything up to here was handled, by default up to the last seen. That is said
   * by itself, unless a listener failed or `ClientOptions.autoAck` is false.
   */
  async ack(position = this.position, options?: CallOptions): Promise<void> {
    if (!position) return;
    this.membership.acknowledged(position);
    await this.#request('$ack', position, options);
  }

  #request<T>(type: string, payload: unknown, options: CallOptions = {}): Promise<T> {
    return new Promise((resolve, reject) => {
      const settle = (error: unknown, reply: unknown) =>
        error ? reject(error) : resolve(reply as T);
      this.#link.issue(type, payload, { room: this.name }, settle, options);
    });
  }
}

function call(timeout: number | undefined, signal: CallOptions['signal']): CallOptions {
  return { ...(timeout !== undefined && { timeout }), ...(signal && { signal }) };
}
