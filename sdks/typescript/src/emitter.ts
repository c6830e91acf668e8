/** Takes a listener off again. Calling it twice does nothing. */
export type Unsubscribe = () => void;

type Listener<T> = (event: T) => void;

/**
 * A typed emitter of events.
 *
 * A listener that throws never disturbs the others or the caller of `emit`: what it threw goes to
 * `onThrow`. Listeners added or removed during an `emit` count from the next one.
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

  /** Returns false when nobody listens. */
  emit<E extends keyof Events>(event: E, value: Events[E]): boolean {
    const set = this.#listeners.get(event);
    if (!set?.size) return false;
    for (const listener of [...set] as Listener<Events[E]>[]) {
      try {
        listener(value);
      } catch (thrown) {
        this.#onThrow(thrown, event);
      }
    }
    return true;
  }
}
