import { describe, expect, test } from 'vitest';
import { settled } from './support/clock.ts';
import { outcome, setUp } from './support/server.ts';

const KEY = expect.stringMatching(/^[0-9a-z]+-[0-9a-z]+$/);
const REPLY = { epoch: 'e', offset: 1, time: '2026-01-01T00:00:00.000Z' };

describe('publish', () => {
  test('carries_a_key_and_settles_by_the_reply', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').publish('note', { text: 'hi' }));
    const envelope = world.socket.next('note');
    expect(envelope).toMatchObject({ payload: { text: 'hi' }, metadata: { room: 'a', key: KEY } });
    world.socket.reply(envelope, REPLY);
    await settled();
    expect(result.value).toEqual({ ...REPLY, key: envelope.metadata.key });
  });

  // [3.reply.order] [3.own]
  test.each([true, false])('own_publication_before_the_reply_%s_is_the_same', async (before) => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const heard: unknown[] = [];
    room.on('publication', ({ key }) => heard.push(key));
    room.join();
    world.socket.reply(world.socket.next('$join'), { epoch: 'e', offset: 0, from: 1 });
    const result = outcome(room.publish('note', 1));
    const envelope = world.socket.next('note');
    const { key } = envelope.metadata;
    const metadata = { room: 'a', epoch: 'e', offset: 1, time: REPLY.time, from: {}, key };
    const steps = [
      () => world.socket.send('note', 1, metadata as never),
      () => world.socket.reply(envelope, REPLY),
    ];
    for (const step of before ? steps : steps.reverse()) step();
    await settled();
    expect(result.value).toMatchObject({ offset: 1, key });
    expect(heard).toEqual([key]);
  });

  // [4.error.message]
  test('error_of_the_server_is_typed', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').publish('x', 1, { key: 'mine' }));
    world.socket.fail(world.socket.next('x'), 413, 'too_large', { limit: 100, field: 'payload' });
    await settled();
    expect(result.error).toMatchObject({
      name: 'too_large',
      code: 413,
      limit: 100,
      field: 'payload',
      key: 'mine',
    });
  });

  test('silent_server_is_a_timeout_with_the_key_to_repeat_it', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').publish('x', 1));
    await world.clock.advance(5_000);
    expect(result.error).toMatchObject({ name: 'timeout', temporary: true, key: KEY });
  });

  test('abort_settles_at_once', async () => {
    const world = setUp();
    const abort = new AbortController();
    const result = outcome(world.client.room('a').publish('x', 1, { signal: abort.signal }));
    abort.abort();
    await settled();
    expect(result.error?.name).toBe('aborted');
    expect(world.client.queued).toBe(0);
    expect(world.clock.timers).toBe(0);
  });

  test.each(['', '$join', 'x'.repeat(65)])('type_%j_is_refused_here', async (type) => {
    const world = setUp();
    await world.connected();
    await expect(world.client.room('a').publish(type, 1)).rejects.toMatchObject({
      name: 'bad_request',
      field: 'type',
    });
    expect(world.socket.unread).toBe(0);
  });

  test('message_over_the_servers_limit_is_refused_here', async () => {
    // The server would close with 1009, and that stops the client for good.
    const world = setUp();
    await world.connected({ limits: { message_bytes: 500 } });
    await expect(world.client.room('a').publish('x', 'é'.repeat(250))).rejects.toMatchObject({
      name: 'too_large',
      code: 413,
      limit: 500,
    });
    expect(world.socket.unread).toBe(0);
  });

  test('message_over_a_limit_that_was_not_known_yet_is_refused_before_it_is_sent', async () => {
    const world = setUp();
    const room = world.client.room('a');
    const [large, small] = [
      outcome(room.publish('x', 'y'.repeat(500))),
      outcome(room.publish('x', 1)),
    ];
    const socket = await world.connected({ limits: { message_bytes: 400 } });
    expect(socket.next('x').payload).toBe(1);
    await settled();
    expect(large.error).toMatchObject({ name: 'too_large', limit: 400, key: KEY });
    expect(small.error).toBeUndefined();
    expect([world.client.state, world.client.queued]).toEqual(['connected', 0]);
  });

  test('message_over_the_limit_of_the_next_server_is_not_sent_there', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').publish('x', 'y'.repeat(500)));
    world.socket.next('x');
    await world.dropped(1006, { limits: { message_bytes: 400 } });
    await settled();
    expect(result.error).toMatchObject({ name: 'too_large', limit: 400, key: KEY });
    expect(world.socket.unread).toBe(0);
  });

  test('payload_is_taken_as_it_is_now', async () => {
    const world = setUp();
    const payload = { text: 'before' };
    world.client
      .room('a')
      .publish('x', payload)
      .catch(() => {});
    payload.text = 'after';
    await world.connected();
    expect(world.socket.next('x').payload).toEqual({ text: 'before' });
  });
});

