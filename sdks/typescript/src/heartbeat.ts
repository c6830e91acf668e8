/** What to do now, and after how many milliseconds to ask again. */
export type HeartbeatAdvice = { action: 'wait' | 'ping'; againMs: number } | { action: 'drop' };

/**
 * Decides from timestamps whether the other side is still there (PROTOCOL section 4, Heartbeat).
 *
 * Browsers cannot see WebSocket pings, so after `interval + timeout` of silence it asks for a
 * `$ping`, and when nothing at all comes within another `timeout` it gives the connection up. A
 * computer that slept wakes up with a long silence: that too asks first and drops later.
 */
export class Heartbeat {
  readonly #intervalMs: number;
  readonly #timeoutMs: number;
  #heardAt: number;
  #pingedAt: number | undefined;

  constructor(intervalMs: number, timeoutMs: number, now: number) {
    this.#intervalMs = intervalMs;
    this.#timeoutMs = timeoutMs;
    this.#heardAt = now;
  }

  heard(now: number): void {
    this.#heardAt = now;
    this.#pingedAt = undefined;
  }

  advice(now: number): HeartbeatAdvice {
    if (this.#pingedAt !== undefined) {
      const againMs = this.#pingedAt + this.#timeoutMs - now;
      return againMs > 0 ? { action: 'wait', againMs } : { action: 'drop' };
    }
    const againMs = this.#heardAt + this.#intervalMs + this.#timeoutMs - now;
    return againMs > 0 ? { action: 'wait', againMs } : this.ping(now);
  }

  /** Asks for a `$ping` at once, unless one is on its way. */
  ping(now: number): HeartbeatAdvice {
    if (this.#pingedAt !== undefined) return this.advice(now);
    this.#pingedAt = now;
    return { action: 'ping', againMs: this.#timeoutMs };
  }
}
