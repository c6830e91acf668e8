import type { Entry, Gap } from '@clarion/client/react';
import { expect, test } from 'vitest';
import { toRows } from '../src/features/chat/rows.ts';

const noon = new Date(2026, 0, 10, 12).getTime();
const MINUTE = 60_000;

function say(id: string, client: string, time: number, user = client): Entry {
  const publication = {
    type: 'chat_message',
    payload: { user, message: id },
    room: 'a',
    time: new Date(time).toISOString(),
    from: { client },
  };
  return { kind: 'message', id, publication, delivery: 'sent' };
}

const shape = (entries: Entry[]) =>
  toRows(entries, () => false).map((row) => {
    if (row.kind === 'notice') return 'notice';
    return `${row.isNewDay ? 'day ' : ''}${row.isFirst ? '+' : '-'}${row.message.id}`;
  });

test('days_are_separated', () => {
  const day = 24 * 60 * MINUTE;
  const late = new Date(2026, 0, 10, 23, 59).getTime();
  expect(shape([say('1', 'a', noon), say('2', 'a', noon + day)])).toEqual(['day +1', 'day +2']);
  expect(shape([say('1', 'a', late), say('2', 'a', late + 2 * MINUTE)])).toEqual([
    'day +1',
    'day +2',
  ]);
  expect(shape([say('1', 'a', noon), say('2', 'b', late)])).toEqual(['day +1', '+2']);
});

test('one_author_within_five_minutes_is_one_group', () => {
  const entries = [
    say('1', 'a', noon),
    say('2', 'a', noon + MINUTE),
    say('3', 'b', noon + 2 * MINUTE),
    say('4', 'a', noon + 3 * MINUTE),
    say('5', 'a', noon + 9 * MINUTE),
  ];
  expect(shape(entries)).toEqual(['day +1', '-2', '+3', '+4', '+5']);
});

test('same_name_of_another_session_is_another_author', () => {
  expect(shape([say('1', 'a', noon), say('2', 'b', noon, 'a')])).toEqual(['day +1', '+2']);
});

test('notice_ends_a_group_and_what_is_no_message_does_not', () => {
  const gap: Gap = { kind: 'gap', id: 'n', gap: { reason: 'slow' } };
  const other = say('x', 'a', noon);
  if (other.kind === 'message') other.publication.type = 'bell';
  expect(
    shape([say('1', 'a', noon), gap, say('2', 'a', noon), other, say('3', 'a', noon)]),
  ).toEqual(['day +1', 'notice', '+2', '-3']);
});

test('row_of_an_entry_has_the_same_message_each_time', () => {
  const entries = [say('1', 'a', noon)];
  const [first] = toRows(entries, () => false);
  const [again] = toRows([...entries, say('2', 'a', noon)], () => false);
  expect(first?.kind === 'message' && again?.kind === 'message' && first.message).toBe(
    again?.kind === 'message' && again.message,
  );
});

test('what_came_by_recovery_is_told_from_what_came_after_it', () => {
  const at = (offset: number): Entry => {
    const entry = say(`${offset}`, 'a', noon);
    if (entry.kind !== 'message') throw new Error('not a message');
    return { ...entry, publication: { ...entry.publication, position: { epoch: 'e', offset } } };
  };
  const recovered: Entry = { kind: 'recovered', id: 'n', from: 2, to: 3 };
  const gap: Entry = { kind: 'gap', id: 'g', gap: { reason: 'slow' } };
  const rows = toRows([at(1), recovered, at(2), at(3), at(4), gap, at(3)], () => false);
  const missed = rows.flatMap((row) => (row.kind === 'message' ? row.wasMissed : []));
  expect(missed).toEqual([false, true, true, false, false]);
});
