import { describe, expect, test } from 'vitest';
import { follow, resume } from '../src/position.ts';

const at = (offset: number, epoch = 'e') => ({ epoch, offset });

describe('resume', () => {
  test('first_join_stands_before_the_replay', () => {
    const reply = { epoch: 'e', offset: 9, from: 5, recovered: false };
    expect(resume(undefined, reply)).toEqual({ position: at(4) });
  });

  test('recovered_has_no_gap', () => {
    const reply = { epoch: 'e', offset: 9, from: 5, recovered: true };
    expect(resume(at(4), reply)).toEqual({ position: at(4) });
  });

  test('trimmed_log_is_a_gap_that_names_what_is_lost', () => {
    const reply = { epoch: 'e', offset: 90, from: 41, recovered: false };
    expect(resume(at(4), reply)).toEqual({
      position: at(40),
      gap: { reason: 'trimmed', epoch: 'e', offset: 40, from: 5, to: 40 },
    });
  });

  test('another_epoch_is_a_gap', () => {
    const reply = { epoch: 'f', offset: 3, from: 1, recovered: false };
    expect(resume(at(100), reply)).toEqual({
      position: at(0, 'f'),
      gap: { reason: 'epoch', epoch: 'f', offset: 0 },
    });
  });

  test('replay_of_what_was_seen_does_not_move_back', () => {
    const reply = { epoch: 'e', offset: 9, from: 1, recovered: false };
    expect(resume(at(7), reply)).toEqual({ position: at(7) });
  });

  test('head_behind_the_position_is_a_gap_at_the_servers_place', () => {
    const reply = { epoch: 'e', offset: 3, from: 4, recovered: false };
    expect(resume(at(7), reply)).toMatchObject({ position: at(3), gap: { reason: 'unknown' } });
  });

  test('room_without_log_has_no_position', () => {
    expect(resume(undefined, {})).toEqual({ position: undefined });
    expect(resume(at(1), {})).toEqual({ position: undefined, gap: { reason: 'unknown' } });
  });
});

describe('follow', () => {
  test('next_offset_is_delivered', () => {
    expect(follow(at(4), at(5))).toEqual({ action: 'deliver' });
    expect(follow(undefined, at(5))).toEqual({ action: 'deliver' });
  });

  test('seen_offset_is_dropped', () => {
    expect(follow(at(4), at(4))).toEqual({ action: 'drop' });
    expect(follow(at(4), at(1))).toEqual({ action: 'drop' });
  });

  test('hole_is_announced_before_delivery', () => {
    expect(follow(at(4), at(8))).toMatchObject({ action: 'deliver', gap: { from: 5, to: 7 } });
  });

  test('unannounced_epoch_is_a_gap', () => {
    expect(follow(at(4), at(1, 'f'))).toMatchObject({
      action: 'deliver',
      gap: { reason: 'epoch', epoch: 'f', offset: 0 },
    });
  });
});
