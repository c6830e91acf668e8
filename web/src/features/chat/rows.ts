import type { Entry, Gap, Recovery } from '@clarion/client/react';
import { type IsMine, type Message, toMessage } from './message.ts';

/** What the list shows from top to bottom. */
export type Row =
  | { kind: 'notice'; key: string; notice: Gap | Recovery }
  | {
      kind: 'message';
      key: string;
      message: Message;
      /** The author begins to speak. */
      isFirst: boolean;
      /** A day begins. */
      isNewDay: boolean;
      /** It came by recovery, and the notice above has counted it. */
      wasMissed: boolean;
    };

/** Messages of one author within this are one group under one name. */
const GROUP_MS = 5 * 60_000;
const SHORT_DAY_MS = 23 * 60 * 60_000;

/** An entry is never altered, so what was read of it once is good as long as it is. */
const read = new WeakMap<Entry, Message | null>();

/** Finds where days begin and where an author does. */
export function toRows(entries: readonly Entry[], isMine: IsMine): Row[] {
  const rows: Row[] = [];
  let midnight = Number.NaN;
  let last: Message | undefined;
  let missedTo = 0;
  for (const entry of entries) {
    if (entry.kind !== 'message') {
      last = undefined;
      missedTo = entry.kind === 'recovered' ? entry.to : 0;
      rows.push({ kind: 'notice', key: entry.id, notice: entry });
      continue;
    }
    let message = read.get(entry);
    if (message === undefined) {
      message = toMessage(entry, isMine) ?? null;
      read.set(entry, message);
    }
    if (!message) continue;
    const { time } = message;
    // Mostly decided by a comparison: with 10,000 messages dates are what takes the time. A day of
    // 23 hours is the shortest there is.
    const isSameDay = time >= midnight && time < midnight + SHORT_DAY_MS;
    const day = isSameDay ? midnight : new Date(time).setHours(0, 0, 0, 0);
    const isNewDay = day !== midnight;
    midnight = day;
    const goesOn =
      !isNewDay &&
      last?.sender === message.sender &&
      last.author === message.author &&
      time - last.time < GROUP_MS;
    const { position } = entry.publication;
    const wasMissed = !!position && position.offset <= missedTo;
    rows.push({ kind: 'message', key: message.id, message, isFirst: !goesOn, isNewDay, wasMissed });
    last = message;
  }
  return rows;
}
