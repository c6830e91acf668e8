import type { Message } from './message.ts';
import type { Item, Notice } from './timeline.ts';

/** What the list shows from top to bottom. */
export type Row =
  | { kind: 'day'; key: string; time: number }
  | { kind: 'notice'; key: string; notice: Notice }
  | { kind: 'message'; key: string; message: Message; isFirst: boolean };

/** Messages of one author within this are one group under one name. */
const GROUP_MS = 5 * 60_000;

/** Puts separators between days and finds where an author begins to speak. */
export function toRows(items: readonly Item[], outgoing: readonly Message[]): Row[] {
  const rows: Row[] = [];
  let day = '';
  let last: Message | undefined;
  const add = (message: Message) => {
    const date = new Date(message.time).toDateString();
    if (date !== day) {
      day = date;
      last = undefined;
      rows.push({ kind: 'day', key: `day-${message.id}`, time: message.time });
    }
    const goesOn =
      last?.sender === message.sender &&
      last.author === message.author &&
      message.time - last.time < GROUP_MS;
    rows.push({ kind: 'message', key: message.id, message, isFirst: !goesOn });
    last = message;
  };
  for (const item of items) {
    if ('message' in item) {
      add(item.message);
    } else {
      last = undefined;
      rows.push({ kind: 'notice', key: item.notice.id, notice: item.notice });
    }
  }
  for (const message of outgoing) add(message);
  return rows;
}
