import { Client } from '@clarion/client';
import { afterEach, expect, test } from 'vitest';
import { DirectMessages } from '../src/features/chat/direct.ts';
import { setUnread, unread } from '../src/features/chat/unread.ts';

interface Envelope {
  type: string;
  payload: Record<string, unknown>;
  metadata: { room?: string; id?: number; key?: string };
}

afterEach(() => {
  for (const key of Object.keys(unread.get())) setUnread(key, 0);
});

const settled = () => new Promise((resolve) => setTimeout(resolve));

/** Direct messages of `guest:me` on a real client, with this test as the server. */
async function setUp() {
  const received: Envelope[] = [];
  let say = (_text: string) => {};
  const client = new Client('ws://test', {
    transport: (_url, _protocols, events) => {
      queueMicrotask(() => events.onOpen());
      say = (text) => events.onMessage(text);
      return { send: (text) => received.push(JSON.parse(text)), close() {} };
    },
  });
  const direct = new DirectMessages(client, () => 'Me');
  const send = (type: string, payload: unknown, metadata: object = {}) =>
    say(JSON.stringify({ type, payload, metadata }));
  const welcome = (user: string) => {
    send('$welcome', { client: user.slice(6), user, resumed: false });
    send('$joined', {}, { room: `$user/${user}` });
  };
  client.connect();
  await settled();
  welcome('guest:me');
  const hear = (user: string, message: string, name = user, room = '$user/guest:me') =>
    send('chat_message', { user: name, message }, { room, time: '', from: { client: 'x', user } });
  const texts = (user: string) =>
    direct.threads
      .get()
      .get(user)
      ?.entries.map((entry) =>
        entry.kind === 'message'
          ? `${(entry.publication.payload as { message: string }).message} ${entry.delivery}`
          : entry.kind,
      );
  const take = (type: string) => {
    const index = received.findIndex((envelope) => envelope.type === type);
    if (index < 0) throw new Error(`no ${type} in ${JSON.stringify(received)}`);
    return received.splice(index, 1)[0] as Envelope;
  };
  return { client, direct, send, hear, texts, take };
}

test('messages_are_sorted_by_who_wrote_them_and_counted_until_seen', async () => {
  const { direct, hear, texts } = await setUp();
  hear('guest:ada', 'one', 'Ada');
  hear('guest:ben', 'two', 'Ben');
  hear('guest:ada', 'three', 'Ada L.');
  expect(texts('guest:ada')).toEqual(['one sent', 'three sent']);
  expect(direct.threads.get().get('guest:ada')?.name).toBe('Ada L.');
  expect(unread.get()).toEqual({ '$user/guest:ada': 2, '$user/guest:ben': 1 });
  direct.watch('guest:ada');
  hear('guest:ada', 'four', 'Ada');
  expect(unread.get()).toEqual({ '$user/guest:ben': 1 });
  direct.close('guest:ben');
  expect(unread.get()).toEqual({});
  expect(texts('guest:ben')).toBeUndefined();
});

test('own_message_is_kept_here_and_settled_by_the_server', async () => {
  const { direct, send, take, texts } = await setUp();
  direct.send('guest:ada', 'hi');
  expect(texts('guest:ada')).toEqual(['hi sending']);
  const sent = take('chat_message');
  expect(sent.metadata.room).toBe('$user/guest:ada');
  expect(sent.payload).toMatchObject({ user: 'Me', message: 'hi' });
  send('$reply', { time: '' }, { id: sent.metadata.id });
  await settled();
  expect(texts('guest:ada')).toEqual(['hi sent']);
});

test('server_that_forbids_it_is_no_secret_until_it_does_not', async () => {
  const { direct, send, take, texts } = await setUp();
  const thread = () => direct.threads.get().get('guest:ada');
  direct.send('guest:ada', 'hi');
  const error = { code: 403, name: 'forbidden', message: '', temporary: false };
  send('$error', error, { id: take('chat_message').metadata.id });
  await settled();
  expect(texts('guest:ada')).toEqual(['hi failed']);
  expect(thread()?.isForbidden).toBe(true);
  direct.retry('guest:ada', thread()?.entries[0]?.id ?? '');
  expect(texts('guest:ada')).toEqual(['hi sending']);
  send('$reply', { time: '' }, { id: take('chat_message').metadata.id });
  await settled();
  expect(texts('guest:ada')).toEqual(['hi sent']);
  expect(thread()?.isForbidden).toBe(false);
});

test('answer_that_comes_after_the_conversation_was_closed_does_not_open_it', async () => {
  const { direct, send, take, texts } = await setUp();
  direct.send('guest:ada', 'hi');
  direct.close('guest:ada');
  send('$reply', { time: '' }, { id: take('chat_message').metadata.id });
  await settled();
  expect(texts('guest:ada')).toBeUndefined();
});

test('what_is_no_message_or_from_nobody_is_left_alone', async () => {
  const { direct, send } = await setUp();
  const metadata = { room: '$user/guest:me', time: '', from: { client: 'x', user: 'guest:ada' } };
  send('chat_message', { user: 'Ada' }, metadata);
  send('bell', { message: 'x' }, metadata);
  send('chat_message', { message: 'x' }, { ...metadata, from: {} });
  expect(direct.threads.get().size).toBe(0);
});

test('loss_is_told_in_every_conversation', async () => {
  const { hear, send, texts } = await setUp();
  hear('guest:ada', 'one');
  hear('guest:ben', 'two');
  send('$gap', { reason: 'slow' }, { room: '$user/guest:me' });
  expect(texts('guest:ada')).toEqual(['one sent', 'gap']);
  expect(texts('guest:ben')).toEqual(['two sent', 'gap']);
});
