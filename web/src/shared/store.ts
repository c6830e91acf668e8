/** What `useSyncExternalStore` needs: a value that is replaced and never altered. */
export interface Readable<T> {
  get(): T;
  subscribe(listener: () => void): () => void;
}

/** Calls `run` soon, once. */
export type Schedule = (run: () => void) => void;

/** A value and who wants to know when it changes. */
export class Store<T> implements Readable<T> {
  readonly #listeners = new Set<() => void>();
  readonly #schedule: Schedule;
  #value: T;
  #scheduled = false;

  /** Without `schedule` listeners hear of each change; with it once for all until they are called. */
  constructor(value: T, schedule: Schedule = (run) => run()) {
    this.#value = value;
    this.#schedule = schedule;
  }

  readonly get = (): T => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    if (this.#scheduled) return;
    this.#scheduled = true;
    this.#schedule(() => {
      this.#scheduled = false;
      for (const listener of [...this.#listeners]) listener();
    });
  }

  update(change: (value: T) => T): void {
    this.set(change(this.#value));
  }
}

/** Once per frame while the page is seen: a burst of messages is one render. */
export const perFrame: Schedule = (run) => {
  if (document.hidden) setTimeout(run, 100);
  else requestAnimationFrame(run);
};
