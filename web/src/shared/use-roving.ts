import { type KeyboardEvent, useLayoutEffect, useRef, useState } from 'react';

/**
 * One stop of Tab for a whole list; the arrow keys, Home and End go through it. When the item with
 * the focus disappears, its neighbor has it.
 */
export function useRoving(keys: readonly string[], preferred?: string) {
  const list = useRef<HTMLUListElement>(null);
  const [active, setActive] = useState<string>();
  const index = useRef(0);
  const hadFocus = useRef(false);
  const wanted = [active, preferred].find((key) => key !== undefined && keys.includes(key));
  const current = wanted ?? keys[Math.min(index.current, keys.length - 1)];

  useLayoutEffect(() => {
    index.current = Math.max(0, keys.indexOf(current ?? ''));
    const isGone = active !== undefined && !keys.includes(active);
    if (!isGone || !hadFocus.current) return;
    hadFocus.current = false;
    // The browser gives the focus of what was removed to nobody. Who took it elsewhere keeps it.
    if (document.activeElement === document.body) focus(list.current, current);
  }, [keys, current, active]);

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const at = keys.indexOf(current ?? '');
    const next = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: keys.length - 1,
    }[event.key];
    const key = next === undefined ? undefined : keys[next];
    if (key === undefined) return;
    event.preventDefault();
    focus(list.current, key);
  };

  return {
    list: {
      ref: list,
      onKeyDown,
      onFocus: () => {
        hadFocus.current = true;
      },
      onBlur: (event: { relatedTarget: EventTarget | null }) => {
        // Without a next one it may have been removed; the effect finds out.
        if (event.relatedTarget) hadFocus.current = false;
      },
    },
    item: (key: string) => ({
      'data-key': key,
      tabIndex: key === current ? 0 : -1,
      onFocus: () => setActive(key),
    }),
    isCurrent: (key: string) => key === current,
  };
}

function focus(list: HTMLElement | null, key: string | undefined): void {
  if (key === undefined) return;
  list?.querySelector<HTMLElement>(`[data-key="${CSS.escape(key)}"]`)?.focus();
}
