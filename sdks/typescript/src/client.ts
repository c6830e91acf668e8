import { Backoff, type BackoffOptions } from './backoff.ts';
import {
  type AnyEvents,
  type Envelope,
  type ErrorPayload,
  encode,
  type GapPayload,
  type HelloPayload,
  type JoinedPayload,
  type Limits,
  type MembersChange,
  toPublication,
  utf8Size,
  type WelcomePayload,
} from './codec.ts';
import {
  CLOSE_MOVED,
  CLOSE_NORMAL,
  CLOSE_TOKEN_EXPIRED,
  CLOSE_UNAUTHENTICATED,
  closePolicy,
} from './codes.ts';
import { type BuildCommand, type CallOptions, Commands, type Settle } from './commands.ts';
import { Connection, type ConnectionEnd } from './connection.ts';
import { Credentials, type GetToken } from './credentials.ts';
import { Emitter, type Unsubscribe } from './emitter.ts';
import { browserEnvironment, type Environment } from './environment.ts';
import { ClarionError, localError } from './errors.ts';
import type { Link } from './link.ts';
import { Outbox, type OutboxLimits } from './outbox.ts';
import { Room } from './room.ts';
import { type StateEvent, type Status, status } from './status.ts';
import { type Clock, systemClock, Timer } from './timer.ts';
import { type Transport, type WebSocketConstructor, webSocketTransport } from './transport.ts';

export type ClientState = 'idle' | 'connecting' | 'connected' | 'closed';

/** Who the server says I am. Kept while reconnecting. */
export interface Session {
  /** Public id of this session; stable over reconnects. */
  client: string;
  user: string;
  /** The session is the one from before the connection was lost. */
  resumed: boolean;
  limits: Limits;
}

export interface ClientEvents {
  state: StateEvent<ClientState>;
  /** The server joined me to a room for which there was no handle. */
  room: Room;
  /**
   * Something went wrong that no promise reports: a listener threw, the server said what cannot be
   * read, a token could not be fetched. The client goes on.
   */
  error: unknown;
}

export interface ClientOptions {
  /** Shown to the server; for tokens that expire use `getToken`. */
  token?: string;
  getToken?: GetToken;
  /** Milliseconds that a command may take. Default 5,000. */
  timeout?: number;
  /** Milliseconds from the start of a try to the server's welcome. Default 10,000. */
  connectTimeout?: number;
  /** Milliseconds that the answer to a heartbeat may take. Default 10,000. */
  heartbeatTimeout?: number;
  backoff?: BackoffOptions;
  /** Bounds of what waits for a connection. */
  outbox?: OutboxLimits;
  /** The `WebSocket` class, where the platform has none (Node before 22: pass the one of `ws`). */
  WebSocket?: WebSocketConstructor;
  /** Replaces the WebSocket altogether. */
  transport?: Transport;
  clock?: Clock;
  /** In [0, 1), for jitter and keys. */
  random?: () => number;
  environment?: Environment;
}

const SDK = 'clarion-typescript/0.1.0';
/** A connection that lasted this long was a success: the next failure starts from the beginning. */
const STABLE_MS = 5_000;
/** Come back within this when the server moved us without saying when. */
const SLOT_MS = 5_000;
/** Wanted rooms beyond this part of a message are joined one by one after the welcome. */
const HELLO_SHARE = 0.75;
const MESSAGE_BYTES = 65_536;

/**
 * A client of one Clarion server.
 *
 *             connect()                 $welcome
 *     idle ──────────────► connecting ─────────────► connected
 *                           ▲  ▲  │                   │   │
 *                connect()  │  └──│───────────────────┘   │
 *                           │     │   lost: tries again   │
 *                         closed ◄┴───────────────────────┘
 *                                   close(), or a close code that means stop
 *
 * `closed` keeps what was wanted: `connect()` resumes it.
 */
export class Client<Rooms extends object = Record<string, AnyEvents>> {
  readonly #url: string;
  readonly #options: ClientOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #transport: Transport;
  readonly #environment: Environment;
  readonly #emitter: Emitter<ClientEvents>;
  readonly #commands: Commands;
  readonly #outbox: Outbox;
  readonly #credentials: Credentials;
  readonly #backoff: Backoff;
  readonly #rooms = new Map<string, Room>();
  readonly #link: Link;
  /** Until the next try or, while connected, until the slot in which to move. */
  readonly #retry: Timer;
  readonly #refresh: Timer;
  #status: Status<ClientState> = status('idle', 'new');
  #connection: Connection | undefined;
  #session: Session | undefined;
  #connectedAt = 0;
  /** Counts tries; what a token fetch for an older one brings is dropped. */
  #attempt = 0;
  #slot: { at: number; url: string | undefined } | undefined;
  /** Trying earlier than planned is fine: nobody told us to wait. */
  #mayHurry = true;
  #unwake: Unsubscribe | undefined;

