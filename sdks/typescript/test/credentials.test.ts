import { describe, expect, test } from 'vitest';
import type { TokenReason } from '../src/credentials.ts';
import { settled } from './support/clock.ts';
import { setUp } from './support/server.ts';

function withTokens(failure?: () => unknown) {
  const reasons: TokenReason[] = [];
  const world = setUp({
    getToken: async (reason) => {
      reasons.push(reason);
      const thrown = failure?.();
      if (thrown) throw thrown;
      return `token-${reasons.length}`;
    },
  });
  return Object.assign(world, { reasons });
}

describe('tokens', () => {
  test('token_is_fetched_before_the_first_connection_only', async () => {
    const world = withTokens();
    await world.connected();
    expect(world.socket.received[0]?.payload).toMatchObject({ token: 'token-1' });
    const { hello } = await world.dropped();
    expect(hello.payload).toMatchObject({ token: 'token-1', ticket: 'ticket-1' });
    expect(world.reasons).toEqual(['connect']);
  });

  test('newest_ticket_is_used_until_it_expires', async () => {
    const world = setUp();
    await world.connected({ ticket: 'a', ticket_ttl_ms: 60_000 });
    const first = await world.dropped(1006, { ticket: 'b', ticket_ttl_ms: 10_000 });
    expect(first.hello.payload).toMatchObject({ ticket: 'a' });
    await world.clock.advance(10_000);
    const second = await world.dropped();
    expect(second.hello.payload).not.toHaveProperty('ticket');
  });

  // [6.back]
  test('expired_token_is_replaced_before_coming_back', async () => {
    const world = withTokens();
    await world.connected();
    const { hello } = await world.dropped(4102);
    expect(hello.payload).toMatchObject({ token: 'token-2' });
    expect(world.reasons).toEqual(['connect', 'expired']);
  });

  test('token_known_to_have_expired_is_replaced_without_being_told', async () => {
    const world = withTokens();
    await world.connected({ expires_at: '2026-01-01T00:01:00.000Z' });
    await world.clock.advance(20_000);
    world.socket.send('x');
    await world.clock.advance(45_000);
    world.socket.close(1006);
    await world.clock.advance(1_000);
    expect(world.reasons).toEqual(['connect', 'expired']);
  });

  test('kept_token_that_is_refused_gets_one_more_try_with_a_new_one', async () => {
    const world = withTokens();
    await world.connected();
    world.socket.close(1006);
    await world.clock.advance(1_000);
    world.socket.open();
    world.socket.close(4001);
    expect(world.client.status).toMatchObject({ state: 'connecting', code: 4001 });
    await world.clock.advance(1_000);
    world.socket.open();
    expect(world.socket.next('$hello').payload).toMatchObject({ token: 'token-2' });
    world.socket.close(4001);
    expect(world.client.status).toMatchObject({ state: 'closed', code: 4001 });
    expect(world.clock.timers).toBe(0);
  });

  test('token_that_was_good_and_is_revoked_gets_one_more_try_with_a_new_one', async () => {
    const world = withTokens();
    await world.connected();
    world.socket.close(4001);
    expect(world.client.status).toMatchObject({ state: 'connecting', code: 4001 });
    await world.clock.advance(1_000);
    world.socket.open();
    expect(world.socket.next('$hello').payload).toMatchObject({ token: 'token-2' });
    world.socket.close(4001);
    expect(world.client.status).toMatchObject({ state: 'closed', code: 4001 });
  });

  test('refused_static_token_stops', async () => {
    const world = setUp({ token: 'bad' });
    world.client.connect();
    world.socket.open();
    world.socket.close(4001);
    expect(world.client.state).toBe('closed');
  });

  test('back_end_that_fails_is_asked_again_with_backoff', async () => {
    let failing = true;
    const world = withTokens(() => failing && new Error('502'));
    world.client.connect();
    await settled();
    expect(world.client.status).toMatchObject({ state: 'connecting', reason: 'token_failed' });
    expect(world.errors).toMatchObject([{ message: '502' }]);
    failing = false;
    await world.clock.advance(250);
    world.socket.welcome();
    expect(world.client.state).toBe('connected');
  });

  test('back_end_that_hangs_is_not_waited_for_for_ever', async () => {
    const asked: ((token: string) => void)[] = [];
    const world = setUp({ getToken: () => new Promise((resolve) => asked.push(resolve)) });
    world.client.connect();
    await world.clock.advance(10_250);
    expect(asked).toHaveLength(2);
    asked[0]?.('late');
    await settled();
    expect(world.sockets).toHaveLength(0);
    asked[1]?.('good');
    await settled();
    world.socket.open();
    expect(world.socket.next('$hello').payload).toMatchObject({ token: 'good' });
    expect(world.sockets).toHaveLength(1);
  });

  test('user_who_may_not_connect_stops_the_client', async () => {
    const world = withTokens(() => Object.assign(new Error('no'), { code: 403 }));
    world.client.connect();
    await settled();
    expect(world.client.status).toMatchObject({ state: 'closed', code: 4001 });
    expect(world.clock.timers).toBe(0);
  });

  test('close_during_the_fetch_opens_nothing', async () => {
    const world = withTokens();
    world.client.connect();
    world.client.close();
    await world.clock.advance(60_000);
    expect(world.sockets).toHaveLength(0);
  });
});

describe('refresh', () => {
  test('new_token_is_sent_on_the_open_connection', async () => {
    const world = withTokens();
    await world.connected();
    world.socket.send('$refresh', { expires_at: '2026-01-01T00:01:00.000Z' });
    await settled();
    const refresh = world.socket.next('$refresh');
    expect(refresh.payload).toEqual({ token: 'token-2' });
    world.socket.reply(refresh, { expires_at: '2026-01-01T01:00:00.000Z' });
    const { hello } = await world.dropped();
    expect(hello.payload).toMatchObject({ token: 'token-2' });
    expect(world.reasons).toEqual(['connect', 'refresh']);
  });

  test('failed_fetch_is_repeated', async () => {
    let failing = false;
    const world = withTokens(() => failing && new Error('502'));
    await world.connected();
    failing = true;
    world.socket.send('$refresh', {});
    await settled();
    failing = false;
    await world.clock.advance(2_000);
    world.socket.next('$refresh');
    expect(world.errors).toHaveLength(1);
  });

  test('without_get_token_there_is_nothing_to_do', async () => {
    const world = setUp({ token: 'static' });
    await world.connected();
    world.socket.send('$refresh', {});
    await settled();
    expect(world.socket.unread).toBe(0);
  });
});
