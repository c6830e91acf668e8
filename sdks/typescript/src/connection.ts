import {
  decode,
  type Envelope,
  type ErrorPayload,
  encode,
  type HelloPayload,
  SUBPROTOCOL,
  type WelcomePayload,
} from './codec.ts';
import { CLOSE_ABNORMAL, CLOSE_HEARTBEAT_MISSED, closeReason } from './codes.ts';
import { Heartbeat, type HeartbeatAdvice } from './heartbeat.ts';
import { type Clock, Timer } from './timer.ts';
import type { Socket, Transport } from './transport.ts';

export interface ConnectionOptions {
  transport: Transport;
  clock: Clock;
  url: string;
  /** Until `$welcome`, in milliseconds. */
  connectTimeoutMs: number;
  /** How long the answer to a `$ping` may take, in milliseconds. */
  heartbeatTimeoutMs: number;
}

/** How a connection ended, as its owner needs it to decide what comes next. */
export interface ConnectionEnd {
  code: number;
  reason: string;
  retryAfterMs?: number;
  /** What the server said of it before. */
  error?: ErrorPayload;
}

export interface ConnectionEvents {
  /** Asked when the socket is open, so that the wanted rooms are those of this moment. */
  hello(): HelloPayload;
  onWelcome(welcome: WelcomePayload): void;
  /** Every message after `$welcome`. */
  onEnvelope(envelope: Envelope): void;
  onMalformed(thrown: unknown): void;
  /** Called once, and not after `end`. */
  onEnd(end: ConnectionEnd): void;
}

const HELLO_ID = 0;
const HEARTBEAT_MS = 25_000;

/**
 * One WebSocket from its opening to its end: `$hello`, `$welcome`, heartbeat.
 *
 * It never comes back; each try is a new one. Once it has ended it is deaf, so nothing that an old
 * socket still says can reach the client.
 */
export class Connection {
  readonly #options: ConnectionOptions;
  readonly #events: ConnectionEvents;
  readonly #timer: Timer;
  #socket: Socket | undefined;
  #heartbeat: Heartbeat | undefined;
  #lastError: ErrorPayload | undefined;
  #ended = false;

  constructor(options: ConnectionOptions, events: ConnectionEvents) {
    this.#options = options;
    this.#events = events;
    this.#timer = new Timer(options.clock);
    this.#timer.set(options.connectTimeoutMs, () => this.#drop('connect_timeout'));
    try {
      this.#socket = options.transport(options.url, [SUBPROTOCOL], {
        onOpen: () => this.#onOpen(),
        onMessage: (text) => this.#onMessage(text),
        onClose: (code, reason) => this.#onClose(code, reason),
      });
    } catch (thrown) {
      events.onMalformed(thrown);
      // Later, so that the owner has this object before it hears of its end.
      this.#timer.set(0, () => this.#drop('connect_failed'));
    }
  }

  send(text: string): void {
    if (!this.#ended) this.#socket?.send(text);
  }

  /** Closes the socket; nothing more is reported. */
  end(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer.clear();
    this.#socket?.close(code, reason);
  }

  /** The world changed: find out now whether this connection survived. */
  probe(): void {
    const { clock } = this.#options;
    if (this.#heartbeat && !this.#ended) this.#follow(this.#heartbeat.ping(clock.now()));
  }

  #onOpen(): void {
    if (this.#ended) return;
    this.send(encode('$hello', this.#events.hello(), { id: HELLO_ID }));
  }

  #onMessage(text: string): void {
    if (this.#ended) return;
    this.#heartbeat?.heard(this.#options.clock.now());
    let envelope: Envelope;
    try {
      envelope = decode(text);
    } catch (thrown) {
      this.#events.onMalformed(thrown);
      return;
    }
    const { type, payload } = envelope;
    if (type === '$error' && (payload as ErrorPayload)?.close !== undefined) {
      this.#lastError = payload as ErrorPayload;
    } else if (this.#heartbeat) {
      this.#events.onEnvelope(envelope);
    } else if (type === '$welcome') {
      this.#onWelcome(payload as WelcomePayload);
    } else if (type === '$error') {
      // The server answers a `$hello` it cannot use; the close frame follows.
      this.#lastError = payload as ErrorPayload;
    }
  }

  #onWelcome(welcome: WelcomePayload): void {
    const { clock, heartbeatTimeoutMs } = this.#options;
    const intervalMs = welcome.heartbeat_ms || HEARTBEAT_MS;
    this.#heartbeat = new Heartbeat(intervalMs, heartbeatTimeoutMs, clock.now());
    this.#follow(this.#heartbeat.advice(clock.now()));
    this.#events.onWelcome(welcome);
  }

  #follow(advice: HeartbeatAdvice): void {
    if (advice.action === 'drop') {
      this.#drop(closeReason(CLOSE_HEARTBEAT_MISSED));
      return;
    }
    if (advice.action === 'ping') this.send(encode('$ping', null));
    this.#timer.set(advice.againMs, () => {
      if (this.#heartbeat) this.#follow(this.#heartbeat.advice(this.#options.clock.now()));
    });
  }

  /** Gives up a socket that does not answer, without waiting for its closing handshake. */
  #drop(reason: string): void {
    if (this.#ended) return;
    this.end(CLOSE_HEARTBEAT_MISSED, reason);
    this.#events.onEnd({ code: CLOSE_ABNORMAL, reason });
  }

  #onClose(code: number, reason: string): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer.clear();
    const error = this.#lastError;
    this.#events.onEnd({
      // Where the close frame was lost, the error that announced it still tells the policy.
      code: code === CLOSE_ABNORMAL && error?.close ? error.close : code,
      reason: error?.name || closeReason(code, reason),
      ...(error?.retry_after_ms !== undefined && { retryAfterMs: error.retry_after_ms }),
      ...(error && { error }),
    });
  }
}
