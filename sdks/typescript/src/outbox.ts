import { encodeText, type Limits, type Metadata, utf8Size } from './codec.ts';
import type { Commands, Signal } from './commands.ts';
import { ClarionError, invalid, localError } from './errors.ts';
import { Pace } from './pace.ts';
import { type Clock, Timer } from './timer.ts';

export interface OutboxLimits {
  /** Publications. Default 100. */
  messages?: number;
  /** Their encoded size in bytes. Default 262,144. */
  bytes?: number;
  /** How long one may wait for a connection, in milliseconds. Default 60,000. */
  ageMs?: number;
}

export interface PublishOptions {
  /**
   * Idempotency key: publications with the same key are one. Made by the SDK when absent, where the
   * room keeps a log.
   */
  key?: string;
  /** Deliver to who is there now; never logged, queued or repeated. Default false. */
  ephemeral?: boolean;
  /** With `ephemeral`: false keeps it from coming back to this client. Default true. */
  echo?: boolean;
  /**
   * Milliseconds until the promise settles whatever happens. Without it: 5,000 for the server's
   * answer, after up to `ageMs` of waiting for a connection.
   */
  timeout?: number;
  signal?: Signal;
}

/** The server accepted a publication, to the durability of its room. */
export interface Published {
  time: string;
  /** Absent when the room keeps no log, or for an ephemeral publication. */
  offset?: number;
  epoch?: string;
  /** The same key had been accepted before, and this is that publication. */
  duplicate?: boolean;
  /** The key it was sent with. */
  key?: string;
}

interface Entry {
  room: string;
  type: string;
  payload: string;
  key: string | undefined;
  ownKey: boolean;
  size: number;
  expiresAt: number;
  /** The caller's own limit, or infinite. */
  deadline: number;
  settle(error: ClarionError | undefined, published?: Published): void;
  settled: boolean;
}

export interface OutboxOptions {
  clock: Clock;
  commands: Commands;
  newKey: () => string;
  limits?: OutboxLimits | undefined;
  timeoutMs: number;
}

const TYPE_BYTES = 64;

/**
 * Publications on their way to the server.
 *
 * Without a connection they wait, in order and within `OutboxLimits`; one more is refused with
 * `queue_full`, one too old fails with `timeout`. What was sent when a connection broke has an
 * unknown outcome: with a key it goes back to its place in the queue and the server drops the
 * repetition; without one it fails with `connection_lost`, because it could be doubled.
 */
export class Outbox {
  readonly #clock: Clock;
  readonly #commands: Commands;
  readonly #newKey: () => string;
  readonly #timeoutMs: number;
  readonly #limits: Required<OutboxLimits>;
  readonly #timer: Timer;
  /** Rooms known to keep no log, where a key is an error. */
  readonly #keyless = new Set<string>();
  #queue: Entry[] = [];
  /** What a broken connection gave back, in the order in which it had been sent. */
  #returned: Entry[] = [];
  #pace: Pace | undefined;
  #messageBytes = Number.POSITIVE_INFINITY;

  constructor({ clock, commands, newKey, limits, timeoutMs }: OutboxOptions) {
    this.#clock = clock;
    this.#commands = commands;
    this.#newKey = newKey;
    this.#timeoutMs = timeoutMs;
    this.#limits = { messages: 100, bytes: 262_144, ageMs: 60_000, ...limits };
    this.#timer = new Timer(clock);
  }

  /** How many wait for a connection. */
  get size(): number {
    return this.#queue.length;
  }

  /** The room said, by its join reply, whether it keeps a log. */
  learn(room: string, logged: boolean): void {
    if (logged) this.#keyless.delete(room);
    else this.#keyless.add(room);
  }

