import { type Limits, utf8Size } from './codec.ts';
import { type ClarionError, invalid, localError } from './errors.ts';
import type { Clock } from './timer.ts';

/** The subset of the standard `AbortSignal` that is used. */
export interface Signal {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

export interface CallOptions {
  /** How long to wait for the answer, in milliseconds. Default 5,000 (`ClientOptions.timeout`). */
  timeout?: number;
  signal?: Signal;
}

/** Makes the text of a command once its id is known. */
export type BuildCommand = (id: number) => string;

/** Called once: with an error, or with the reply's payload. */
export type Settle = (error: ClarionError | undefined, payload?: unknown) => void;

interface Pending {
  text: string;
  sent: boolean;
  settle: Settle;
}

/**
 * Commands that wait for their reply.
 *
 * Ids are never used twice in the life of a client, so a reply that comes after its command timed
 * out finds nothing here and is dropped. Every command settles: by reply, error, timeout, abort or
 * the end of the connection; that also bounds how many there are.
 */
export class Commands {
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #pending = new Map<number, Pending>();
  #send: ((text: string) => void) | undefined;
  #messageBytes = 0;
  #lastId = 0;

  constructor(clock: Clock, timeoutMs: number) {
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** As `issue`, with a promise. */
  request(build: BuildCommand, options?: CallOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.issue(build, (error, reply) => (error ? reject(error) : resolve(reply)), options);
    });
  }

  /**
   * Sends now, or as soon as there is a connection within the timeout, and returns the id.
   *
   * `settle` is called in the same turn in which the reply is read, before the next message is:
   * what follows a join's reply must find the room joined, and a promise would be too late. It may
   * be called before this returns.
   */
  issue(build: BuildCommand, settle: Settle, options: CallOptions = {}): number {
    const { timeout = this.#timeoutMs, signal } = options;
    const id = ++this.#lastId;
    if (signal?.aborted) {
      settle(localError('aborted'));
      return id;
    }
    const abort = () => this.settle(id, localError('aborted'));
    const timer = this.#clock.after(timeout, () => this.settle(id, localError('timeout')));
    signal?.addEventListener('abort', abort);
    const pending: Pending = {
      text: build(id),
      sent: false,
      settle: (error, payload) => {
        this.#pending.delete(id);
        this.#clock.clear(timer);
        signal?.removeEventListener('abort', abort);
        settle(error, payload);
      },
    };
    this.#pending.set(id, pending);
    this.#transmit(pending);
    return id;
  }

  /** Returns false when nobody waits for this id any more. */
  settle(id: unknown, error: ClarionError | undefined, payload?: unknown): boolean {
    const pending = this.#pending.get(id as number);
    pending?.settle(error, payload);
    return pending !== undefined;
  }

  /** There is a connection: sends what waited for one. */
  attach(send: (text: string) => void, { message_bytes = 0 }: Limits): void {
    this.#send = send;
    this.#messageBytes = message_bytes;
    for (const pending of [...this.#pending.values()]) this.#transmit(pending);
  }

  /** The connection is gone: fails what was sent on it and keeps what was not. */
  detach(): void {
    this.#send = undefined;
    for (const pending of [...this.#pending.values()]) {
      if (pending.sent) pending.settle(localError('connection_lost'));
    }
  }

  failAll(error: ClarionError): void {
    for (const pending of [...this.#pending.values()]) pending.settle(error);
  }

  #transmit(pending: Pending): void {
    if (!this.#send || pending.sent) return;
    const { text } = pending;
    const limit = this.#messageBytes;
    // The server would close the connection over it, and with a code that stops for good. It is
    // counted only where it could matter: three bytes are the most that a unit takes.
    if (limit && text.length > limit / 3 && utf8Size(text) > limit) {
      pending.settle(invalid('too_large', `over ${limit} bytes`, 'payload', limit));
      return;
    }
    pending.sent = true;
    this.#send(text);
  }
}
