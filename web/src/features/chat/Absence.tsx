import type { Gap, Recovery } from '@clarion/client/react';
import { useMemo, useReducer } from 'react';
import { CloseIcon } from '../../shared/icons.tsx';
import styles from './Absence.module.css';
import { explainAbsence } from './explain.ts';
import type { Row } from './rows.ts';

interface AbsenceProps {
  rows: readonly Row[];
  /** To the row with this index, which says the same. */
  onShow: (index: number) => void;
  /** It is about to go, and with it perhaps the focus. */
  onGo: () => void;
}

/** Entries are never altered, so what was dismissed is known by itself, in whatever list it is. */
const dismissed = new WeakSet<Gap | Recovery>();

/**
 * How much came while there was no connection, until one has seen it: the place itself may be far up.
 * It is read aloud with the rows, so it is no live region.
 */
export function Absence({ rows, onShow, onGo }: AbsenceProps) {
  const [, render] = useReducer((count: number) => count + 1, 0);
  const index = useMemo(() => rows.findLastIndex(({ kind }) => kind === 'notice'), [rows]);
  const row = rows[index];
  if (row?.kind !== 'notice' || dismissed.has(row.notice)) return null;
  const { notice } = row;
  const dismiss = () => {
    dismissed.add(notice);
    onGo();
    render();
  };

  return (
    <section
      aria-label="While you were offline"
      className={notice.kind === 'gap' ? `${styles.place} ${styles.gap}` : styles.place}
    >
      <p className={styles.text}>{explainAbsence(notice)}</p>
      <button
        type="button"
        className={styles.button}
        onClick={() => {
          dismiss();
          onShow(index);
        }}
      >
        Show
      </button>
      <button type="button" className={styles.icon} aria-label="Dismiss" onClick={dismiss}>
        <CloseIcon />
      </button>
    </section>
  );
}
