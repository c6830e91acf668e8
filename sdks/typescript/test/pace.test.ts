import { expect, test } from 'vitest';
import { Pace } from '../src/pace.ts';

test('never_sends_more_than_the_server_allows_in_any_second', () => {
  const pace = new Pace(50, 0);
  const sent: number[] = [];
  for (let now = 0; now < 5_000; now++) {
    while (pace.take(now) === 0) sent.push(now);
  }
  // The server's bucket: 50 at the start and 50 a second.
  for (const [index, at] of sent.entries()) expect(index + 1).toBeLessThanOrEqual(50 + at * 0.05);
  expect(sent.length).toBeGreaterThan(45 + 230);
});

test('tells_how_long_to_wait', () => {
  const pace = new Pace(1, 0);
  expect(pace.take(0)).toBe(0);
  const waitMs = pace.take(0);
  expect(pace.take(waitMs)).toBe(0);
});

test('zero_is_no_limit', () => {
  const pace = new Pace(0, 0);
  for (let index = 0; index < 10_000; index++) expect(pace.take(0)).toBe(0);
});
