import { Client } from '@clarion/client';
import { describe, expect, test } from 'vitest';
import { ChatRoom } from '../src/features/chat/chat-room.ts';

interface Envelope {
  type: string;
  payload: Record<string, unknown>;
  metadata: { room?: string; id?: number; key?: string };
}

/** A chat room on a real client, with this test as the server. */
function setUp() {
  const received: Envelope[] = [];
  let say = (_text: string) => {};
  const client = new Client('ws://test', {
    transport: (_url, _protocols, events) => {
      queueMicrotask(() => events.onOpen());
      say = (text) => events.onMessage(text);
      return { send: (text) => received.push(JSON.parse(text)), close() {} };
    },
  });
  const server = {
    received,
    send: (type: string, payload: unknown, metadata: object = {}) =>
      say(JSON.stringify({ type, payload, metadata })),
    take: (type: string) => {
      const index = received.findIndex((envelope) => envelope.type === type);
      if (index < 0) throw new Error(`no ${type} in ${JSON.stringify(received)}`);
      return received.splice(index, 1)[0] as Envelope;
    },
  };
  const chatRoom = new ChatRoom({
    client,
    name: 'general',
    author: () => 'Me',
    isMine: (id) => id === 'me',
    schedule: (run) => run(),
  });
  return { client, server, chatRoom };
}

async function joined(reply: object = { epoch: 'e', offset: 100, from: 101 }) {
  const world = setUp();
  world.client.connect();
  await settled();
  world.server.send('$welcome', { client: 'me', user: 'u', resumed: false });
  world.server.send('$joined', reply, { room: 'general' });
  await settled();
  return world;
}

const settled = () => new Promise((resolve) => setTimeout(resolve));

function chatMessage(offset: number, client = 'other', rest: object = {}) {
  const metadata = { room: 'general', epoch: 'e', offset, time: '', from: { client }, ...rest };
  return ['chat_message', { user: 'Ada', message: `text ${offset}` }, metadata] as const;
}

const texts = ({ timeline }: ChatRoom) =>
  timeline.get().items.map((item) => ('message' in item ? item.message.text : item.notice.kind));

describe('joining', () => {
  test('asks_for_the_last_messages_and_the_members_and_says_my_name', async () => {
    const { server, client } = await joined();
    const hello = server.take('$hello');
    expect(hello.payload.rooms).toEqual({ general: { last: 50, members: true } });
    expect(server.take('$state').payload).toEqual({ name: 'Me' });
    client.close();
  });

  test('room_without_log_is_joined_without_history', async () => {
    const { server, client, chatRoom } = setUp();
    client.connect();
    await settled();
    server.send('$welcome', { client: 'me', user: 'u', resumed: false });
    const error = { code: 404, name: 'no_history', message: '', temporary: false };
    server.send('$error', error, { room: 'general' });
    await settled();
    const join = server.take('$join');
    expect(join.payload).toEqual({ members: true });
    server.send('$reply', {}, { id: join.metadata.id });
    chatRoom.send('hello');
    await settled();
    expect(server.take('chat_message').metadata).not.toHaveProperty('key');
    client.close();
  });
});

describe('unread', () => {
  test('counts_messages_of_others_while_nobody_looks', async () => {
    const { server, client, chatRoom } = await joined();
    server.send(...chatMessage(101));
    server.send(...chatMessage(102, 'me'));
    expect(chatRoom.unread.get()).toBe(1);
    chatRoom.watch(true);
    expect(chatRoom.unread.get()).toBe(0);
    server.send(...chatMessage(103));
    expect(chatRoom.unread.get()).toBe(0);
    client.close();
  });
});

describe('sending', () => {
  test('failed_message_is_sent_again_with_the_same_key', async () => {
    const { server, client, chatRoom } = await joined();
    chatRoom.send('hello');
    await settled();
    const first = server.take('chat_message');
    expect(first.payload).toMatchObject({ user: 'Me', message: 'hello' });
    const error = { code: 503, name: 'unavailable', message: '', temporary: true };
    server.send('$error', error, { id: first.metadata.id });
    await settled();
    const [message] = chatRoom.timeline.get().outgoing;
    expect(message).toMatchObject({ delivery: 'failed', error: { name: 'unavailable' } });
    if (message) chatRoom.retry(message);
    await settled();
    expect(server.take('chat_message').metadata.key).toBe(first.metadata.key);
    client.close();
  });
});

describe('history', () => {
  test('earlier_messages_are_loaded_from_below_the_oldest', async () => {
    const { server, client, chatRoom } = await joined({ epoch: 'e', offset: 100, from: 100 });
    server.send(...chatMessage(100));
    chatRoom.loadEarlier();
    chatRoom.loadEarlier();
    const history = server.take('$history');
    expect(history.payload).toEqual({ before: { epoch: 'e', offset: 100 }, limit: 50 });
    const [type, payload, metadata] = chatMessage(99);
    const publications = [{ type, payload, metadata }];
    const page = { epoch: 'e', offset: 100, first: 99, publications, more: false };
    server.send('$reply', page, { id: history.metadata.id });
    await settled();
    expect(texts(chatRoom)).toEqual(['text 99', 'text 100']);
    expect(chatRoom.timeline.get().earlier).toBe('none');
    expect(server.received.filter(({ type: sent }) => sent === '$history')).toEqual([]);
    client.close();
  });

  test.each([
    ['epoch_changed', 409, 'none'],
    ['unavailable', 503, 'failed'],
  ])('after_%s_there_is_%s_%s', async (name, code, earlier) => {
    const { server, client, chatRoom } = await joined({ epoch: 'e', offset: 100, from: 100 });
    server.send(...chatMessage(100));
    chatRoom.loadEarlier();
    const { metadata } = server.take('$history');
    server.send('$error', { code, name, message: '', temporary: false }, { id: metadata.id });
    await settled();
    expect(chatRoom.timeline.get().earlier).toBe(earlier);
    client.close();
  });
});

test('gap_and_recovery_are_said_where_they_happened', async () => {
  const { server, client, chatRoom } = await joined();
  server.send(...chatMessage(101));
  server.send(
    '$gap',
    { reason: 'trimmed', epoch: 'e', offset: 110, from: 102, to: 110 },
    { room: 'general' },
  );
  server.send(...chatMessage(111));
  expect(texts(chatRoom)).toEqual(['text 101', 'gap', 'text 111']);
  const [, notice] = chatRoom.timeline.get().items;
  expect(notice).toMatchObject({ notice: { count: 9 } });
  client.close();
});
