import { ClarionError } from '@clarion/client';
import { expect, test } from 'vitest';
import {
  explainFailure,
  explainGap,
  explainLeft,
  explainRecovery,
} from '../src/features/chat/explain.ts';

const gap = { id: 'n', kind: 'gap', time: 0 } as const;

test('gap_claims_no_more_than_is_known', () => {
  expect(explainGap({ ...gap, count: 1 })).toBe('1 message could not be recovered.');
  expect(explainGap(gap)).toBe('Some messages could not be recovered.');
  expect(explainGap({ ...gap, isUncertain: true })).toBe('Some messages may be missing here.');
});

test('recovery_says_how_much', () => {
  const recovered = { ...gap, kind: 'recovered' } as const;
  expect(explainRecovery({ ...recovered, count: 3 })).toMatch(/3 messages you missed were/);
});

test('known_and_unknown_reasons_have_words', () => {
  const left = { state: 'left', code: 0, willRetry: false, nextTryAt: null } as const;
  expect(explainLeft({ ...left, reason: 'kicked' })).toBe('You were removed from this room.');
  expect(explainLeft({ ...left, reason: 'new' })).toMatch(/new/);
  expect(explainFailure(new ClarionError({ name: 'timeout' }))).toMatch(/No answer/);
  expect(explainFailure(new ClarionError({ name: 'new', message: 'Why not' }))).toBe('Why not');
});
