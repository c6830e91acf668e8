import { useEffect, useLayoutEffect, useRef, useState } from 'react';
import { formatDay } from '../../shared/format.ts';
import { DownIcon } from '../../shared/icons.tsx';
import type { ChatRoom } from './chat-room.ts';
import { explainGap, explainRecovery } from './explain.ts';
import type { Row } from './groups.ts';
import styles from './MessageList.module.css';
import { MessageRow } from './MessageRow.tsx';
import type { Earlier, Notice } from './timeline.ts';

interface MessageListProps {
  chatRoom: ChatRoom;
  rows: readonly Row[];
  earlier: Earlier;
  isJoined: boolean;
  placeholder: string;
}

/** Closer to the end than this many pixels counts as being there. */
const END_PX = 80;

export function MessageList({ chatRoom, rows, earlier, isJoined, placeholder }: MessageListProps) {
  const { list, isAtEnd, onScroll, toEnd } = useStickToEnd(rows);
  const now = Date.now();

  return (
    <div className={styles.place}>
      <div
        ref={list}
        className={styles.list}
        role="log"
        aria-label={`Messages in ${chatRoom.name}`}
        // Only what is new is read aloud: not the history that comes with joining.
        aria-live={isJoined ? 'polite' : 'off'}
        aria-busy={earlier === 'loading'}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it
        tabIndex={0}
        onScroll={onScroll}
      >
        {rows.length === 0 ? (
          <p className={styles.placeholder}>{placeholder}</p>
        ) : (
          <LoadEarlier earlier={earlier} onLoad={() => chatRoom.loadEarlier()} />
        )}
        {rows.map((row) => {
          if (row.kind === 'day') return <Day key={row.key} label={formatDay(row.time, now)} />;
          if (row.kind === 'notice') return <NoticeRow key={row.key} notice={row.notice} />;
          return (
            <MessageRow
              key={row.key}
              message={row.message}
              isFirst={row.isFirst}
              onRetry={() => chatRoom.retry(row.message)}
              onDiscard={() => chatRoom.discard(row.message)}
            />
          );
        })}
      </div>
      {!isAtEnd && (
        <button type="button" className={styles.toEnd} onClick={toEnd}>
          <DownIcon /> Newest messages
        </button>
      )}
    </div>
  );
}

function LoadEarlier({ earlier, onLoad }: { earlier: Earlier; onLoad: () => void }) {
  if (earlier === 'none') return <p className={styles.start}>This is where it begins.</p>;
  return (
    <div className={styles.earlier}>
      {earlier === 'failed' && <p role="alert">Earlier messages could not be loaded.</p>}
      <button
        type="button"
        className={styles.button}
        disabled={earlier === 'loading'}
        onClick={onLoad}
      >
        {earlier === 'loading' ? 'Loading…' : earlier === 'failed' ? 'Try again' : 'Load earlier'}
      </button>
    </div>
  );
}

function Day({ label }: { label: string }) {
  return (
    <h2 className={styles.day}>
      <span>{label}</span>
    </h2>
  );
}

function NoticeRow({ notice }: { notice: Notice }) {
  const isGap = notice.kind === 'gap';
  return (
    <p className={isGap ? `${styles.notice} ${styles.gap}` : styles.notice}>
      {isGap ? explainGap(notice) : explainRecovery(notice)}
    </p>
  );
}

/**
 * Stays at the newest message while one is there, and where one is while reading above: also when
 * earlier messages appear over it.
 */
function useStickToEnd(rows: readonly Row[]) {
  const list = useRef<HTMLDivElement>(null);
  const before = useRef({ height: 0, firstKey: '', lastKey: '' });
  const [isAtEnd, setAtEnd] = useState(true);
  const firstKey = rows.find(({ kind }) => kind === 'message')?.key ?? '';
  const last = rows.at(-1);
  const isMine = last?.kind === 'message' && last.message.delivery === 'sending';

  useLayoutEffect(() => {
    const element = list.current;
    if (!element) return;
    const { height, firstKey: oldFirst, lastKey: oldLast } = before.current;
    const lastKey = last?.key ?? '';
    const hasSpoken = isMine && lastKey !== oldLast;
    if (isAtEnd || hasSpoken) element.scrollTop = element.scrollHeight;
    else if (firstKey !== oldFirst && lastKey === oldLast) {
      element.scrollTop += element.scrollHeight - height;
    }
    before.current = { height: element.scrollHeight, firstKey, lastKey };
  }, [isAtEnd, firstKey, last, isMine]);

  useEffect(() => {
    const element = list.current;
    if (!element || !isAtEnd) return;
    // A banner or an on-screen keyboard takes from the height.
    const observer = new ResizeObserver(() => {
      element.scrollTop = element.scrollHeight;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [isAtEnd]);

  return {
    list,
    isAtEnd,
    onScroll: () => {
      const element = list.current;
      if (!element) return;
      setAtEnd(element.scrollHeight - element.scrollTop - element.clientHeight < END_PX);
    },
    toEnd: () => {
      setAtEnd(true);
      list.current?.scrollTo({ top: list.current.scrollHeight });
      list.current?.focus();
    },
  };
}
