import { expect, test } from 'vitest';
import { explainConnection } from '../src/features/connection/explain.ts';

test('every_reason_has_words', () => {
  const base = { state: 'connecting', willRetry: true, nextTryAt: null } as const;
  expect(explainConnection({ ...base, code: 1006, reason: 'connection_lost' })).toMatch(/reached/);
  expect(explainConnection({ ...base, code: 4242, reason: 'new' })).toMatch(/4242, new/);
  const refused = { ...base, code: 4001, reason: 'unauthenticated' };
  expect(explainConnection(refused)).toMatch(/guests/);
  expect(explainConnection(refused, true)).toMatch(/sign-in is not valid/);
  expect(explainConnection({ ...base, code: 0, reason: 'connect' })).toBe('Connecting…');
});
