import { describe, expect, test } from 'vitest';
import type { ClientState } from '../src/client.ts';
import type { StateEvent } from '../src/status.ts';
import { settled } from './support/clock.ts';
import { outcome, setUp } from './support/server.ts';

function states(world: ReturnType<typeof setUp>) {
  const events: StateEvent<ClientState>[] = [];
  world.client.on('state', (event) => events.push(event));
  return events;
}

describe('connecting', () => {
  test('says_hello_first_and_becomes_connected_by_the_welcome', async () => {
    const world = setUp({ token: 'secret' });
    const events = states(world);
    world.client.connect();
    expect(world.socket.protocols).toEqual(['clarion.v1.json']);
    expect(world.socket.received).toEqual([]);
    const hello = world.socket.welcome();
    expect(hello).toMatchObject({ type: '$hello', payload: { token: 'secret', rooms: {} } });
    expect(world.client.state).toBe('connected');
    expect(world.client.session).toMatchObject({ client: 'c1', user: 'u1', resumed: false });
    expect(events.map(({ previous, state }) => `${previous}>${state}`)).toEqual([
      'idle>connecting',
      'connecting>connected',
    ]);
  });

  test('connecting_twice_opens_one_socket', async () => {
    const world = setUp();
    world.client.connect();
    world.client.connect();
    world.socket.welcome();
    world.client.connect();
    expect(world.sockets).toHaveLength(1);
  });

  test('server_that_never_welcomes_is_given_up', async () => {
    const world = setUp();
    const events = states(world);
    world.client.connect();
    world.socket.open();
    await world.clock.advance(9_999);
    expect(events.at(-1)?.reason).toBe('connect');
    await world.clock.advance(1);
    expect(world.sockets[0]?.closedBy).toBeDefined();
    expect(events.at(-1)).toMatchObject({
      state: 'connecting',
      code: 1006,
      reason: 'connect_timeout',
      willRetry: true,
      nextTryAt: world.clock.now() + 250,
    });
  });

  test('transport_that_throws_is_a_failed_try', async () => {
    const world = setUp();
    world.refuse(new SyntaxError('bad url'));
    world.client.connect();
    await world.clock.advance(0);
    expect(world.client.status).toMatchObject({ state: 'connecting', reason: 'connect_failed' });
    expect(world.errors).toMatchObject([{ message: 'bad url' }]);
    world.refuse(undefined);
    await world.clock.advance(250);
    expect(world.sockets).toHaveLength(1);
  });

  // [6.back]
  test('tries_less_and_less_often_and_never_gives_up', async () => {
    const world = setUp({ random: () => 0.999_999 });
    const waits: number[] = [];
    world.client.on('state', ({ nextTryAt }) => {
      if (nextTryAt !== null) waits.push(Math.round((nextTryAt - world.clock.now()) / 100) / 10);
    });
    world.client.connect();
    for (let index = 0; index < 8; index++) {
      world.socket.close(1006);
      await world.clock.advance((world.client.status.nextTryAt ?? 0) - world.clock.now());
    }
    expect(waits).toEqual([0.5, 1, 2, 4, 8, 16, 20, 20]);
    expect(world.sockets).toHaveLength(9);
  });

  test('backoff_starts_again_only_after_five_seconds_connected', async () => {
    const world = setUp({ random: () => 0.5 });
    const wait = () => (world.client.status.nextTryAt ?? 0) - world.clock.now();
    await world.connected();
    world.socket.close(1006);
    expect(wait()).toBe(250);
    await world.clock.advance(250);
    world.socket.welcome();
    await world.clock.advance(4_999);
    world.socket.close(1006);
    expect(wait()).toBe(500);
    await world.clock.advance(500);
    world.socket.welcome();
    await world.clock.advance(5_000);
    world.socket.close(1006);
    expect(wait()).toBe(250);
  });

  test('late_message_of_an_old_socket_is_dropped', async () => {
    const world = setUp();
    const first = await world.connected();
    world.client.room('a').join();
    first.close(1006);
    const heard: unknown[] = [];
    world.client.room('a').on('publication', (publication) => heard.push(publication));
    await world.clock.advance(250);
    world.socket.welcome();
    first.send('$joined', {}, { room: 'a' });
    first.send('x', 1, { room: 'a' });
    first.close(4001);
    expect(world.client.state).toBe('connected');
    expect(world.client.room('a').state).toBe('joining');
    expect(heard).toEqual([]);
  });

  test('connect_while_waiting_tries_now', async () => {
    const world = setUp();
    world.client.connect();
    world.socket.close(1006);
    expect(world.sockets).toHaveLength(1);
    world.client.connect();
    expect(world.sockets).toHaveLength(2);
    await world.clock.advance(5_000);
    expect(world.sockets).toHaveLength(2);
  });

  test('network_coming_back_tries_now', async () => {
    const world = setUp();
    world.client.connect();
    world.socket.close(1006);
    world.wake();
    expect(world.sockets).toHaveLength(2);
  });

  test('network_coming_back_does_not_jump_a_wait_that_the_server_asked_for', async () => {
    const world = setUp();
    await world.connected();
    world.socket.send('$error', {
      code: 429,
      name: 'rate_limited',
      close: 4129,
      retry_after_ms: 3_000,
    });
    world.socket.close(4129);
    expect(world.client.status).toMatchObject({
      code: 4129,
      reason: 'rate_limited',
      nextTryAt: world.clock.now() + 3_250,
    });
    world.wake();
    expect(world.sockets).toHaveLength(1);
  });
});

