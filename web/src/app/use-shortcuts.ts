import { useEffect, useRef } from 'react';

export interface Shortcuts {
  /** To the conversation below (1) or above (-1) the current one. */
  onMove: (by: 1 | -1) => void;
  onJoin: () => void;
  onHelp: () => void;
}

/** What the keyboard can do from anywhere; as the help shows it. */
export const SHORTCUTS: readonly (readonly [keys: readonly string[], does: string])[] = [
  [['F6'], 'Next part of the page: conversations, messages, composer, members'],
  [['Shift', 'F6'], 'Previous part of the page'],
  [['↑', '↓'], 'Through a list of rooms or members, or the messages'],
  [['Alt', '↑'], 'Previous conversation'],
  [['Alt', '↓'], 'Next conversation'],
  [['Ctrl', 'K'], 'Join a room'],
  [['Delete'], 'Leave the room that has the focus in the list'],
  [['Escape'], 'Close what is open, or back to the composer'],
  [['Enter'], 'Send the message'],
  [['Shift', 'Enter'], 'New line in a message'],
  [['Ctrl', '/'], 'Show this help'],
];

/** Where F6 goes, in this order; what is not on the page is left out. */
const PARTS = [
  '[data-part=conversations] [tabindex="0"], [data-part=conversations] input',
  '#messages',
  '[data-part=inbox] [tabindex="0"], [data-part=inbox] button',
  '#message:not(:disabled)',
  '[data-part=members] [tabindex="0"]',
];

export function useShortcuts(shortcuts: Shortcuts): void {
  const latest = useRef(shortcuts);
  useEffect(() => {
    latest.current = shortcuts;
  });

  useEffect(() => {
    const onKeyDown = (event: KeyboardEvent) => {
      // Someone else's, or in the middle of composing a character.
      if (event.defaultPrevented || event.isComposing) return;
      if (act(event, latest.current)) event.preventDefault();
    };
    document.addEventListener('keydown', onKeyDown);
    return () => document.removeEventListener('keydown', onKeyDown);
  }, []);
}

/** Returns whether the key was for us. */
function act(event: KeyboardEvent, { onMove, onJoin, onHelp }: Shortcuts): boolean {
  const { key, altKey, shiftKey } = event;
  const isControl = event.ctrlKey || event.metaKey;
  // A dialog has the keyboard for itself.
  if (document.querySelector('dialog[open]')) return false;
  if (isControl && !altKey && key.toLowerCase() === 'k') onJoin();
  else if (isControl && !altKey && key === '/') onHelp();
  else if (altKey && !isControl && key === 'ArrowDown') onMove(1);
  else if (altKey && !isControl && key === 'ArrowUp') onMove(-1);
  else if (key === 'F6' && !altKey && !isControl) return goOn(shiftKey ? -1 : 1);
  else if (key === 'Escape' && !altKey && !isControl) return focusComposer();
  else return false;
  return true;
}

export function focusComposer(): boolean {
  const composer = document.querySelector<HTMLElement>('#message:not(:disabled)');
  composer?.focus();
  return composer !== null;
}

function goOn(by: 1 | -1): boolean {
  const parts = PARTS.flatMap((selector) => {
    const element = document.querySelector<HTMLElement>(selector);
    return element ? [element] : [];
  });
  const { activeElement } = document;
  const isIn = (part: HTMLElement) => {
    const whole = part.closest('[data-part]') ?? part;
    return whole.contains(activeElement);
  };
  const at = parts.findIndex(isIn);
  const next = parts[(at + by + parts.length + (at < 0 && by < 0 ? 1 : 0)) % parts.length];
  next?.focus();
  return next !== undefined;
}
