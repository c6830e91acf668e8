import type { Earlier } from '@clarion/client/react';
import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from 'react';
import { Virtualizer, type VirtualizerHandle } from 'virtua';
import { formatDay, plural } from '../../shared/format.ts';
import { DownIcon } from '../../shared/icons.tsx';
import { Absence } from './Absence.tsx';
import { explainAbsence, explainGap, explainRecovery } from './explain.ts';
import styles from './MessageList.module.css';
import { MessageRow } from './MessageRow.tsx';
import type { Row } from './rows.ts';

interface MessageListProps {
  label: string;
  rows: readonly Row[];
  earlier: Earlier;
  /** What is said before the first message. */
  beginning: string;
  isReady: boolean;
  placeholder: string;
  onLoadEarlier: () => void;
  onRetry: (id: string) => void;
  onDiscard: (id: string) => void;
}

/** Closer to the end than this many pixels counts as being there. */
const END_PX = 80;

/** Only what can be seen is in the page, however much was said. */
export function MessageList(props: MessageListProps) {
  const { label, rows, earlier, beginning, isReady, placeholder } = props;
  const { onLoadEarlier, onRetry, onDiscard } = props;
  const { list, virtual, isAtEnd, missed, isPrepend, onScroll, onKeyDown, toEnd, toRow } =
    useStickToEnd(rows);
  const now = Date.now();

  return (
    <div className={styles.place}>
      <Absence
        rows={rows}
        onShow={toRow}
        onGo={() => list.current?.focus({ preventScroll: true })}
      />
      <div
        ref={list}
        id="messages"
        className={styles.list}
        role="log"
        aria-label={label}
        // Rows come and go while one scrolls; what is new is read aloud by `Announcer`.
        aria-live="off"
        aria-busy={!isReady || earlier === 'loading'}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: it scrolls, so the keyboard must reach it
        tabIndex={0}
        onKeyDown={onKeyDown}
      >
        {/* Few messages lie at the bottom, near to where one writes. */}
        <p className={styles.above}>{rows.length === 0 && placeholder}</p>
        <Virtualizer
          ref={virtual}
          scrollRef={list}
          data={rows.length > 0 ? [undefined, ...rows] : []}
          shift={isPrepend}
          onScroll={onScroll}
        >
          {(row) => {
            if (!row) {
              return (
                <LoadEarlier
                  key="earlier"
                  earlier={earlier}
                  beginning={beginning}
                  onLoad={() => {
                    // The button goes up with the beginning, out of sight and out of the page.
                    list.current?.focus({ preventScroll: true });
                    onLoadEarlier();
                  }}
                />
              );
            }
            if (row.kind === 'notice') return <NoticeRow key={row.key} notice={row.notice} />;
            const { message, isFirst, isNewDay } = row;
            return (
              <div key={row.key} className={styles.item}>
                {isNewDay && <Day label={formatDay(message.time, now)} />}
                <MessageRow
                  message={message}
                  isFirst={isFirst}
                  onRetry={onRetry}
                  onDiscard={onDiscard}
                />
              </div>
            );
          }}
        </Virtualizer>
      </div>
      {!isAtEnd && (
        <button type="button" className={styles.toEnd} onClick={toEnd}>
          <DownIcon /> {missed > 0 ? plural(missed, 'new message') : 'Newest messages'}
        </button>
      )}
      <Announcer rows={rows} isReady={isReady} />
    </div>
  );
}

interface LoadEarlierProps {
  earlier: Earlier;
  beginning: string;
  onLoad: () => void;
}

