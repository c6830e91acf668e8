import { useClient, useConnection } from '@clarion/client/react';
import { useId, useState } from 'react';
import { isSignedIn, signIn, signOut } from './identity.ts';
import styles from './NameChooser.module.css';

/** Who the server takes me for. Without an account I am a guest, and nobody knows me later. */
export function Account() {
  const client = useClient();
  const user = useConnection(() => client.session?.user);
  const [token, setToken] = useState('');
  const id = useId();

  // Also with a cookie, which is not ours to take away.
  if (isSignedIn() || (user !== undefined && !user.startsWith('guest:'))) {
    return (
      <section className={styles.account} aria-labelledby={`${id}-title`}>
        <h2 id={`${id}-title`} className={styles.label}>
          Account
        </h2>
        <p className={styles.hint}>
          {user === undefined
            ? 'You have a token here and are not signed in.'
            : `Signed in as ${user}.`}
        </p>
        {isSignedIn() && (
          <button type="button" className={styles.second} onClick={signOut}>
            Sign out
          </button>
        )}
      </section>
    );
  }
  return (
    <form
      className={styles.account}
      aria-labelledby={`${id}-title`}
      onSubmit={(event) => {
        event.preventDefault();
        if (token.trim()) signIn(token.trim());
      }}
    >
      <h2 id={`${id}-title`} className={styles.label}>
        Account
      </h2>
      <label className={styles.hint} htmlFor={id}>
        Token, from whoever runs this server
      </label>
      <input
        id={id}
        className={styles.input}
        type="password"
        value={token}
        autoComplete="off"
        aria-describedby={`${id}-hint`}
        onChange={(event) => setToken(event.target.value)}
      />
      <p id={`${id}-hint`} className={styles.hint}>
        With one, messages to you wait while you are away. It is kept on this device until you sign
        out.
      </p>
      <button type="submit" className={styles.second}>
        Sign in
      </button>
    </form>
  );
}
