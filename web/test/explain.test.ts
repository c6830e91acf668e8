import { ClarionError, type GapPayload } from '@clarion/client';
import { expect, test } from 'vitest';
import {
  explainAbsence,
  explainFailure,
  explainGap,
  explainLeft,
  explainRecovery,
  explainTyping,
} from '../src/features/chat/explain.ts';

const gap = (payload: GapPayload) => explainGap({ kind: 'gap', id: 'n', gap: payload });

test('gap_claims_no_more_than_is_known', () => {
  const lost = 'Some messages could not be recovered.';
  const perhaps = 'Some messages may be missing here.';
  expect(gap({ reason: 'trimmed', from: 4, to: 4 })).toBe('1 message could not be recovered.');
  expect(gap({ reason: 'trimmed', from: 4, to: 6 })).toBe('3 messages could not be recovered.');
  expect(gap({ reason: 'slow' })).toBe(lost);
  expect(gap({ reason: 'trimmed', epoch: 'e', offset: 3 })).toBe(lost);
  expect(gap({ reason: 'epoch', epoch: 'f', offset: 0 })).toBe(perhaps);
  expect(gap({ reason: 'unknown' })).toBe(perhaps);
});

test('recovery_says_how_much', () => {
  const recovered = { kind: 'recovered', id: 'n', from: 4 } as const;
  expect(explainRecovery({ ...recovered, to: 6 })).toBe('You were offline: 3 new messages');
  expect(explainRecovery({ ...recovered, to: 4 })).toBe('You were offline: 1 new message');
});

test('absence_tells_what_came_from_what_may_be_missing', () => {
  const absence = (payload: GapPayload) => explainAbsence({ kind: 'gap', id: 'n', gap: payload });
  const recovered = { kind: 'recovered', id: 'n', from: 4, to: 17 } as const;
  expect(explainAbsence(recovered)).toBe('You were offline: 14 new messages');
  const perhaps = 'You were offline: some messages may be missing.';
  expect(absence({ reason: 'unknown' })).toBe(perhaps);
  expect(absence({ reason: 'epoch', epoch: 'f', offset: 0 })).toBe(perhaps);
  expect(absence({ reason: 'trimmed', from: 4, to: 6 })).toMatch(/^3 messages could not/);
  expect(absence({ reason: 'slow' })).toMatch(/^Some messages could not/);
});

test('typing_names_two_and_counts_more', () => {
  expect(explainTyping([])).toBe('');
  expect(explainTyping(['Ada'])).toBe('Ada is typing…');
  expect(explainTyping(['Ada', 'Ben'])).toBe('Ada and Ben are typing…');
  expect(explainTyping(['Ada', 'Ben', 'Eve'])).toBe('3 people are typing…');
});

test('known_and_unknown_reasons_have_words', () => {
  const left = { state: 'left', code: 0, willRetry: false, nextTryAt: null } as const;
  expect(explainLeft({ ...left, reason: 'kicked' })).toBe('You were removed from this room.');
  expect(explainLeft({ ...left, reason: 'new' })).toMatch(/new/);
  expect(explainFailure(new ClarionError({ name: 'timeout' }))).toMatch(/No answer/);
  expect(explainFailure(new ClarionError({ name: 'new', message: 'Why not' }))).toBe('Why not');
});