describe('close codes', () => {
  test.each([1000, 1002, 1009, 4003, 4005, 4006])('%i_stops', async (code) => {
    const world = setUp();
    await world.connected();
    world.socket.close(code);
    expect(world.client.status).toMatchObject({ state: 'closed', code, willRetry: false });
    await world.clock.advance(120_000);
    expect(world.sockets).toHaveLength(1);
    expect(world.clock.timers).toBe(0);
    expect(world.wakes.size).toBe(0);
  });

  test('error_before_the_close_frame_names_the_reason', async () => {
    const world = setUp();
    world.client.connect();
    world.socket.open();
    world.socket.send('$error', {
      code: 401,
      name: 'unauthenticated',
      message: 'bad signature',
      temporary: false,
      close: 4001,
    });
    // The close frame itself got lost.
    world.socket.close(1006);
    expect(world.client.status).toMatchObject({
      state: 'closed',
      code: 4001,
      reason: 'unauthenticated',
    });
    expect(world.errors).toMatchObject([{ name: 'unauthenticated', message: 'bad signature' }]);
  });

  // [6.slot]
  test('moved_without_a_slot_comes_back_within_five_seconds', async () => {
    const world = setUp();
    await world.connected();
    world.socket.close(4200);
    expect(world.client.status.nextTryAt).toBe(world.clock.now() + 2_500);
    world.wake();
    expect(world.sockets).toHaveLength(1);
  });

  test('connect_after_a_stop_resumes_the_wanted_rooms_in_a_new_session', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    room.join();
    world.socket.reply(world.socket.next('$join'), { epoch: 'e', offset: 4, from: 5 });
    world.socket.close(4005);
    expect(room.status).toMatchObject({ state: 'left', code: 4005, reason: 'replaced' });
    world.client.connect();
    const hello = world.socket.welcome();
    expect(hello.payload).toEqual({
      rooms: { a: { after: { epoch: 'e', offset: 4 } } },
      sdk: expect.stringContaining('clarion-typescript/'),
    });
    world.socket.send(
      '$joined',
      { epoch: 'e', offset: 4, from: 5, recovered: true },
      { room: 'a' },
    );
    expect(room.state).toBe('joined');
  });
});

