import { useConnection } from '@clarion/client/react';
import styles from './ConnectionDot.module.css';

const TEXT = {
  idle: 'Not connected',
  connecting: 'Connecting',
  connected: 'Connected',
  closed: 'Disconnected',
};

export function ConnectionDot() {
  const state = useConnection((status) => status.state);
  return (
    <span className={`${styles.dot} ${styles[state]}`} title={TEXT[state]}>
      <span className="visually-hidden">{TEXT[state]}</span>
    </span>
  );
}
