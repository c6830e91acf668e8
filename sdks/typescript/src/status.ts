/** Where a client or a room stands, and why. A new object on every change, never altered. */
export interface Status<State extends string> {
  readonly state: State;
  /** The close code or error code that led here; 0 when neither did. */
  readonly code: number;
  /** A short stable name such as `connection_lost` or `forbidden`. */
  readonly reason: string;
  /** The SDK is trying, or will try, by itself. */
  readonly willRetry: boolean;
  /** When it tries again, in milliseconds since 1970; null while it is trying or not waiting. */
  readonly nextTryAt: number | null;
}

/** A change of status. `previous` equals `state` when only the next try changed. */
export interface StateEvent<State extends string> extends Status<State> {
  readonly previous: State;
}

/** The usual status: nothing went wrong and nothing is waited for. */
export function status<State extends string>(
  state: State,
  reason: string,
  rest: Partial<Status<State>> = {},
): Status<State> {
  return { state, code: 0, reason, willRetry: false, nextTryAt: null, ...rest };
}
