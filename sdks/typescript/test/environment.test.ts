import { afterEach, expect, test, vi } from 'vitest';
import { browserEnvironment } from '../src/environment.ts';

class Page extends EventTarget {
  visibilityState = 'visible';
}

afterEach(() => vi.unstubAllGlobals());

test('wakes_when_the_network_is_back_and_when_the_page_is_shown', () => {
  const window = new EventTarget();
  const document = new Page();
  vi.stubGlobal('document', document);
  vi.stubGlobal('addEventListener', window.addEventListener.bind(window));
  vi.stubGlobal('removeEventListener', window.removeEventListener.bind(window));
  let woken = 0;
  const stop = browserEnvironment.onWake(() => woken++);
  window.dispatchEvent(new Event('online'));
  expect(woken).toBe(1);
  document.visibilityState = 'hidden';
  document.dispatchEvent(new Event('visibilitychange'));
  expect(woken).toBe(1);
  document.visibilityState = 'visible';
  document.dispatchEvent(new Event('visibilitychange'));
  expect(woken).toBe(2);
  stop();
  window.dispatchEvent(new Event('online'));
  document.dispatchEvent(new Event('visibilitychange'));
  expect(woken).toBe(2);
});

test('does_nothing_outside_a_browser', () => {
  expect(() => browserEnvironment.onWake(() => {})()).not.toThrow();
});