describe('drain', () => {
  // [4.reconnect.after] [4.reconnect]
  test('moves_in_its_slot_to_the_given_url', async () => {
    const world = setUp();
    await world.connected();
    world.socket.send('$reconnect', { after_ms: 1_500, url: 'ws://other/ws', reason: 'drain' });
    await world.clock.advance(1_499);
    expect(world.sockets).toHaveLength(1);
    await world.clock.advance(1);
    expect(world.sockets[0]?.closedBy?.code).toBe(4200);
    expect(world.sockets.map(({ url }) => url)).toEqual(['ws://test/ws', 'ws://other/ws']);
    // And only once: if that one cannot be reached, home is tried.
    world.socket.close(1006);
    await world.clock.advance(20_000);
    expect(world.socket.url).toBe('ws://test/ws');
  });

  // [6.slot] [4.reconnect.after]
  test('keeps_its_slot_when_the_server_closes_first', async () => {
    const world = setUp();
    await world.connected();
    world.socket.send('$reconnect', { after_ms: 8_000 });
    await world.clock.advance(2_000);
    world.socket.close(1001);
    expect(world.client.status.nextTryAt).toBe(world.clock.now() + 6_000);
    await world.clock.advance(5_999);
    expect(world.sockets).toHaveLength(1);
    await world.clock.advance(1);
    expect(world.sockets).toHaveLength(2);
  });
});

describe('heartbeat', () => {
  // [4.heartbeat.client]
  test('half_open_socket_is_asked_and_then_dropped', async () => {
    const world = setUp();
    await world.connected({ heartbeat_ms: 20_000 });
    await world.clock.advance(29_999);
    expect(world.socket.unread).toBe(0);
    await world.clock.advance(1);
    world.socket.next('$ping');
    await world.clock.advance(9_999);
    expect(world.client.state).toBe('connected');
    await world.clock.advance(1);
    expect(world.client.status).toMatchObject({ state: 'connecting', reason: 'heartbeat_missed' });
    expect(world.sockets[0]?.closedBy).toBeDefined();
  });

  test('silence_that_ends_is_no_reason_to_drop', async () => {
    const world = setUp();
    await world.connected();
    for (let minute = 0; minute < 10; minute++) {
      await world.clock.advance(35_000);
      world.socket.next('$ping');
      world.socket.send('$pong');
    }
    expect(world.client.state).toBe('connected');
    expect(world.sockets).toHaveLength(1);
  });

  test('waking_up_probes_the_connection_at_once', async () => {
    const world = setUp();
    await world.connected();
    world.clock.sleep(3_600_000);
    world.wake();
    world.socket.next('$ping');
    await world.clock.advance(10_000);
    expect(world.client.state).toBe('connecting');
  });

  test('ping_measures_the_round_trip', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.ping());
    const ping = world.socket.next('$ping');
    await world.clock.advance(42);
    world.socket.send('$pong', null, { id: ping.metadata.id as number });
    await settled();
    expect(result.value).toBe(42);
  });
});

describe('close', () => {
  test('ends_the_session_and_leaves_no_timer_behind', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    const results = [
      outcome(room.join()),
      outcome(room.history()),
      outcome(room.publish('x', 1)),
      outcome(world.client.ping()),
    ];
    world.client.close();
    await settled();
    expect(world.socket.closedBy?.code).toBe(1000);
    for (const { error } of results) expect(error?.name).toBe('closed');
    expect(world.client.status).toMatchObject({ state: 'closed', code: 1000, willRetry: false });
    expect(world.clock.timers).toBe(0);
    expect(world.wakes.size).toBe(0);
    await expect(room.publish('x', 1)).rejects.toMatchObject({ name: 'closed' });
    await expect(room.history()).rejects.toMatchObject({ name: 'closed' });
    expect(world.clock.timers).toBe(0);
  });

  test('while_connecting_and_while_waiting', async () => {
    const connecting = setUp();
    connecting.client.connect();
    connecting.client.close();
    connecting.socket.open();
    await connecting.clock.advance(60_000);
    expect(connecting.socket.received).toEqual([]);
    expect(connecting.sockets).toHaveLength(1);

    const waiting = setUp();
    waiting.client.connect();
    waiting.socket.close(1006);
    waiting.client.close();
    await waiting.clock.advance(60_000);
    expect(waiting.sockets).toHaveLength(1);
    expect(waiting.clock.timers).toBe(0);
  });

  test('in_a_listener_of_the_drop', async () => {
    const world = setUp();
    world.client.room('a').join();
    await world.connected();
    world.client.room('a').on('state', () => world.client.close());
    const events = states(world);
    world.socket.close(1006);
    await world.clock.advance(60_000);
    expect(events.map(({ state }) => state)).toEqual(['closed']);
    expect(world.sockets).toHaveLength(1);
    expect(world.clock.timers).toBe(0);
  });
});