function LoadEarlier({ earlier, beginning, onLoad }: LoadEarlierProps) {
  if (earlier === 'none') return <p className={styles.start}>{beginning}</p>;
  return (
    <div className={styles.earlier}>
      {earlier === 'failed' && <p role="alert">Earlier messages could not be loaded.</p>}
      <button
        type="button"
        className={styles.button}
        // Disabled, it would lose the focus.
        aria-disabled={earlier === 'loading'}
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

function NoticeRow({ notice }: { notice: Extract<Row, { kind: 'notice' }>['notice'] }) {
  return (
    <div className={styles.item}>
      {notice.kind === 'gap' ? (
        <p className={styles.gap}>{explainGap(notice)}</p>
      ) : (
        <p className={styles.recovered}>
          <span>{explainRecovery(notice)}</span>
        </p>
      )}
    </div>
  );
}

const SPOKEN_LENGTH = 300;

/**
 * Says aloud what others write while one is here: not history, and a burst as a number; after an
 * absence what became of it.
 */
function Announcer({ rows, isReady }: { rows: readonly Row[]; isReady: boolean }) {
  const [spoken, setSpoken] = useState('');
  const heard = useRef<string>(undefined);

  useEffect(() => {
    const last = rows.at(-1)?.key;
    const before = heard.current;
    heard.current = last;
    if (!isReady || before === undefined || last === before) return;
    const fresh: Row[] = [];
    for (let at = rows.length - 1; at >= 0 && rows[at]?.key !== before; at--) {
      fresh.unshift(rows[at] as Row);
      if (fresh.length > 100) break;
    }
    const notice = fresh.findLast((row) => row.kind === 'notice')?.notice;
    if (notice) {
      setSpoken(explainAbsence(notice));
      return;
    }
    const said = fresh.flatMap((row) =>
      row.kind === 'message' && !row.message.mine && !row.wasMissed ? row.message : [],
    );
    const [first] = said;
    if (!first) return;
    setSpoken(
      said.length === 1
        ? `${first.author}: ${first.text.slice(0, SPOKEN_LENGTH)}`
        : plural(said.length, 'new message'),
    );
  }, [rows, isReady]);

  return (
    <p className="visually-hidden" role="status">
      {spoken}
    </p>
  );
}

/**
 * Stays at the newest message while one is there, and where one is while reading above: also when
 * earlier messages appear over it. What I say myself I want to see.
 */
function useStickToEnd(rows: readonly Row[]) {
  const list = useRef<HTMLDivElement>(null);
  const virtual = useRef<VirtualizerHandle>(null);
  const [isAtEnd, setAtEnd] = useState(true);
  /** The last one that was there when the end was left. */
  const [seen, setSeen] = useState<string>();
  const before = useRef({ first: '', last: '', count: 0 });
  const first = rows[0]?.key ?? '';
  const last = rows.at(-1);
  const lastKey = last?.key ?? '';
  const { first: oldFirst, last: oldLast } = before.current;
  const isPrepend = first !== oldFirst && lastKey === oldLast && rows.length > before.current.count;
  const hasSpoken =
    last?.kind === 'message' && last.message.delivery === 'sending' && lastKey !== oldLast;

  useLayoutEffect(() => {
    before.current = { first, last: lastKey, count: rows.length };
    // The row above the first is number 0, so the last has the number of rows.
    if (isAtEnd || hasSpoken) virtual.current?.scrollToIndex(rows.length, { align: 'end' });
    // The virtualizer has just moved down by what came above, and would take the place it was at
    // before for the present one if rows were measured before the browser tells it of the move.
    else if (isPrepend) queueMicrotask(() => list.current?.dispatchEvent(new Event('scroll')));
  }, [rows, first, lastKey, isAtEnd, hasSpoken, isPrepend]);

  useEffect(() => {
    const element = list.current;
    if (!element || !isAtEnd) return;
    // A banner or an on-screen keyboard takes from the height, and rows grow.
    const observer = new ResizeObserver(() => {
      element.scrollTop = element.scrollHeight;
    });
    observer.observe(element);
    return () => observer.disconnect();
  }, [isAtEnd]);

  return {
    list,
    virtual,
    isAtEnd,
    isPrepend,
    missed: isAtEnd ? 0 : messagesAfter(rows, seen),
    onScroll: () => {
      const element = list.current;
      if (!element) return;
      const isThere = isNearEnd(element);
      if (isThere === isAtEnd) return;
      setAtEnd(isThere);
      setSeen(lastKey);
    },
    // By the virtualizer's own means: what it has under way, to a message that just came, would take
    // the browser's way to the beginning back.
    onKeyDown: (event: KeyboardEvent) => {
      const isPlain = !(event.altKey || event.ctrlKey || event.metaKey || event.shiftKey);
      if (event.target !== event.currentTarget || !isPlain || rows.length === 0) return;
      if (event.key !== 'Home' && event.key !== 'End') return;
      event.preventDefault();
      const isEnd = event.key === 'End';
      setAtEnd(isEnd);
      setSeen(lastKey);
      const index = isEnd ? rows.length : 0;
      virtual.current?.scrollToIndex(index, { align: isEnd ? 'end' : 'start' });
    },
    toRow: (row: number) => {
      setAtEnd(false);
      setSeen(lastKey);
      virtual.current?.scrollToIndex(row + 1, { align: 'start' });
      // What is near to the end is at the end.
      requestAnimationFrame(() => setAtEnd(isNearEnd(list.current)));
    },
    toEnd: () => {
      setAtEnd(true);
      virtual.current?.scrollToIndex(rows.length, { align: 'end' });
      list.current?.focus({ preventScroll: true });
    },
  };
}

function isNearEnd(element: HTMLElement | null): boolean {
  if (!element) return true;
  return element.scrollHeight - element.scrollTop - element.clientHeight < END_PX;
}

function messagesAfter(rows: readonly Row[], key: string | undefined): number {
  let count = 0;
  for (let at = rows.length - 1; at >= 0 && rows[at]?.key !== key; at--) {
    if (rows[at]?.kind === 'message') count++;
  }
  return count;
}
