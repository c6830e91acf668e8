import type { Publication } from '@clarion/client';
import { expect, test } from 'vitest';
import { toMessage } from '../src/features/chat/message.ts';

const base = {
  type: 'chat_message',
  room: 'general',
  time: '2026-01-01T12:00:00.000Z',
  from: { client: 'c1', user: 'guest:1' },
  position: { epoch: 'e', offset: 3 },
};

function read(publication: Partial<Publication>, mine = 'me') {
  const whole = { ...base, payload: null, ...publication };
  const entry = { kind: 'message', id: 'e/3', publication: whole, delivery: 'sent' } as const;
  return toMessage(entry, (client) => client === mine);
}

test('chat_message_is_read', () => {
  const payload = { user: ' Ada ', message: 'Hello', timestamp: '' };
  expect(read({ payload })).toMatchObject({
    id: 'e/3',
    author: 'Ada',
    sender: 'c1',
    text: 'Hello',
    time: Date.UTC(2026, 0, 1, 12),
    delivery: 'sent',
    mine: false,
  });
  expect(read({ payload }, 'c1')?.mine).toBe(true);
});

test.each([null, 1, 'text', [], {}, { message: 1 }, { message: null }])(
  'payload_%j_is_no_message',
  (payload) => {
    expect(read({ payload })).toBeUndefined();
  },
);

test('other_types_are_no_messages', () => {
  expect(read({ type: 'x', payload: { message: 'Hello' } })).toBeUndefined();
});

test('author_without_a_usable_name_is_called_by_the_user', () => {
  for (const user of [undefined, '', '  ', 7, {}]) {
    expect(read({ payload: { user, message: 'x' } })?.author).toBe('Guest');
  }
  const payload = { user: 'x'.repeat(1_000), message: '' };
  expect(read({ payload })?.author.length).toBe(64);
});

test('authors_of_the_api_are_told_apart_by_name', () => {
  const from = {};
  expect(read({ payload: { user: 'Ada', message: 'x' }, from })?.sender).toBe('api/Ada');
});
