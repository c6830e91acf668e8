/**
 * Keeps a client under the server's `publish_per_s`, because repeated violations end in a close
 * code that stops for good.
 *
 * A bucket that holds a tenth less than the server's and fills a twentieth slower: messages that
 * the network bunches up would otherwise overdraw the server's bucket now and then.
 */
export class Pace {
  readonly #perMs: number;
  readonly #capacity: number;
  #tokens: number;
  #filledAt: number;

  /** `perSecond` 0 is no limit. */
  constructor(perSecond: number, now: number) {
    this.#perMs = perSecond > 0 ? (perSecond * 0.95) / 1000 : Number.POSITIVE_INFINITY;
    this.#capacity = Math.max(1, Math.floor(perSecond * 0.9));
    this.#tokens = this.#capacity;
    this.#filledAt = now;
  }

  /** Takes one token and returns 0, or returns the milliseconds until there will be one. */
  take(now: number): number {
    if (this.#perMs === Number.POSITIVE_INFINITY) return 0;
    const gained = Math.max(0, now - this.#filledAt) * this.#perMs;
    this.#tokens = Math.min(this.#capacity, this.#tokens + gained);
    this.#filledAt = now;
    if (this.#tokens < 1) return Math.ceil((1 - this.#tokens) / this.#perMs);
    this.#tokens -= 1;
    return 0;
  }
}
