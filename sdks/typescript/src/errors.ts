import type { ErrorPayload, Position } from './codec.ts';

/**
 * Why a command failed.
 *
 * `name` is stable and is what a program compares: the server's (`forbidden`, `too_large`,
 * `rate_limited`, ...) or one of the SDK's own: `timeout`, `aborted`, `closed`, `not_connected`,
 * `connection_lost`, `queue_full`.
 */
export class ClarionError extends Error {
  /** In the sense of HTTP's status codes. */
  readonly code: number;
  /** The same call may be made again and can succeed. */
  readonly temporary: boolean;
  /** Which part of the command was wrong. */
  readonly field: string | undefined;
  /** Which limit was hit, in the unit of the limit. */
  readonly limit: number | undefined;
  /** Do not try again sooner, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /** With `epoch_changed`: where the room is now. */
  readonly position: Position | undefined;
  /** The type of the message that failed, where no promise waited for it. */
  readonly command: string | undefined;
  /** How many more errors of this name were not sent since the last one that was. */
  readonly suppressed: number;
  /** The failed publication's idempotency key: publish again with it and it is never doubled. */
  key: string | undefined;

  constructor(error: Partial<ErrorPayload> & { name: string }, key?: string) {
    super(error.message || error.name);
    this.name = error.name;
    this.code = error.code ?? 0;
    this.temporary = error.temporary ?? false;
    this.field = error.field;
    this.limit = error.limit;
    this.retryAfterMs = error.retry_after_ms;
    this.command = error.command;
    this.suppressed = error.suppressed ?? 0;
    const { epoch, offset } = error;
    this.position = epoch === undefined || offset === undefined ? undefined : { epoch, offset };
    this.key = key;
  }
}

type Local = 'timeout' | 'aborted' | 'closed' | 'not_connected' | 'connection_lost' | 'queue_full';

const LOCAL: Record<Local, [code: number, temporary: boolean, message: string]> = {
  timeout: [408, true, 'the server did not answer in time'],
  aborted: [499, false, 'aborted by the caller'],
  closed: [499, false, 'the client is closed'],
  not_connected: [503, true, 'there is no connection'],
  connection_lost: [503, true, 'the connection was lost before the server answered'],
  queue_full: [503, true, 'too much is waiting for a connection already'],
};

/** An error of the SDK itself. */
export function localError(name: Local, key?: string): ClarionError {
  const [code, temporary, message] = LOCAL[name];
  return new ClarionError({ name, code, temporary, message }, key);
}

/** A command that is not worth sending. */
export function invalid(name: string, message: string, field?: string, limit?: number) {
  const code = name === 'too_large' ? 413 : 400;
  return new ClarionError({
    name,
    code,
    message,
    ...(field !== undefined && { field }),
    ...(limit !== undefined && { limit }),
  });
}
