import { Client } from '@clarion/client';
import { afterEach, describe, expect, test } from 'vitest';
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

/** Direct messages on a real client, with this test as the server. */
async function setUp(me = 'guest:me', joined: object = {}) {
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
    send('$welcome', { client: user.replace('guest:', ''), user, resumed: false });
    send('$joined', joined, { room: `$user/${user}` });
  };
  client.connect();
  await settled();
  welcome(me);
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
  return { client, direct, received, send, hear, texts, take };
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

describe('in a room that is kept', () => {
  const INBOX = '$user/ada';
  const settle = async () => {
    for (let n = 0; n < 5; n++) await settled();
  };

  /** Ada has acknowledged 2, and 3 and 4 wait. */
  async function kept() {
    const world = await setUp('ada', { epoch: 'e', offset: 4, from: 3, recovered: true });
    const message = (user: string, offset: number) => ({
      type: 'chat_message',
      payload: { user: user.toUpperCase(), message: `m${offset}` },
      metadata: { room: INBOX, epoch: 'e', offset, time: '', from: { client: user, user } },
    });
    const deliver = (user: string, offset: number) => {
      const { type, payload, metadata } = message(user, offset);
      world.send(type, payload, metadata);
    };
    deliver('ben', 3);
    deliver('cara', 4);
    await settle();
    return { ...world, message, deliver };
  }

  test('what_was_seen_is_acknowledged_and_what_was_not_is_not', async () => {
    const { direct, received, take, send, deliver } = await kept();
    const acks = () => received.filter(({ type }) => type === '$ack');
    expect(unread.get()).toEqual({ '$user/ben': 1, '$user/cara': 1 });
    direct.watch('cara');
    await settle();
    // An acknowledgement of 4 would say that 3 was seen.
    expect(acks()).toEqual([]);
    deliver('cara', 5);
    direct.watch('ben');
    await settle();
    const ack = take('$ack');
    expect(ack).toMatchObject({ payload: { offset: 3 }, metadata: { room: INBOX } });
    send('$reply', {}, { id: ack.metadata.id });
    await settle();
    expect(take('$ack').payload).toMatchObject({ offset: 5 });
    expect(unread.get()).toEqual({});
  });

  test('all_can_be_seen_at_once', async () => {
    const { direct, send, take } = await kept();
    direct.seeAll();
    await settle();
    const ack = take('$ack');
    send('$reply', {}, { id: ack.metadata.id });
    await settle();
    expect(take('$ack').payload).toMatchObject({ offset: 4 });
    expect(unread.get()).toEqual({});
  });

  test('what_was_seen_before_is_read_from_the_log_and_is_not_unread', async () => {
    const { direct, message, send, take, texts } = await kept();
    expect(direct.inbox.get()).toMatchObject({
      isKept: true,
      earlier: 'loading',
      isTrimmed: false,
    });
    const asked = take('$history');
    expect(asked.payload).toMatchObject({ before: { epoch: 'e', offset: 3 } });
    const publications = [message('ben', 1), message('dora', 2)];
    const page = { epoch: 'e', offset: 4, first: 1, publications, more: false };
    send('$reply', page, { id: asked.metadata.id });
    await settle();
    expect(direct.inbox.get().earlier).toBe('none');
    expect(texts('ben')).toEqual(['m1 sent', 'm3 sent']);
    expect(texts('dora')).toEqual(['m2 sent']);
    expect(unread.get()).toEqual({ '$user/ben': 1, '$user/cara': 1 });
  });

  test('history_that_cannot_be_read_can_be_asked_for_again', async () => {
    const { direct, send, take } = await kept();
    const error = { code: 503, name: 'unavailable', message: '', temporary: true };
    send('$error', error, { id: take('$history').metadata.id });
    await settle();
    expect(direct.inbox.get().earlier).toBe('failed');
    direct.loadEarlier();
    expect(direct.inbox.get().earlier).toBe('loading');
    const page = { epoch: 'e', offset: 4, first: 3, publications: [], more: false };
    send('$reply', page, { id: take('$history').metadata.id });
    await settle();
    expect(direct.inbox.get().earlier).toBe('none');
  });

  test('what_i_write_is_kept_for_my_other_devices_and_for_later', async () => {
    const { direct, send, take, texts } = await kept();
    take('$history');
    direct.send('ben', 'hi');
    const sent = take('chat_message');
    expect(sent.metadata.room).toBe('$user/ben');
    send('$reply', { time: '', epoch: 'f', offset: 1 }, { id: sent.metadata.id });
    await settle();
    const copy = take('chat_sent');
    expect(copy.payload).toMatchObject({ user: 'Me', message: 'hi', to: 'ben' });
    expect(copy.metadata.room).toBe(INBOX);
    send('$reply', { time: '', epoch: 'e', offset: 5 }, { id: copy.metadata.id });
    const place = { room: INBOX, epoch: 'e', time: '' };
    const mine = { client: 'ada', user: 'ada' };
    send('chat_sent', copy.payload, { ...place, offset: 5, key: copy.metadata.key, from: mine });
    await settle();
    // It is here already.
    expect(texts('ben')).toEqual(['m3 sent', 'hi sent']);
    // Another device of mine, and somebody who would like to be me.
    const other = { client: 'phone', user: 'ada' };
    send('chat_sent', { message: 'on my way', to: 'eve' }, { ...place, offset: 6, from: other });
    const forger = { client: 'x', user: 'mallory' };
    send('chat_sent', { message: 'no', to: 'eve' }, { ...place, offset: 7, from: forger });
    await settle();
    expect(texts('eve')).toEqual(['on my way sent']);
    expect(direct.threads.get().get('eve')?.entries[0]).toMatchObject({
      publication: { from: { client: 'ada' }, room: '$user/eve' },
    });
    expect(unread.get()).toEqual({ '$user/ben': 1, '$user/cara': 1 });
  });

  test('copy_that_the_server_does_not_take_is_said', async () => {
    const { direct, send, take } = await kept();
    take('$history');
    direct.send('ben', 'hi');
    send('$reply', { time: '' }, { id: take('chat_message').metadata.id });
    await settle();
    const error = { code: 403, name: 'forbidden', message: '', temporary: false };
    send('$error', error, { id: take('chat_sent').metadata.id });
    await settle();
    expect(direct.inbox.get().keepsMine).toBe(false);
  });

  test('what_is_gone_before_it_was_seen_is_said', async () => {
    const { direct } = await setUp('ada', { epoch: 'e', offset: 4, from: 3, recovered: false });
    expect(direct.inbox.get().isTrimmed).toBe(true);
  });
});
