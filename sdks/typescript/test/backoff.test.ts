import { describe, expect, test } from 'vitest';
import { Backoff, backoffDelay } from '../src/backoff.ts';

describe('backoff', () => {
  // [6.back]
  test('jitter_is_spread_over_the_whole_interval', () => {
    const buckets = new Array<number>(10).fill(0);
    for (let index = 0; index < 10_000; index++) {
      const delay = backoffDelay(3, Math.random);
      expect(delay).toBeLessThan(4_000);
      buckets[Math.floor(delay / 400)] = (buckets[Math.floor(delay / 400)] ?? 0) + 1;
    }
    // 1,000 expected in each tenth; 5 standard deviations are 150.
    for (const count of buckets) expect(Math.abs(count - 1_000)).toBeLessThan(150);
  });

  test('upper_bound_doubles_up_to_the_cap', () => {
    const bounds = [0, 1, 2, 3, 4, 5, 6, 7, 1_000].map((tries) => backoffDelay(tries, () => 1));
    expect(bounds).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000, 20_000]);
  });

  test('reset_starts_again', () => {
    const backoff = new Backoff(() => 1, { base: 10, cap: 25 });
    expect([backoff.next(), backoff.next(), backoff.next()]).toEqual([10, 20, 25]);
    backoff.reset();
    expect(backoff.next()).toBe(10);
  });
});
