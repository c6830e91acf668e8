import { useClient, useConnection } from '@clarion/client/react';
import { useAfter } from '../../shared/use-after.ts';
import { useNow } from '../../shared/use-now.ts';
import styles from './ConnectionBanner.module.css';
import { explainConnection } from './explain.ts';

const MOMENT_MS = 600;

/** Says why there is no connection, when the next try is, and lets one try now. */
export function ConnectionBanner({ isSignedIn }: { isSignedIn: boolean }) {
  const client = useClient();
  const status = useConnection();
  const { state, nextTryAt } = status;
  // Connecting for the first time is nothing to be alarmed by, nor is what is over in a moment.
  const isLost = useAfter(state === 'connecting' && status.reason !== 'connect', MOMENT_MS);
  const isShown = state === 'closed' || isLost;

  return (
    <section aria-label="Connection" className={isShown ? styles.place : undefined}>
      <p className={isShown ? styles.text : 'visually-hidden'} role="status">
        {isShown
          ? explainConnection(status, isSignedIn)
          : state === 'connected'
            ? 'Connected.'
            : ''}
      </p>
      {isShown && (
        <>
          {nextTryAt !== null && <Countdown until={nextTryAt} />}
          {state === 'connecting' && nextTryAt === null && (
            <span className={styles.countdown}>Trying…</span>
          )}
          <button
            type="button"
            className={styles.button}
            disabled={state === 'connecting' && nextTryAt === null}
            onClick={() => client.connect()}
          >
            {state === 'closed' ? 'Connect again' : 'Try now'}
          </button>
        </>
      )}
    </section>
  );
}

/** Outside of the live region: nobody wants to be told every second. */
function Countdown({ until }: { until: number }) {
  const now = useNow(true);
  const seconds = Math.max(0, Math.ceil((until - now) / 1_000));
  return (
    <span className={styles.countdown}>{seconds > 0 ? `Next try in ${seconds} s` : 'Trying…'}</span>
  );
}
