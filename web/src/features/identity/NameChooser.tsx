import { useId, useState } from 'react';
import { Logo } from '../../shared/icons.tsx';
import { useStore } from '../../shared/use-store.ts';
import { myName, NAME_LENGTH } from './identity.ts';
import styles from './NameChooser.module.css';

/** Asks what I am called: as the first screen, or with `onDone` in a dialog. */
export function NameChooser({ onDone }: { onDone?: () => void }) {
  const before = useStore(myName);
  const [name, setName] = useState(before);
  const [isMissing, setMissing] = useState(false);
  const id = useId();
  const Screen = onDone ? 'section' : 'main';

  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    const chosen = name.trim();
    setMissing(chosen === '');
    if (chosen === '') return;
    myName.set(chosen);
    onDone?.();
  };

  return (
    <Screen className={onDone ? styles.inline : styles.screen} aria-labelledby={`${id}-title`}>
      <form className={styles.card} onSubmit={submit} noValidate>
        {!onDone && <Logo />}
        <h1 id={`${id}-title`} className={styles.title}>
          {onDone ? 'Your name' : 'Welcome to Clarion'}
        </h1>
        <label className={styles.label} htmlFor={id}>
          What should others call you?
        </label>
        <input
          id={id}
          className={styles.input}
          value={name}
          maxLength={NAME_LENGTH}
          autoComplete="nickname"
          // biome-ignore lint/a11y/noAutofocus: it is the one thing to do on this screen
          autoFocus
          aria-invalid={isMissing}
          aria-describedby={`${id}-hint`}
          onChange={(event) => setName(event.target.value)}
        />
        <p
          id={`${id}-hint`}
          className={isMissing ? styles.problem : styles.hint}
          aria-live="polite"
        >
          {isMissing
            ? 'Please type a name.'
            : 'It goes with your messages. You are a guest here: no account, no password.'}
        </p>
        <button type="submit" className={styles.button}>
          {onDone ? 'Save' : 'Continue'}
        </button>
      </form>
    </Screen>
  );
}
