import { Store } from '@clarion/client/react';
import { roomNameProblem, roomTitle } from '../features/rooms/room-name.ts';

/** Where the address leads. */
export type Place =
  | { kind: 'nowhere' }
  | { kind: 'inbox' }
  | { kind: 'room'; name: string }
  | { kind: 'direct'; user: string }
  | { kind: 'invalid'; name: string; problem: string };

const USER = '$user/';
/** No room can have this name. */
export const INBOX = '$inbox';

/** What the address names, so that a link leads to it: `#general`, `#chat/berlin`, `#$user/ada`. */
export const route = new Store(read());

window.addEventListener('hashchange', () => route.set(read()));

function read(): string {
  try {
    return decodeURIComponent(window.location.hash.slice(1));
  } catch {
    return window.location.hash.slice(1);
  }
}

export function placeOf(name: string): Place {
  if (name === '') return { kind: 'nowhere' };
  if (name === INBOX) return { kind: 'inbox' };
  if (name.startsWith(USER) && name.length > USER.length) {
    return { kind: 'direct', user: name.slice(USER.length) };
  }
  const problem = roomNameProblem(roomTitle(name));
  return problem ? { kind: 'invalid', name, problem } : { kind: 'room', name };
}

export function linkTo(name: string): string {
  return `#${encodeURI(name)}`;
}

export function go(name: string): void {
  if (name) window.location.hash = linkTo(name);
  else {
    history.pushState(null, '', window.location.pathname + window.location.search);
    route.set('');
  }
}
