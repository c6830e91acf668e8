import type { Clock } from '../../src/timer.ts';

interface Task {
  at: number;
  order: number;
  run: () => void;
}

/** Virtual time: it only moves when a test says so, and then runs what is due, in order. */
export class FakeClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  #order = 0;
  readonly #tasks = new Set<Task>();

  get timers(): number {
    return this.#tasks.size;
  }

  now(): number {
    return this.#now;
  }

  after(delayMs: number, run: () => void): Task {
    const task = { at: this.#now + Math.max(0, delayMs), order: this.#order++, run };
    this.#tasks.add(task);
    return task;
  }

  clear(timer: unknown): void {
    this.#tasks.delete(timer as Task);
  }

  /** Lets `ms` pass; promises settle between the timers, as they would. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await settled();
    for (;;) {
      const due = [...this.#tasks]
        .filter(({ at }) => at <= end)
        .sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!due) break;
      this.#tasks.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.run();
      await settled();
    }
    this.#now = end;
  }

  /** The computer sleeps: time passes, timers do not run. */
  sleep(ms: number): void {
    this.#now += ms;
  }
}

/** Lets every promise that can settle do so. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
}
