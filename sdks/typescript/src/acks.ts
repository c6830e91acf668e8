import type { Backoff } from './backoff.ts';
import type { Position } from './codec.ts';
import type { Heard } from './emitter.ts';
import type { Link } from './link.ts';
import { Timer } from './timer.ts';

/**
 * Acknowledges what was handled in `$user/<me>`, so that the next device begins behind it.
 *
 * `$ack` is cumulative: what was handled out of turn waits for what came before it. What a listener
 * failed on, or nobody listened to, is not acknowledged, nor is what comes after it, until the
 * application acknowledges that itself. One `$ack` is under way at a time; meanwhile only the newest
 * position is kept, and it outlives the connection.
 */
export class Acks {
  readonly #room: string;
  readonly #link: Link;
  readonly #backoff: Backoff;
  readonly #retry: Timer;
  /** Settles when all that was delivered so far is handled, or never will be. */
  #turn: Promise<void> = Promise.resolve();
  /** The newest that was not handled. */
  #failed: Position | undefined;
  #unsaid: Position | undefined;
  #isJoined = false;
  /** One is under way, or is about to be said again. */
  #isBusy = false;

  constructor(room: string, link: Link) {
    this.#room = room;
    this.#link = link;
    this.#backoff = link.backoff();
    this.#retry = new Timer(link.clock);
  }

  /** The publication at `position` was delivered. */
  delivered(position: Position, heard: Heard): void {
    this.#turn = this.#turn
      .then(() => heard)
      .then((well) => {
        if (!well) this.#failed = position;
        if (this.#failed) return;
        this.#unsaid = position;
        this.#say();
      });
  }

  /** The application has acknowledged by itself. */
  acknowledged({ epoch, offset }: Position): void {
    const failed = this.#failed;
    if (failed?.epoch !== epoch || failed.offset <= offset) this.#failed = undefined;
  }

  joined(): void {
    this.#isJoined = true;
    this.#say();
  }

  dropped(): void {
    this.#isJoined = false;
    this.#isBusy = false;
    this.#retry.clear();
  }

  #say(): void {
    const position = this.#unsaid;
    if (!position || !this.#isJoined || this.#isBusy) return;
    this.#isBusy = true;
    this.#link.issue('$ack', position, { room: this.#room }, (error) => {
      // It is said again after the next join.
      if (error?.name === 'connection_lost' || error?.name === 'closed') return;
      const next = () => {
        this.#isBusy = false;
        this.#say();
      };
      if (error?.temporary) {
        this.#retry.set(this.#backoff.next() + (error.retryAfterMs ?? 0), next);
        return;
      }
      // Said, or refused for good: this position is over, a newer one may be better.
      this.#backoff.reset();
      if (this.#unsaid === position) this.#unsaid = undefined;
      next();
    });
  }
}
