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
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  readonly get = (): T => this.#value;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  set(value: T): void {
    if (value === this.#value) return;
    this.#value = value;
    for (const listener of [...this.#listeners]) listener();
  }
}

interface Page {
  document?: { hidden: boolean };
  requestAnimationFrame?: (run: () => void) => unknown;
}

declare const setTimeout: (run: () => void, delayMs: number) => unknown;

const HIDDEN_MS = 100;

/** Once per frame while the page is seen: a burst of publications is one render. */
export const perFrame: Schedule = (run) => {
  const { document, requestAnimationFrame } = globalThis as Page;
  if (requestAnimationFrame && !document?.hidden) requestAnimationFrame(run);
  else setTimeout(run, HIDDEN_MS);
};
