import { expect, test } from 'vitest';
import { closePolicy, closeReason } from '../src/codes.ts';

// [6.stop] [6.back] [6.slot]
test.each([
  ...[1000, 1002, 1003, 1007, 1008, 1009, 1010, 4000, 4001, 4005, 4099].map((code) => [
    code,
    'stop',
  ]),
  ...[1001, 1005, 1006, 1011, 1015, 4100, 4102, 4199, 4300, 3000].map((code) => [code, 'backoff']),
  ...[4200, 4201, 4299].map((code) => [code, 'slot']),
] as [number, string][])('close_code_%i_means_%s', (code, policy) => {
  expect(closePolicy(code)).toBe(policy);
});

test('unknown_codes_have_a_reason_too', () => {
  expect(closeReason(4005)).toBe('replaced');
  expect(closeReason(4242)).toBe('close_4242');
});
