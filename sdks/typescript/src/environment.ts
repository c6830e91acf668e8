import type { Unsubscribe } from './emitter.ts';

/**
 * Tells when the world around the client has changed so that waiting longer makes no sense.
 *
 * There is deliberately no "went offline": browsers say so while loopback and some networks still
 * work, and a failed try costs nothing.
 */
export interface Environment {
  /** Calls `listener` when the network came back or the page was shown again. */
  onWake(listener: () => void): Unsubscribe;
}

interface Target {
  addEventListener?(type: string, listener: () => void): void;
  removeEventListener?(type: string, listener: () => void): void;
  visibilityState?: string;
}

/** The browser's `online` and `visibilitychange`; does nothing where they do not exist. */
export const browserEnvironment: Environment = {
  onWake(listener) {
    const { document } = globalThis as { document?: Target };
    const window = globalThis as Target;
    const shown = () => {
      if (document?.visibilityState === 'visible') listener();
    };
    window.addEventListener?.('online', listener);
    document?.addEventListener?.('visibilitychange', shown);
    return () => {
      window.removeEventListener?.('online', listener);
      document?.removeEventListener?.('visibilitychange', shown);
    };
  },
};
