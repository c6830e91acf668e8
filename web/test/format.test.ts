import { expect, test } from 'vitest';
import { formatDay, plural } from '../src/shared/format.ts';

test('days_near_today_have_names', () => {
  const now = new Date(2026, 2, 1, 0, 5).getTime();
  expect(formatDay(now, now)).toBe('Today');
  expect(formatDay(new Date(2026, 1, 28, 23, 59).getTime(), now)).toBe('Yesterday');
  expect(formatDay(new Date(2026, 1, 27, 12).getTime(), now)).toMatch(/2026/);
});

test('one_is_singular', () => {
  expect([plural(1, 'message'), plural(0, 'message')]).toEqual(['1 message', '0 messages']);
});
