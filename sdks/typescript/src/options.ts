import type { BackoffOptions } from './backoff.ts';
import type { GetToken } from './credentials.ts';
import type { Environment } from './environment.ts';
import type { OutboxLimits } from './outbox.ts';
import type { Clock } from './timer.ts';
import type { Transport, WebSocketConstructor } from './transport.ts';

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
  /**
   * Acknowledges in `$user/<me>` what the listeners of `publication` have handled. Default true; with
   * false the application calls `room.ack()`.
   */
  autoAck?: boolean;
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
