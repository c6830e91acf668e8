import styles from './Avatar.module.css';

const COLORS = 8;

/** The first letter of a name, in a color of its session: equal names can be told apart. */
export function Avatar({ name, seed }: { name: string; seed: string }) {
  return (
    <span className={`${styles.avatar} ${styles[`color${colorOf(seed)}`]}`} aria-hidden="true">
      {[...name][0]?.toUpperCase()}
    </span>
  );
}

function colorOf(seed: string): number {
  let hash = 0;
  for (const letter of seed) hash = (hash * 31 + (letter.codePointAt(0) ?? 0)) >>> 0;
  return hash % COLORS;
}
