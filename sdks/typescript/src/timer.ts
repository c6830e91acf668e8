/**
 * Time as the SDK sees it. Tests pass a virtual clock; nothing else in the SDK looks at the time.
 *
 * `now` is wall time, because it goes on while a laptop sleeps and is what a countdown is shown
 * against. Decisions compare timestamps and never count ticks: browsers throttle the timers of
 * hidden tabs to one a minute.
 */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls `run` once after `delayMs` milliseconds; the result is given to `clear`. */
  after(delayMs: number, run: () => void): unknown;
  clear(timer: unknown): void;
}

declare const setTimeout: (run: () => void, delayMs: number) => unknown;
declare const clearTimeout: (timer: unknown) => void;

export const systemClock: Clock = {
  now: () => Date.now(),
  after: (delayMs, run) => setTimeout(run, delayMs),
  clear: (timer) => clearTimeout(timer),
};

/** One timer that is replaced when it is set again. */
export class Timer {
  readonly #clock: Clock;
  #timer: unknown;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  set(delayMs: number, run: () => void): void {
    this.clear();
    this.#timer = this.#clock.after(delayMs, () => {
      this.#timer = undefined;
      run();
    });
  }

  clear(): void {
    if (this.#timer === undefined) return;
    this.#clock.clear(this.#timer);
    this.#timer = undefined;
  }
}
