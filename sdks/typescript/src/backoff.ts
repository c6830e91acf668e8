/** How long to wait before the next try. */
export interface BackoffOptions {
  /** Upper bound of the first wait, in milliseconds. Default 500. */
  base?: number;
  /** Upper bound of every wait, in milliseconds. Default 20,000. */
  cap?: number;
}

const BASE_MS = 500;
const CAP_MS = 20_000;

/**
 * Full jitter: anywhere between 0 and `min(cap, base * 2^tries)`.
 *
 * The whole interval is random, not only its end: when a node with n clients dies they come back
 * spread evenly over the interval, where "1 s plus a little" would bring them all in one second.
 */
export function backoffDelay(
  tries: number,
  random: () => number,
  { base = BASE_MS, cap = CAP_MS }: BackoffOptions = {},
): number {
  return random() * Math.min(cap, base * 2 ** Math.min(tries, 30));
}

/** Counts failed tries. */
export class Backoff {
  readonly #random: () => number;
  readonly #options: BackoffOptions;
  #tries = 0;

  constructor(random: () => number, options: BackoffOptions = {}) {
    this.#random = random;
    this.#options = options;
  }

  /** Milliseconds to wait now; each call counts as one more failure. */
  next(): number {
    return backoffDelay(this.#tries++, this.#random, this.#options);
  }

  reset(): void {
    this.#tries = 0;
  }
}
