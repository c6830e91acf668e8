import { memo } from 'react';
import { Avatar } from '../../shared/Avatar.tsx';
import { formatMoment, formatTime } from '../../shared/format.ts';
import { explainFailure } from './explain.ts';
import { toPieces } from './links.ts';
import styles from './MessageRow.module.css';
import type { Message } from './message.ts';

interface MessageRowProps {
  message: Message;
  /** The author begins to speak: name and picture are shown. */
  isFirst: boolean;
  onRetry: (id: string) => void;
  onDiscard: (id: string) => void;
}

/** What others wrote is put in as text, never as HTML. */
export const MessageRow = memo(function MessageRow(props: MessageRowProps) {
  const { message, isFirst, onRetry, onDiscard } = props;
  const { id, author, sender, text, time, mine, delivery } = message;
  return (
    <article
      className={`${styles.row} ${mine ? styles.mine : ''} ${isFirst ? styles.first : ''}`}
      data-delivery={delivery}
    >
      {!mine && isFirst && <Avatar name={author} seed={sender} />}
      <div className={styles.column}>
        <p className={isFirst && !mine ? styles.head : 'visually-hidden'}>
          <span className={styles.author}>{mine ? 'You' : author}</span>
        </p>
        <div className={styles.bubble}>
          <p className={styles.text} dir="auto">
            <Text text={text} />
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
            <button type="button" className={styles.link} onClick={() => onRetry(id)}>
              Try again
            </button>
            <button type="button" className={styles.link} onClick={() => onDiscard(id)}>
              Discard
            </button>
          </p>
        )}
      </div>
    </article>
  );
});

/** Addresses open in a page that knows nothing of this one. */
function Text({ text }: { text: string }) {
  return toPieces(text).map(({ text: piece, href }, index) =>
    href ? (
      // biome-ignore lint/suspicious/noArrayIndexKey: the pieces of a text never move
      <a key={index} href={href} target="_blank" rel="noopener noreferrer nofollow ugc">
        {piece}
      </a>
    ) : (
      piece
    ),
  );
}