  constructor(url: string, options: ClientOptions = {}) {
    const { clock = systemClock, random = Math.random, timeout = 5_000 } = options;
    this.#url = url;
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
    this.#transport = options.transport ?? webSocketTransport(options.WebSocket);
    this.#environment = options.environment ?? browserEnvironment;
    this.#emitter = new Emitter((thrown, event) => this.#report(thrown, event === 'error'));
    this.#commands = new Commands(clock, timeout);
    this.#credentials = new Credentials(clock, options.token, options.getToken);
    this.#backoff = new Backoff(random, options.backoff);
    this.#retry = new Timer(clock);
    this.#refresh = new Timer(clock);
    const { outbox: limits } = options;
    const newKey = keyMaker(random);
    this.#outbox = new Outbox({
      clock,
      commands: this.#commands,
      newKey,
      limits,
      timeoutMs: timeout,
    });
    this.newKey = newKey;
    this.#link = {
      clock,
      timeoutMs: timeout,
      isConnected: () => this.#status.state === 'connected',
      backoff: () => new Backoff(random, options.backoff),
      issue: (type, payload, metadata, settle, callOptions) =>
        this.#issue((id) => encode(type, payload, { ...metadata, id }), settle, callOptions),
      cancel: (id) => this.#commands.settle(id, localError('aborted')),
      publish: (room, type, payload, publishOptions) =>
        this.state === 'closed'
          ? Promise.reject(localError('closed', publishOptions?.key))
          : this.#outbox.publish(room, type, payload, publishOptions),
      learn: (room, logged) => this.#outbox.learn(room, logged),
    };
  }

  /** Makes an idempotency key, for who wants to know it before the publication is accepted. */
  readonly newKey: () => string;

  get status(): Status<ClientState> {
    return this.#status;
  }

  get state(): ClientState {
    return this.#status.state;
  }

  /** Undefined before the first welcome. */
  get session(): Session | undefined {
    return this.#session;
  }

  /** Publications that wait for a connection. */
  get queued(): number {
    return this.#outbox.size;
  }

  /** The handle on a room: the same one for the same name. */
  room<Name extends keyof Rooms & string>(name: Name): Room<Rooms[Name] & object> {
    return this.#room(name) as unknown as Room<Rooms[Name] & object>;
  }

  /** Listens; the function it returns stops listening. */
  on<E extends keyof ClientEvents>(
    event: E,
    listener: (event: ClientEvents[E]) => void,
  ): Unsubscribe {
    return this.#emitter.on(event, listener);
  }

  /** Starts connecting; while waiting for the next try, tries now. */
  connect(): void {
    const { state, nextTryAt } = this.#status;
    if (state === 'connected' || (state === 'connecting' && nextTryAt === null)) return;
    if (state !== 'connecting') {
      this.#backoff.reset();
      this.#unwake = this.#environment.onWake(() => this.#wake());
    }
    this.#try(state === 'connecting' ? this.#status.reason : 'connect');
  }

  /** Ends the session. Every promise that still waits is rejected with `closed`. */
  close(): void {
    const { state } = this.#status;
    if (state === 'closed') return;
    this.#connection?.end(CLOSE_NORMAL, '');
    this.#stop({ code: CLOSE_NORMAL, reason: 'closed' });
  }

  /** Measures the way to the server and back, in milliseconds. */
  ping(options?: CallOptions): Promise<number> {
    const start = this.#clock.now();
    return new Promise((resolve, reject) => {
      const settle: Settle = (error) =>
        error ? reject(error) : resolve(this.#clock.now() - start);
      this.#issue((id) => encode('$ping', null, { id }), settle, options);
    });
  }

  #issue(build: BuildCommand, settle: Settle, options?: CallOptions): number {
    if (this.state !== 'closed') return this.#commands.issue(build, settle, options);
    settle(localError('closed'));
    return 0;
  }

  #room(name: string): Room {
    let room = this.#rooms.get(name);
    if (!room) {
      room = new Room(name, this.#link, (thrown) => this.#report(thrown));
      this.#rooms.set(name, room);
    }
    return room;
  }

  #try(reason: string): void {
    this.#retry.clear();
    const attempt = ++this.#attempt;
    const { code } = this.#status;
    this.#become(status('connecting', reason, { code, willRetry: true }));
    if (attempt !== this.#attempt) return;
    const wait = this.#credentials.prepare();
    if (!wait) {
      this.#open();
      return;
    }
    // The fetch has the same time as the connection: it must not hang the client.
    const { connectTimeout = 10_000 } = this.#options;
    const isOver = () => attempt !== this.#attempt || this.#connection !== undefined;
    const fail = (thrown: unknown) => {
      if (!isOver()) this.#tokenFailed(thrown);
    };
    this.#retry.set(connectTimeout, () => fail(localError('timeout')));
    wait.then(() => {
      if (!isOver()) this.#open();
    }, fail);
  }

  #open(): void {
    const { connectTimeout = 10_000, heartbeatTimeout = 10_000 } = this.#options;
    this.#retry.clear();
    const url = this.#slot?.url ?? this.#url;
    this.#slot = undefined;
    this.#connection = new Connection(
      {
        transport: this.#transport,
        clock: this.#clock,
        url,
        connectTimeoutMs: connectTimeout,
        heartbeatTimeoutMs: heartbeatTimeout,
      },
      {
        hello: () => this.#hello(),
        onWelcome: (welcome) => this.#welcomed(welcome),
        onEnvelope: (envelope) => this.#receive(envelope),
        onMalformed: (thrown) => this.#report(thrown),
        onEnd: (end) => this.#lost(end),
      },
    );
  }

  #hello(): HelloPayload {
    const rooms: NonNullable<HelloPayload['rooms']> = {};
    let budget = (this.#session?.limits.message_bytes || MESSAGE_BYTES) * HELLO_SHARE;
    for (const { name, membership } of this.#rooms.values()) {
      if (budget <= 0) break;
      const entry = membership.hello();
      if (!entry) continue;
      rooms[name] = entry;
      budget -= utf8Size(JSON.stringify({ [name]: entry }));
    }
    return { ...this.#credentials.hello(), rooms, sdk: SDK };
  }

  #welcomed(welcome: WelcomePayload): void {
    const { client, user, resumed, limits = {} } = welcome;
    this.#session = { client, user, resumed, limits };
    this.#connectedAt = this.#clock.now();
    this.#credentials.welcomed(welcome);
    const previous = this.#status.state;
    const next = status('connected', resumed ? 'resumed' : 'welcome');
    this.#status = next;
    this.#commands.attach((text) => this.#connection?.send(text));
    for (const { membership } of this.#rooms.values()) membership.connected();
    this.#outbox.attach(limits);
    // Last, so that a listener can do all that a connected client can.
    this.#emitter.emit('state', { ...next, previous });
  }

  #receive({ type, payload, metadata }: Envelope): void {
    const membership =
      metadata.room === undefined ? undefined : this.#rooms.get(metadata.room)?.membership;
    switch (type) {
      case '$reply':
      case '$pong':
        this.#commands.settle(metadata.id, undefined, payload);
        break;
      case '$error':
        this.#failed(payload as ErrorPayload, metadata);
        break;
      case '$joined':
        this.#joined(metadata.room ?? '', payload as JoinedPayload);
        break;
      case '$left':
        membership?.handleLeft((payload as { reason: string }).reason);
        break;
      case '$gap':
        membership?.handleGap(payload as GapPayload);
        break;
      case '$members':
        membership?.handleMembers(payload as MembersChange);
        break;
      case '$refresh':
        this.#refreshToken();
        break;
      case '$reconnect':
        this.#schedule(payload as { after_ms: number; url?: string });
        break;
      default:
        // `$` types that this version does not know are for newer ones.
        if (!type.startsWith('$')) {
          membership?.handlePublication(toPublication({ type, payload, metadata }));
        }
    }
  }

  #joined(name: string, reply: JoinedPayload): void {
    const isNew = !this.#rooms.has(name);
    const room = this.#room(name);
    // Before the room joins, so that a listener added now hears everything.
    if (isNew) this.#emitter.emit('room', room);
    room.membership.handleJoined(reply);
  }

  #failed(payload: ErrorPayload, { id, room, key }: Envelope['metadata']): void {
    const error = new ClarionError(payload, key);
    if (id !== undefined && this.#commands.settle(id, error)) return;
    const isJoin = id === undefined && (payload.command ?? '$join') === '$join';
    if (isJoin && room !== undefined && this.#rooms.get(room)?.membership.handleError(error))
      return;
    // An answer to a command that has timed out is no news; anything else is.
    if (id === undefined) this.#report(error);
  }

  /** The server drains: come back in the slot it gives, and go before it closes on us. */
  #schedule({ after_ms = 0, url }: { after_ms: number; url?: string }): void {
    this.#slot = { at: this.#clock.now() + after_ms, url };
    this.#retry.set(after_ms, () => {
      this.#connection?.end(CLOSE_MOVED, 'moved');
      this.#lost({ code: CLOSE_MOVED, reason: 'moved' });
    });
  }

  #refreshToken(): void {
    if (!this.#credentials.refreshable) return;
    const attempt = this.#attempt;
    const isOver = () => attempt !== this.#attempt || this.#status.state !== 'connected';
    const again = (thrown: unknown) => {
      if (isOver()) return;
      this.#report(thrown);
      this.#refresh.set(this.#backoff.next() + 1_000, () => this.#refreshToken());
    };
    this.#credentials.fetch('refresh').then((token) => {
      if (isOver()) return;
      const settle = (error: ClarionError | undefined, reply?: unknown) => {
        const { expires_at } = (reply ?? {}) as { expires_at?: string };
        if (!error) this.#credentials.expiresAt(expires_at);
        else if (error.temporary) again(error);
        else this.#report(error);
      };
      this.#commands.issue((id) => encode('$refresh', { token }, { id }), settle);
    }, again);
  }

  #lost(end: ConnectionEnd): void {
    const wasConnected = this.#status.state === 'connected';
    this.#detach();
    if (wasConnected && this.#clock.now() - this.#connectedAt >= STABLE_MS) this.#backoff.reset();
    if (end.code === CLOSE_TOKEN_EXPIRED) this.#credentials.refuse();
    let policy = closePolicy(end.code);
    if (end.code === CLOSE_UNAUTHENTICATED && this.#credentials.refuse()) policy = 'backoff';
    if (policy === 'stop') {
      this.#stop(end);
      return;
    }
    const floorMs = end.retryAfterMs ?? 0;
    let waitMs = floorMs;
    if (this.#slot) waitMs = Math.max(waitMs, this.#slot.at - this.#clock.now());
    else if (policy === 'slot') waitMs += this.#random() * SLOT_MS;
    else waitMs += this.#backoff.next();
    this.#mayHurry = !this.#slot && policy === 'backoff' && floorMs === 0;
    this.#wait(end, waitMs);
  }

  #wait({ code, reason }: ConnectionEnd, waitMs: number): void {
    const nextTryAt = this.#clock.now() + waitMs;
    this.#retry.set(waitMs, () => this.#try(reason));
    this.#become({ state: 'connecting', code, reason, willRetry: true, nextTryAt });
  }

  #tokenFailed(thrown: unknown): void {
    this.#report(thrown);
    const { code } = thrown as { code?: unknown };
    this.#attempt++;
    if (code === 401 || code === 403) {
      this.#stop({ code: CLOSE_UNAUTHENTICATED, reason: 'unauthenticated' });
    } else {
      this.#mayHurry = true;
      this.#wait({ code: 0, reason: 'token_failed' }, this.#backoff.next());
    }
  }

  #stop({ code, reason }: ConnectionEnd): void {
    this.#attempt++;
    // What waits for an answer or a connection will not get one.
    this.#commands.failAll(localError('closed'));
    this.#outbox.failAll((key) => localError('closed', key));
    this.#detach();
    this.#retry.clear();
    this.#slot = undefined;
    this.#unwake?.();
    this.#unwake = undefined;
    this.#credentials.forgetSession();
    this.#become(status('closed', reason, { code }));
  }

  /** Lets go of the connection, in the order in which commands, queue and rooms depend on it. */
  #detach(): void {
    this.#connection = undefined;
    this.#refresh.clear();
    this.#commands.detach();
    this.#outbox.detach();
  }

  #wake(): void {
    const { state, nextTryAt } = this.#status;
    if (state === 'connected') this.#connection?.probe();
    else if (nextTryAt !== null && this.#mayHurry) this.connect();
  }

  #become(next: Status<ClientState>): void {
    const previous = this.#status.state;
    this.#status = next;
    if (next.nextTryAt !== null || next.state === 'closed') {
      for (const { membership } of this.#rooms.values()) {
        // A listener may have called connect() or close(), and then this status is history.
        if (this.#status === next) membership.dropped(next);
      }
    }
    if (this.#status === next) this.#emitter.emit('state', { ...next, previous });
  }

  #report(thrown: unknown, fromErrorListener = false): void {
    if (!fromErrorListener && this.#emitter.emit('error', thrown)) return;
    (globalThis as { console?: { error(...args: unknown[]): void } }).console?.error(thrown);
  }
}

/** Keys that differ between clients (104 random bits) and between publications of a client. */
function keyMaker(random: () => number): () => string {
  let prefix = '';
  let count = 0;
  return () => {
    prefix ||= [random(), random()].map((part) => part.toString(36).slice(2, 12)).join('');
    return `${prefix}-${(++count).toString(36)}`;
  };
}
