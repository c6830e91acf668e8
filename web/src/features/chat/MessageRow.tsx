import { memo } from 'react';
import { Avatar } from '../../shared/Avatar.tsx';
import { formatMoment, formatTime } from '../../shared/format.ts';
import { explainFailure } from './explain.ts';
import styles from './MessageRow.module.css';
import type { Message } from './message.ts';

interface MessageRowProps {
  message: Message;
  /** The author begins to speak: name and picture are shown. */
  isFirst: boolean;
  onRetry: () => void;
  onDiscard: () => void;
}

/** What others wrote is put in as text, never as HTML. */
export const MessageRow = memo(
  function MessageRow({ message, isFirst, onRetry, onDiscard }: MessageRowProps) {
    const { author, sender, text, time, mine, delivery } = message;
    return (
      <article
        className={`${styles.row} ${mine ? styles.mine : ''} ${isFirst ? styles.first : ''}`}
        data-delivery={delivery}
      >
        {!mine && isFirst && <Avatar name={author} seed={sender} />}
        <div className={styles.column}>
          <p className={isFirst ? styles.head : 'visually-hidden'}>
            <span className={styles.author}>{mine ? 'You' : author}</span>
          </p>
          <div className={styles.bubble}>
            <p className={styles.text} dir="auto">
              {text}
            </p>
            <time
              className={styles.time}
              dateTime={new Date(time).toISOString()}
              title={formatMoment(time)}
            >
              {formatTime(time)}
            </time>
          </div>
          {delivery === 'sending' && <p className={styles.state}>Sending…</p>}
          {delivery === 'failed' && (
            <p className={styles.failed} role="alert">
              <span>{explainFailure(message.error)}</span>
              <button type="button" className={styles.link} onClick={onRetry}>
                Try again
              </button>
              <button type="button" className={styles.link} onClick={onDiscard}>
                Discard
              </button>
            </p>
          )}
        </div>
      </article>
    );
  },
  // The functions are new on each render and do the same as long as the message is the same.
  (before, after) => before.message === after.message && before.isFirst === after.isFirst,
);
