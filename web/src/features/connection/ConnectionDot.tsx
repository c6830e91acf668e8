import type { Client } from '@clarion/client';
import { useClientStatus } from '../../shared/use-client.ts';
import styles from './ConnectionDot.module.css';

const TEXT = {
  idle: 'Not connected',
  connecting: 'Connecting',
  connected: 'Connected',
  closed: 'Disconnected',
};

export function ConnectionDot({ client }: { client: Client }) {
  const { state } = useClientStatus(client);
  return (
    <span className={`${styles.dot} ${styles[state]}`} title={TEXT[state]}>
      <span className="visually-hidden">{TEXT[state]}</span>
    </span>
  );
}
