import { expect, test } from 'vitest';
import { toMessage } from '../src/features/chat/message.ts';

const base = {
  type: 'chat_message',
  room: 'general',
  time: '2026-01-01T12:00:00.000Z',
  from: { client: 'c1', user: 'guest:1' },
  position: { epoch: 'e', offset: 3 },
};

test('chat_message_is_read', () => {
  const payload = { user: ' Ada ', message: 'Hello', timestamp: '' };
  expect(toMessage({ ...base, payload }, false)).toMatchObject({
    id: 'e/3',
    author: 'Ada',
    sender: 'c1',
    text: 'Hello',
    time: Date.UTC(2026, 0, 1, 12),
    delivery: 'sent',
  });
});

test.each([null, 1, 'text', [], {}, { message: 1 }, { message: null }])(
  'payload_%j_is_no_message',
  (payload) => {
    expect(toMessage({ ...base, payload }, false)).toBeUndefined();
  },
);

test('other_types_are_no_messages', () => {
  expect(toMessage({ ...base, type: 'x', payload: { message: 'Hello' } }, false)).toBeUndefined();
});

test('author_without_a_usable_name_is_called_by_the_user', () => {
  for (const user of [undefined, '', '  ', 7, {}]) {
    const message = toMessage({ ...base, payload: { user, message: 'x' } }, false);
    expect(message?.author).toBe('Guest');
  }
  const payload = { user: 'x'.repeat(1_000), message: '' };
  expect(toMessage({ ...base, payload }, false)?.author.length).toBe(64);
});

test('own_message_is_known_by_its_key', () => {
  const payload = { user: 'Me', message: 'x' };
  expect(toMessage({ ...base, payload, key: 'k' }, true)?.id).toBe('k');
  // The key of somebody else could be anything, also one of mine.
  expect(toMessage({ ...base, payload, key: 'k' }, false)?.id).toBe('e/3');
});
