import { useStore } from '@clarion/client/react';
import { useId, useState } from 'react';
import { Logo } from '../../shared/icons.tsx';
import { STATUS_LENGTH } from '../../shared/presence.ts';
import { Account } from './Account.tsx';
import { myName, myStatus, NAME_LENGTH } from './identity.ts';
import styles from './NameChooser.module.css';

/** Asks what I am called: as the first screen, or with `onDone` in a dialog, where also how I am. */
export function NameChooser({ onDone }: { onDone?: () => void }) {
  const before = useStore(myName);
  const statusBefore = useStore(myStatus);
  const [name, setName] = useState(before);
  const [status, setStatus] = useState(statusBefore);
  const [isMissing, setMissing] = useState(false);
  const id = useId();
  const Screen = onDone ? 'section' : 'main';

  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    const chosen = name.trim();
    setMissing(chosen === '');
    if (chosen === '') return;
    myName.set(chosen);
    myStatus.set({ ...status, text: status.text.trim() });
    onDone?.();
  };

  return (
    <Screen className={onDone ? styles.inline : styles.screen} aria-labelledby={`${id}-title`}>
      <form className={styles.card} onSubmit={submit} noValidate>
        {!onDone && <Logo />}
        <h1 id={`${id}-title`} className={styles.title}>
          {onDone ? 'You' : 'Welcome to Clarion'}
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
            : 'It goes with your messages. You need no account and no password.'}
        </p>
        {onDone && <StatusFields status={status} onChange={setStatus} />}
        <button type="submit" className={styles.button}>
          {onDone ? 'Save' : 'Continue'}
        </button>
      </form>
      {onDone && <Account />}
    </Screen>
  );
}

type Status = ReturnType<typeof myStatus.get>;

function StatusFields({ status, onChange }: { status: Status; onChange: (next: Status) => void }) {
  const id = useId();
  const choices = [
    { isAway: false, label: 'Online', hint: 'away while nobody looks at this page' },
    { isAway: true, label: 'Away', hint: 'until you say otherwise' },
  ];
  return (
    <>
      <fieldset className={styles.choices}>
        <legend className={styles.label}>Others see you as</legend>
        {choices.map(({ isAway, label, hint }) => (
          <label key={label} className={styles.choice}>
            <input
              type="radio"
              name={`${id}-status`}
              checked={status.isAway === isAway}
              onChange={() => onChange({ ...status, isAway })}
            />
            <span>
              {label} <span className={styles.aside}>{hint}</span>
            </span>
          </label>
        ))}
      </fieldset>
      <label className={styles.label} htmlFor={id}>
        Status
      </label>
      <input
        id={id}
        className={styles.input}
        value={status.text}
        maxLength={STATUS_LENGTH}
        placeholder="In a meeting until three"
        autoComplete="off"
        onChange={(event) => onChange({ ...status, text: event.target.value })}
      />
    </>
  );
}
