import { expect, test } from 'vitest';
import { toRows } from '../src/features/chat/groups.ts';
import type { Message } from '../src/features/chat/message.ts';

const noon = new Date(2026, 0, 10, 12).getTime();
const MINUTE = 60_000;

function message(id: string, sender: string, time: number): Message {
  return { id, author: sender, sender, text: id, time, mine: false, delivery: 'sent' };
}

const shape = (messages: Message[]) =>
  toRows(
    messages.map((each) => ({ message: each })),
    [],
  ).map((row) =>
    row.kind === 'message' ? `${row.isFirst ? '+' : '-'}${row.message.id}` : row.kind,
  );

test('days_are_separated', () => {
  const day = 24 * 60 * MINUTE;
  expect(shape([message('1', 'a', noon), message('2', 'a', noon + day)])).toEqual([
    'day',
    '+1',
    'day',
    '+2',
  ]);
});

test('one_author_within_five_minutes_is_one_group', () => {
  const messages = [
    message('1', 'a', noon),
    message('2', 'a', noon + MINUTE),
    message('3', 'b', noon + 2 * MINUTE),
    message('4', 'a', noon + 3 * MINUTE),
    message('5', 'a', noon + 9 * MINUTE),
  ];
  expect(shape(messages)).toEqual(['day', '+1', '-2', '+3', '+4', '+5']);
});

test('same_name_of_another_session_is_another_author', () => {
  const other = { ...message('2', 'b', noon), author: 'a' };
  expect(shape([message('1', 'a', noon), other])).toEqual(['day', '+1', '+2']);
});

test('notice_ends_a_group', () => {
  const notice = { id: 'n', kind: 'gap', time: noon } as const;
  const rows = toRows(
    [{ message: message('1', 'a', noon) }, { notice }, { message: message('2', 'a', noon) }],
    [message('3', 'a', noon)],
  );
  expect(rows.map((row) => (row.kind === 'message' ? row.isFirst : row.kind))).toEqual([
    'day',
    true,
    'notice',
    true,
    false,
  ]);
});
