import { expect, test } from 'vitest';
import { toPieces } from '../src/features/chat/links.ts';

const links = (text: string) => toPieces(text).flatMap(({ href }) => href ?? []);
const whole = (text: string) =>
  toPieces(text)
    .map((piece) => piece.text)
    .join('');

test('web_addresses_are_found_without_the_sentence_around_them', () => {
  expect(toPieces('see https://example.org/a?b=1#c, or not')).toEqual([
    { text: 'see ' },
    { text: 'https://example.org/a?b=1#c', href: 'https://example.org/a?b=1#c' },
    { text: ', or not' },
  ]);
  expect(links('(HTTP://Example.org/x).')).toEqual(['http://example.org/x']);
  expect(links('https://a.example https://b.example')).toHaveLength(2);
});

test.each([
  'javascript:alert(1)',
  'JaVaScRiPt://https:alert(1)',
  'data:text/html,<script>alert(1)</script>',
  'file:///etc/passwd',
  'https://',
  'xhttps://example.org',
  'nothing at all',
  '',
])('%j_is_only_text', (text) => {
  expect(links(text)).toEqual([]);
  expect(whole(text)).toBe(text);
});

test('no_letter_is_lost', () => {
  for (const text of [
    'https://example.org/"><img src=x onerror=alert(1)>',
    'a https://x.example/..., b',
    'https://[bad/ and on',
  ]) {
    expect(whole(text)).toBe(text);
  }
  expect(links('https://example.org/"><img src=x>')).toEqual(['https://example.org/']);
});

test('what_is_made_to_take_long_takes_no_longer_than_other_text', () => {
  const text = `http://a${'.'.repeat(2_000_000)}a`;
  const started = performance.now();
  expect(whole(text)).toBe(text);
  expect(performance.now() - started).toBeLessThan(2_000);
});