describe('without a connection', () => {
  test('publications_wait_and_go_out_in_order', async () => {
    const world = setUp();
    const room = world.client.room('a');
    const results = [1, 2, 3].map((value) => outcome(room.publish('x', value)));
    expect(world.client.queued).toBe(3);
    await world.connected();
    for (const value of [1, 2, 3]) {
      const envelope = world.socket.next('x');
      expect(envelope.payload).toBe(value);
      world.socket.reply(envelope, REPLY);
    }
    await settled();
    for (const { value } of results) expect(value).toMatchObject(REPLY);
  });

  test('one_too_many_is_refused_and_the_others_stay', async () => {
    const world = setUp({ outbox: { messages: 2 } });
    const room = world.client.room('a');
    const results = [1, 2, 3].map((value) => outcome(room.publish('x', value)));
    await settled();
    expect(results[2]?.error).toMatchObject({ name: 'queue_full', temporary: true, key: KEY });
    expect(world.client.queued).toBe(2);
  });

  test('size_is_bounded_too', async () => {
    const world = setUp();
    const room = world.client.room('a');
    const results = [1, 2, 3].map(() => outcome(room.publish('x', 'y'.repeat(100_000))));
    await settled();
    expect(results.map(({ error }) => error?.name)).toEqual([undefined, undefined, 'queue_full']);
  });

  test('publication_that_waited_a_minute_fails', async () => {
    const world = setUp();
    const first = outcome(world.client.room('a').publish('x', 1));
    await world.clock.advance(30_000);
    const second = outcome(world.client.room('a').publish('x', 2));
    await world.clock.advance(30_000);
    expect(first.error).toMatchObject({ name: 'timeout', key: KEY });
    expect(second.error).toBeUndefined();
    await world.clock.advance(30_000);
    expect(second.error?.name).toBe('timeout');
    expect(world.clock.timers).toBe(0);
  });

  test('callers_timeout_counts_the_waiting', async () => {
    const world = setUp();
    const result = outcome(world.client.room('a').publish('x', 1, { timeout: 1_000 }));
    await world.clock.advance(600);
    await world.connected();
    world.socket.next('x');
    await world.clock.advance(399);
    expect(result.error).toBeUndefined();
    await world.clock.advance(1);
    expect(result.error?.name).toBe('timeout');
  });

  test('ephemeral_is_refused_and_not_queued', async () => {
    const world = setUp();
    const room = world.client.room('a');
    await expect(room.publish('x', 1, { ephemeral: true })).rejects.toMatchObject({
      name: 'not_connected',
      temporary: true,
    });
    expect(world.client.queued).toBe(0);
  });
});

test('who_hears_of_the_connection_can_use_it_at_once', async () => {
  const world = setUp();
  const room = world.client.room('a');
  world.client.on('state', ({ state }) => {
    if (state === 'connected') room.publish('x', 1, { ephemeral: true }).catch(() => {});
  });
  await world.connected();
  world.socket.next('x');
});

