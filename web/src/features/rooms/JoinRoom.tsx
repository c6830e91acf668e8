import { useId, useState } from 'react';
import styles from './JoinRoom.module.css';
import { normalizeRoomName, roomNameProblem } from './room-name.ts';

interface JoinRoomProps {
  onJoin: (name: string) => void;
  /** It is the one thing on the screen. */
  isProminent?: boolean;
  suggestion?: string;
}

export function JoinRoom({ onJoin, isProminent = false, suggestion = '' }: JoinRoomProps) {
  const [typed, setTyped] = useState(suggestion);
  const [problem, setProblem] = useState<string>();
  const id = useId();

  const submit = (event: React.FormEvent) => {
    event.preventDefault();
    const name = normalizeRoomName(typed);
    const found = roomNameProblem(name);
    setProblem(found);
    if (found) return;
    setTyped('');
    onJoin(name);
  };

  return (
    <form className={isProminent ? styles.prominent : styles.form} onSubmit={submit}>
      <label className={styles.label} htmlFor={id}>
        Join a room
      </label>
      <div className={styles.row}>
        <input
          id={id}
          className={styles.input}
          value={typed}
          placeholder="general"
          autoComplete="off"
          autoCapitalize="none"
          spellCheck={false}
          aria-invalid={problem !== undefined}
          aria-describedby={`${id}-problem`}
          onChange={(event) => {
            setTyped(event.target.value);
            setProblem(undefined);
          }}
        />
        <button type="submit" className={styles.button}>
          Join
        </button>
      </div>
      <p id={`${id}-problem`} className={styles.problem} aria-live="polite">
        {problem}
      </p>
    </form>
  );
}
