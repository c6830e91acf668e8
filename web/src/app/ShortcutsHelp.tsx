import styles from './ShortcutsHelp.module.css';
import { SHORTCUTS } from './use-shortcuts.ts';

export function ShortcutsHelp() {
  return (
    <section className={styles.help} aria-labelledby="shortcuts">
      <h2 id="shortcuts" className={styles.title}>
        Keyboard
      </h2>
      <dl className={styles.list}>
        {SHORTCUTS.map(([keys, does]) => (
          <div key={does} className={styles.row}>
            <dt className={styles.keys}>
              {keys.map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dt>
            <dd className={styles.does}>{does}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