describe('broken connection', () => {
  test('unanswered_publication_is_repeated_with_the_same_key_before_newer_ones', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const first = outcome(room.publish('x', 1));
    const { key } = world.socket.next('x').metadata;
    const second = outcome(room.publish('x', 2));
    world.socket.close(1006);
    const third = outcome(room.publish('x', 3));
    await world.clock.advance(1_000);
    world.socket.welcome({ resumed: true });
    const repeated = world.socket.next('x');
    expect(repeated).toMatchObject({ payload: 1, metadata: { key } });
    world.socket.reply(repeated, { ...REPLY, duplicate: true });
    for (const value of [2, 3]) {
      const envelope = world.socket.next('x');
      expect(envelope.payload).toBe(value);
      world.socket.reply(envelope, REPLY);
    }
    await settled();
    expect(first.value).toMatchObject({ duplicate: true });
    expect(second.value).toMatchObject(REPLY);
    expect(third.value).toMatchObject(REPLY);
  });

  test('publication_without_key_has_an_unknown_outcome', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const ephemeral = outcome(room.publish('x', 1, { ephemeral: true, echo: false }));
    expect(world.socket.next('x').metadata).toEqual({
      room: 'a',
      ephemeral: true,
      echo: false,
      id: expect.any(Number),
    });
    world.socket.close(1006);
    await settled();
    expect(ephemeral.error).toMatchObject({ name: 'connection_lost', temporary: true });
  });

  test('what_does_not_fit_into_the_queue_any_more_fails_with_its_key', async () => {
    const world = setUp({ outbox: { messages: 2 } });
    await world.connected();
    const room = world.client.room('a');
    const results = [1, 2, 3].map((value) => outcome(room.publish('x', value)));
    world.socket.close(1006);
    await settled();
    expect(results.map(({ error }) => error?.name)).toEqual([undefined, undefined, 'queue_full']);
  });
});

describe('rooms without log', () => {
  test('refused_key_is_left_out_once_and_for_all', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const result = outcome(room.publish('x', 1));
    world.socket.fail(world.socket.next('x'), 400, 'key_needs_log');
    const again = world.socket.next('x');
    expect(again.metadata).not.toHaveProperty('key');
    world.socket.reply(again, { time: 't' });
    await settled();
    expect(result.value).toEqual({ time: 't' });
    room.publish('x', 2).catch(() => {});
    expect(world.socket.next('x').metadata).not.toHaveProperty('key');
  });

  test('refused_key_of_the_application_is_its_error', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').publish('x', 1, { key: 'mine' }));
    world.socket.fail(world.socket.next('x'), 400, 'key_needs_log');
    await settled();
    expect(result.error).toMatchObject({ name: 'key_needs_log', key: 'mine' });
    expect(world.socket.unread).toBe(0);
  });

  test('join_tells_beforehand', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    room.join();
    world.socket.reply(world.socket.next('$join'), {});
    room.publish('x', 1).catch(() => {});
    expect(world.socket.next('x').metadata).not.toHaveProperty('key');
  });
});

describe('rate limit of the server', () => {
  const limits = { publish_per_s: 10 };

  test('queue_is_let_out_no_faster', async () => {
    const world = setUp();
    const room = world.client.room('a');
    for (let value = 0; value < 30; value++) room.publish('x', value).catch(() => {});
    await world.connected({ limits });
    expect(world.socket.unread).toBe(9);
    await world.clock.advance(1_000);
    expect(world.socket.unread).toBe(9 + 9);
    await world.clock.advance(2_000);
    expect(world.socket.unread).toBe(30);
    const values = Array.from({ length: 30 }, () => world.socket.next('x').payload);
    expect(values).toEqual([...values].sort((a, b) => Number(a) - Number(b)));
  });

  test('ephemeral_over_the_limit_is_refused_here', async () => {
    const world = setUp();
    await world.connected({ limits });
    const room = world.client.room('a');
    const results = Array.from({ length: 12 }, () =>
      outcome(room.publish('x', 1, { ephemeral: true })),
    );
    await settled();
    expect(world.socket.unread).toBe(9);
    expect(results.at(-1)?.error).toMatchObject({ name: 'rate_limited', temporary: true });
  });
});
