import { Backoff } from './backoff.ts';
import {
  type AnyEvents,
  type Envelope,
  type ErrorPayload,
  encode,
  type HelloPayload,
  type Limits,
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
import { Credentials } from './credentials.ts';
import { Emitter, type Listener, type Unsubscribe } from './emitter.ts';
import { browserEnvironment, type Environment } from './environment.ts';
import { ClarionError, localError } from './errors.ts';
import { keyMaker } from './key.ts';
import type { Link } from './link.ts';
import type { ClientOptions } from './options.ts';
import { Outbox } from './outbox.ts';
import { TokenRefresh } from './refresh.ts';
import type { Room } from './room.ts';
import { RoomSet } from './room-set.ts';
import { type StateEvent, type Status, status } from './status.ts';
import { type Clock, systemClock, Timer } from './timer.ts';
import { type Transport, webSocketTransport } from './transport.ts';

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

const TIMEOUT_MS = 5_000;
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
  readonly #rooms: RoomSet;
  /** Until the next try or, while connected, until the slot in which to move. */
  readonly #retry: Timer;
  readonly #refresh: TokenRefresh;
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
    const { clock = systemClock, random = Math.random, timeout = TIMEOUT_MS } = options;
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
    this.#refresh = new TokenRefresh(
      clock,
      this.#credentials,
      this.#commands,
      new Backoff(random, options.backoff),
      (thrown) => this.#report(thrown),
    );
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
    this.#rooms = new RoomSet(
      this.#link(random),
      (room) => this.#emitter.emit('room', room),
      (thrown) => this.#report(thrown),
    );
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
    return this.#rooms.get(name) as unknown as Room<Rooms[Name] & object>;
  }

  /** Listens; the function it returns stops listening. */
  on<E extends keyof ClientEvents>(event: E, listener: Listener<ClientEvents[E]>): Unsubscribe {
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

  /** What rooms may do with this client. */
  #link(random: () => number): Link {
    return {
      clock: this.#clock,
      timeoutMs: this.#options.timeout ?? TIMEOUT_MS,
      isConnected: () => this.#status.state === 'connected',
      acknowledges: (room) =>
        this.#options.autoAck !== false && room === `$user/${this.#session?.user}`,
      backoff: () => new Backoff(random, this.#options.backoff),
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
    const messageBytes = this.#session?.limits.message_bytes || MESSAGE_BYTES;
    const rooms = this.#rooms.hello(messageBytes * HELLO_SHARE);
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
    this.#commands.attach((text) => this.#connection?.send(text), limits);
    this.#rooms.connected();
    this.#outbox.attach(limits);
    // Last, so that a listener can do all that a connected client can.
    this.#emitter.emit('state', { ...next, previous });
  }

  #receive({ type, payload, metadata }: Envelope): void {
    switch (type) {
      case '$reply':
      case '$pong':
        this.#commands.settle(metadata.id, undefined, payload);
        break;
      case '$error':
        this.#failed(payload as ErrorPayload, metadata);
        break;
      case '$refresh':
        this.#refresh.start();
        break;
      case '$reconnect':
        this.#schedule(payload as { after_ms: number; url?: string });
        break;
      default:
        this.#rooms.receive({ type, payload, metadata });
    }
  }

  #failed(payload: ErrorPayload, { id, room, key }: Envelope['metadata']): void {
    const error = new ClarionError(payload, key);
    if (id !== undefined && this.#commands.settle(id, error)) return;
    if (id === undefined && this.#rooms.refuse(room, payload.command, error)) return;
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

  #lost(end: ConnectionEnd): void {
    const wasConnected = this.#status.state === 'connected';
    this.#detach();
    if (wasConnected && this.#clock.now() - this.#connectedAt >= STABLE_MS) this.#backoff.reset();
    if (end.code === CLOSE_TOKEN_EXPIRED) this.#credentials.refuse();
    let policy = closePolicy(end.code);
    if (end.code === CLOSE_UNAUTHENTICATED && this.#credentials.refuse()) policy = 'backoff';
    if (policy === 'stop') {
      if (end.error) this.#report(new ClarionError(end.error));
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
    this.#refresh.stop();
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
      // A listener may call connect() or close(), and then this status is history.
      this.#rooms.dropped(next, () => this.#status === next);
    }
    if (this.#status === next) this.#emitter.emit('state', { ...next, previous });
  }

  #report(thrown: unknown, fromErrorListener = false): void {
    if (!fromErrorListener && this.#emitter.emit('error', thrown) !== undefined) return;
    (globalThis as { console?: { error(...args: unknown[]): void } }).console?.error(thrown);
  }
}
