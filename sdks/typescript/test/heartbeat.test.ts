import { expect, test } from 'vitest';
import { Heartbeat } from '../src/heartbeat.ts';

test('asks_after_interval_plus_timeout_and_drops_after_another_timeout', () => {
  const heartbeat = new Heartbeat(25_000, 10_000, 0);
  expect(heartbeat.advice(0)).toEqual({ action: 'wait', againMs: 35_000 });
  expect(heartbeat.advice(34_999)).toEqual({ action: 'wait', againMs: 1 });
  expect(heartbeat.advice(35_000)).toEqual({ action: 'ping', againMs: 10_000 });
  expect(heartbeat.advice(44_000)).toEqual({ action: 'wait', againMs: 1_000 });
  expect(heartbeat.advice(45_000)).toEqual({ action: 'drop' });
});

test('any_message_is_a_sign_of_life', () => {
  const heartbeat = new Heartbeat(25_000, 10_000, 0);
  heartbeat.advice(35_000);
  heartbeat.heard(36_000);
  expect(heartbeat.advice(45_000)).toEqual({ action: 'wait', againMs: 26_000 });
});

test('waking_up_after_a_long_sleep_asks_before_it_drops', () => {
  const heartbeat = new Heartbeat(25_000, 10_000, 0);
  expect(heartbeat.advice(3_600_000)).toEqual({ action: 'ping', againMs: 10_000 });
});

test('only_one_ping_is_on_its_way', () => {
  const heartbeat = new Heartbeat(25_000, 10_000, 0);
  expect(heartbeat.ping(1_000).action).toBe('ping');
  expect(heartbeat.ping(2_000)).toEqual({ action: 'wait', againMs: 9_000 });
});