  async publish(
    room: string,
    type: string,
    payload: unknown,
    options: PublishOptions = {},
  ): Promise<Published> {
    const { ephemeral = false, timeout, signal } = options;
    const text = JSON.stringify(payload) ?? 'null';
    const key =
      ephemeral || this.#keyless.has(room) ? options.key : (options.key ?? this.#newKey());
    // The longest id is counted, so that what fits here fits on the wire.
    const whole = encodeText(type, text, { ...metadataOf(room, key, options), id: 2 ** 53 - 1 });
    const size = utf8Size(whole);
    this.#check(type, size);
    if (signal?.aborted) throw localError('aborted', key);
    if (ephemeral) return this.#ephemeral(room, type, text, options);

    const now = this.#clock.now();
    const deadline = now + (timeout ?? Number.POSITIVE_INFINITY);
    return new Promise((resolve, reject) => {
      const abort = () => {
        entry.settle(localError('aborted', entry.key));
        this.#pump();
      };
      const entry: Entry = {
        room,
        type,
        payload: text,
        key,
        ownKey: options.key === undefined,
        size,
        deadline,
        expiresAt: Math.min(now + this.#limits.ageMs, deadline),
        settled: false,
        settle: (error, published) => {
          entry.settled = true;
          signal?.removeEventListener('abort', abort);
          if (error) reject(error);
          else resolve(published as Published);
        },
      };
      signal?.addEventListener('abort', abort);
      this.#accept(entry);
    });
  }

  attach({ message_bytes, publish_per_s }: Limits): void {
    this.#messageBytes = message_bytes || Number.POSITIVE_INFINITY;
    this.#pace = new Pace(publish_per_s ?? 0, this.#clock.now());
    this.#pump();
  }

  /** To be called after `Commands.detach`, which gives back what was on the way. */
  detach(): void {
    this.#pace = undefined;
    const newer = this.#queue;
    this.#queue = [];
    for (const entry of [...this.#returned.splice(0), ...newer]) {
      if (this.#fits(entry)) this.#queue.push(entry);
      else entry.settle(localError('queue_full', entry.key));
    }
    this.#pump();
  }

  failAll(error: (key: string | undefined) => ClarionError): void {
    this.#timer.clear();
    for (const entry of [...this.#returned.splice(0), ...this.#queue.splice(0)]) {
      entry.settle(error(entry.key));
    }
  }

  #check(type: string, size: number): void {
    // `$` types are the protocol's: sent from here they would be commands.
    if (!type || type.startsWith('$') || utf8Size(type) > TYPE_BYTES) {
      throw invalid('bad_request', `not a publication's type: ${type.slice(0, 80)}`, 'type');
    }
    // The server would close the connection over it, and with a code that stops for good.
    if (size > this.#messageBytes) {
      throw invalid('too_large', `${size} bytes`, 'payload', this.#messageBytes);
    }
  }

  async #ephemeral(
    room: string,
    type: string,
    payload: string,
    options: PublishOptions,
  ): Promise<Published> {
    if (!this.#pace) throw localError('not_connected');
    const waitMs = this.#pace.take(this.#clock.now());
    if (waitMs > 0) {
      const name = 'rate_limited';
      throw new ClarionError({ name, code: 429, temporary: true, retry_after_ms: waitMs });
    }
    const metadata = metadataOf(room, options.key, options);
    const build = (id: number) => encodeText(type, payload, { ...metadata, id });
    return (await this.#commands.request(build, options)) as Published;
  }

  #accept(entry: Entry): void {
    if (this.#queue.length === 0 && this.#pace?.take(this.#clock.now()) === 0) {
      this.#transmit(entry);
    } else if (this.#fits(entry)) {
      this.#queue.push(entry);
      this.#pump();
    } else {
      entry.settle(localError('queue_full', entry.key));
    }
  }

  #fits(entry: Entry): boolean {
    const bytes = this.#queue.reduce((sum, { size }) => sum + size, entry.size);
    return this.#queue.length < this.#limits.messages && bytes <= this.#limits.bytes;
  }

  /** Sends what may be sent, drops what is too old, and sets the timer for whichever comes next. */
  #pump(): void {
    this.#timer.clear();
    const now = this.#clock.now();
    for (const entry of this.#queue) {
      if (!entry.settled && entry.expiresAt <= now) entry.settle(localError('timeout', entry.key));
    }
    this.#queue = this.#queue.filter(({ settled }) => !settled);
    let waitMs = Number.POSITIVE_INFINITY;
    while (this.#pace && this.#queue.length > 0) {
      waitMs = this.#pace.take(now);
      if (waitMs > 0) break;
      this.#transmit(this.#queue.shift() as Entry);
    }
    if (this.#queue.length === 0) return;
    const oldest = Math.min(...this.#queue.map(({ expiresAt }) => expiresAt));
    this.#timer.set(Math.min(waitMs, oldest - now), () => this.#pump());
  }

  #transmit(entry: Entry): void {
    const { room, type, payload, key, deadline } = entry;
    // The caller's own limit replaces the usual one, also when it is longer.
    const left = deadline - this.#clock.now();
    const timeout = left === Number.POSITIVE_INFINITY ? this.#timeoutMs : left;
    this.#commands.issue(
      (id) => encodeText(type, payload, { ...metadataOf(room, key), id }),
      (error, reply) => this.#answered(entry, error, reply),
      { timeout },
    );
  }

  #answered(entry: Entry, error: ClarionError | undefined, reply: unknown): void {
    const { key } = entry;
    if (entry.settled) return;
    if (!error) {
      entry.settle(undefined, { ...(reply as Published), ...(key !== undefined && { key }) });
    } else if (error.name === 'connection_lost' && key !== undefined) {
      this.#returned.push(entry);
    } else if (error.name === 'key_needs_log' && key !== undefined && entry.ownKey) {
      this.#keyless.add(entry.room);
      entry.key = undefined;
      this.#transmit(entry);
    } else {
      error.key = key;
      entry.settle(error);
    }
  }
}

function metadataOf(room: string, key: string | undefined, options: PublishOptions = {}): Metadata {
  return {
    room,
    ...(key !== undefined && { key }),
    ...(options.ephemeral && { ephemeral: true }),
    ...(options.ephemeral && options.echo === false && { echo: false }),
  };
}
