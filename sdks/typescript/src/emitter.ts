/** Takes a listener off again. Calling it twice does nothing. */
export type Unsubscribe = () => void;

/** What it returns is looked at only if it is a promise: the event is handled when that is. */
export type Listener<T> = (event: T) => unknown;

/** Whether all listeners did their part, now or later; undefined when nobody listens. */
export type Heard = boolean | Promise<boolean> | undefined;

/**
 * A typed emitter of events.
 *
 * A listener that throws, at once or by its promise, never disturbs the others or the caller of
 * `emit`: what it threw goes to `onThrow`. Listeners added or removed during an `emit` count from the next one.
 */
export class Emitter<Events extends object> {
  readonly #listeners = new Map<keyof Events, Set<Listener<never>>>();
  readonly #onThrow: (thrown: unknown, event: keyof Events) => void;

  constructor(onThrow: (thrown: unknown, event: keyof Events) => void) {
    this.#onThrow = onThrow;
  }

  on<E extends keyof Events>(event: E, listener: Listener<Events[E]>): Unsubscribe {
    // Wrapped, so that the same function added twice is two listeners with an `Unsubscribe` each.
    const own: Listener<Events[E]> = (value) => listener(value);
    let set = this.#listeners.get(event);
    if (!set) {
      set = new Set();
      this.#listeners.set(event, set);
    }
    set.add(own);
    return () => set.delete(own);
  }

  emit<E extends keyof Events>(event: E, value: Events[E]): Heard {
    const set = this.#listeners.get(event);
    if (!set?.size) return undefined;
    const failed = (thrown: unknown) => {
      this.#onThrow(thrown, event);
      return false;
    };
    let well: boolean | Promise<boolean> = true;
    for (const listener of [...set] as Listener<Events[E]>[]) {
      const before: boolean | Promise<boolean> = well;
      try {
        const result = listener(value);
        if (isThenable(result)) well = Promise.resolve(result).then(() => before, failed);
      } catch (thrown) {
        well = failed(thrown);
      }
    }
    return well;
  }
}

function isThenable(value: unknown): boolean {
  return typeof (value as PromiseLike<unknown> | undefined)?.then === 'function';
}
