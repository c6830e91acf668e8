import styles from './Avatar.module.css';

const COLORS = 8;

interface AvatarProps {
  name: string;
  seed: string;
  /** Shown as a mark; in words by whoever shows the name. */
  status?: 'online' | 'away';
  isSmall?: boolean;
}

/** The first letter of a name, in a color of its session: equal names can be told apart. */
export function Avatar({ name, seed, status, isSmall = false }: AvatarProps) {
  const size = isSmall ? styles.small : '';
  return (
    <span
      className={`${styles.avatar} ${styles[`color${colorOf(seed)}`]} ${size}`}
      aria-hidden="true"
    >
      {[...name][0]?.toUpperCase()}
      {status && <span className={`${styles.status} ${styles[status]}`} />}
    </span>
  );
}

function colorOf(seed: string): number {
  let hash = 0;
  for (const letter of seed) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return hash % COLORS;
}
