import type { Backoff } from './backoff.ts';
import type { Metadata } from './codec.ts';
import type { CallOptions, Settle } from './commands.ts';
import type { Published, PublishOptions } from './outbox.ts';
import type { Clock } from './timer.ts';

/** What a room needs of its client, and nothing else of it. */
export interface Link {
  readonly clock: Clock;
  readonly timeoutMs: number;
  isConnected(): boolean;
  /** Whether this is `$user/<me>`, and what is handled there is to be acknowledged. */
  acknowledges(room: string): boolean;
  backoff(): Backoff;
  /** Sends a command and returns its id; `settle` is called in the turn that brings the reply. */
  issue(
    type: string,
    payload: unknown,
    metadata: Metadata,
    settle: Settle,
    options?: CallOptions,
  ): number;
  /** Forgets a command, which is not sent if it has not been; `settle` gets `aborted`. */
  cancel(id: number): void;
  publish(
    room: string,
    type: string,
    payload: unknown,
    options?: PublishOptions,
  ): Promise<Published>;
  /** The room's join told whether it keeps a log. */
  learn(room: string, logged: boolean): void;
}
