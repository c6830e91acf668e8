import type { HelloPayload, WelcomePayload } from './codec.ts';
import type { Clock } from './timer.ts';

/** Why a token is wanted: for the first time, because the last was refused, or before it expires. */
export type TokenReason = 'connect' | 'expired' | 'refresh';

/**
 * Fetches a token from the application's back end.
 *
 * Whatever it throws is tried again with backoff, except an error with `code` 401 or 403: the
 * application knows that this user may not connect, and the client stops.
 */
export type GetToken = (reason: TokenReason) => Promise<string> | string;

/**
 * What the client shows at the door: a token, and after the first `$welcome` a ticket.
 *
 * The token is kept and sent beside the ticket. A server that cannot use the ticket then falls back
 * to the token and not to a guest, and a thousand clients that resume ask nobody for a new one.
 */
export class Credentials {
  readonly #clock: Clock;
  readonly #getToken: GetToken | undefined;
  #token: string | undefined;
  #ticket: { text: string; expiresAt: number } | undefined;
  /** Milliseconds since 1970. */
  #tokenExpiresAt = Number.POSITIVE_INFINITY;
  #refused = false;
  #fresh = false;

  constructor(clock: Clock, token: string | undefined, getToken: GetToken | undefined) {
    this.#clock = clock;
    this.#token = token;
    this.#getToken = getToken;
  }

  get refreshable(): boolean {
    return this.#getToken !== undefined;
  }

  /** To be waited for before connecting; undefined when there is nothing to wait for. */
  prepare(): Promise<void> | undefined {
    const expired = this.#refused || this.#clock.now() >= this.#tokenExpiresAt;
    this.#fresh = false;
    if (!this.#getToken || (this.#token !== undefined && !expired)) return undefined;
    return this.fetch(expired ? 'expired' : 'connect').then(() => {
      this.#fresh = true;
    });
  }

  async fetch(reason: TokenReason): Promise<string> {
    const token = (await this.#getToken?.(reason)) as string;
    this.#token = token;
    this.#refused = false;
    this.#tokenExpiresAt = Number.POSITIVE_INFINITY;
    return token;
  }

  hello(): Pick<HelloPayload, 'token' | 'ticket'> {
    const ticket = this.#ticket;
    return {
      ...(this.#token !== undefined && { token: this.#token }),
      ...(ticket && this.#clock.now() < ticket.expiresAt && { ticket: ticket.text }),
    };
  }

  welcomed({ ticket, ticket_ttl_ms, expires_at }: WelcomePayload): void {
    // If it is refused later, that is since it was revoked, and there may be another.
    this.#fresh = false;
    const ttlMs = ticket_ttl_ms ?? Number.POSITIVE_INFINITY;
    this.#ticket =
      ticket === undefined ? undefined : { text: ticket, expiresAt: this.#clock.now() + ttlMs };
    this.expiresAt(expires_at);
  }

  /** The server says until when the token is good (RFC 3339). */
  expiresAt(instant: string | undefined): void {
    const parsed = Date.parse(instant ?? '');
    this.#tokenExpiresAt = Number.isNaN(parsed) ? Number.POSITIVE_INFINITY : parsed;
  }

  /**
   * The server refused what it was shown. Returns whether another try with a new token makes sense:
   * it does not when the refused one had just been fetched, or there is nobody to ask.
   */
  refuse(): boolean {
    this.forgetSession();
    this.#refused = true;
    return this.#getToken !== undefined && !this.#fresh;
  }

  /** The session is over: the next connection is a new one. */
  forgetSession(): void {
    this.#ticket = undefined;
  }
}
