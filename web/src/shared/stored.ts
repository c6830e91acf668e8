/**
 * JSON in localStorage. Private windows and full disks throw: then it is remembered until the page
 * is closed, and no longer. What is read may be anything, so `check` decides.
 */
export class Stored<T> {
  readonly #key: string;
  readonly #check: (value: unknown) => T;
  #value: T | undefined;

  constructor(key: string, check: (value: unknown) => T) {
    this.#key = `clarion.${key}`;
    this.#check = check;
  }

  get(): T {
    if (this.#value === undefined) this.#value = this.#check(this.#read());
    return this.#value;
  }

  set(value: T): void {
    this.#value = value;
    try {
      localStorage.setItem(this.#key, JSON.stringify(value));
    } catch {
      // Kept in memory.
    }
  }

  #read(): unknown {
    try {
      return JSON.parse(localStorage.getItem(this.#key) ?? 'null');
    } catch {
      return null;
    }
  }
}