describe('errors', () => {
  test('listener_that_throws_does_not_stop_the_client', async () => {
    const world = setUp();
    await world.connected();
    const room = world.client.room('a');
    room.join();
    world.socket.reply(world.socket.next('$join'), {});
    const heard: unknown[] = [];
    room.on('publication', () => {
      throw new Error('mine');
    });
    room.on('publication', ({ payload }) => heard.push(payload));
    world.socket.send('x', 1, { room: 'a' });
    world.socket.send('x', 2, { room: 'a' });
    expect(heard).toEqual([1, 2]);
    expect(world.errors).toMatchObject([{ message: 'mine' }, { message: 'mine' }]);
  });

  test('garbage_is_reported_and_skipped', async () => {
    const world = setUp();
    await world.connected();
    world.socket.sendText('{');
    world.socket.send('$news_of_2030', {}, { room: 'a' });
    expect(world.errors).toHaveLength(1);
    expect(world.client.state).toBe('connected');
  });

  test('reply_that_comes_too_late_is_dropped', async () => {
    const world = setUp();
    await world.connected();
    const result = outcome(world.client.room('a').history());
    const command = world.socket.next('$history');
    await world.clock.advance(5_000);
    expect(result.error?.name).toBe('timeout');
    world.socket.reply(command, { publications: [] });
    world.socket.fail(command, 403, 'forbidden');
    expect(world.errors).toEqual([]);
  });

  test('failure_without_a_command_is_reported', async () => {
    const world = setUp();
    await world.connected();
    world.socket.send(
      '$error',
      { code: 403, name: 'forbidden', message: 'no', temporary: false, command: 'x' },
      { room: 'a' },
    );
    expect(world.errors).toMatchObject([{ name: 'forbidden', code: 403 }]);
  });
});

test('importing_and_constructing_needs_no_browser', async () => {
  const { Client } = await import('../src/index.ts');
  expect(new Client('ws://nowhere').state).toBe('idle');
});

test('error_that_stands_for_many_says_for_how_many', async () => {
  const world = setUp();
  await world.connected();
  const payload = { code: 429, name: 'rate_limited', message: 'slow', temporary: true };
  world.socket.send(
    '$error',
    { ...payload, command: 'chat_message', suppressed: 12 },
    { room: 'a', key: 'k' },
  );
  expect(world.errors).toMatchObject([
    { name: 'rate_limited', command: 'chat_message', suppressed: 12, key: 'k', temporary: true },
  ]);
});

test('reason_is_a_stable_name_whatever_the_close_frame_says', async () => {
  for (const [code, said, reason] of [
    [4006, 'disconnected by an operator', 'disconnected'],
    [1001, 'the server stops', 'going_away'],
    [4242, 'new_reason', 'new_reason'],
    [4242, '', 'close_4242'],
  ] as const) {
    const world = setUp();
    await world.connected();
    world.socket.close(code, said);
    expect(world.client.status).toMatchObject({ code, reason });
  }
});
