import type { Backoff } from './backoff.ts';
import { encode } from './codec.ts';
import type { Commands } from './commands.ts';
import type { Credentials } from './credentials.ts';
import { type Clock, Timer } from './timer.ts';

/** At least this long between two tries to replace a token that still works. */
const AGAIN_MS = 1_000;

/**
 * Replaces the token on the open connection when the server says that it expires soon.
 *
 * What fails is tried again with backoff, for as long as this connection lasts: the worst that can
 * happen is that the server closes it with 4102, and then a token is fetched before coming back.
 */
export class TokenRefresh {
  readonly #credentials: Credentials;
  readonly #commands: Commands;
  readonly #backoff: Backoff;
  readonly #report: (thrown: unknown) => void;
  readonly #timer: Timer;
  /** Counts connections; what a fetch for an older one brings is kept but not sent. */
  #connection = 0;

  constructor(
    clock: Clock,
    credentials: Credentials,
    commands: Commands,
    backoff: Backoff,
    report: (thrown: unknown) => void,
  ) {
    this.#credentials = credentials;
    this.#commands = commands;
    this.#backoff = backoff;
    this.#report = report;
    this.#timer = new Timer(clock);
  }

  start(): void {
    if (!this.#credentials.refreshable) return;
    const connection = this.#connection;
    const again = (thrown: unknown) => {
      if (connection !== this.#connection) return;
      this.#report(thrown);
      this.#timer.set(AGAIN_MS + this.#backoff.next(), () => this.start());
    };
    this.#credentials.fetch('refresh').then((token) => {
      if (connection !== this.#connection) return;
      this.#commands.issue(
        (id) => encode('$refresh', { token }, { id }),
        (error, reply) => {
          if (error?.temporary) again(error);
          else if (error) this.#report(error);
          else {
            this.#backoff.reset();
            this.#credentials.expiresAt((reply as { expires_at?: string }).expires_at);
          }
        },
      );
    }, again);
  }

  /** The connection is gone. */
  stop(): void {
    this.#connection++;
    this.#timer.clear();
  }
}
