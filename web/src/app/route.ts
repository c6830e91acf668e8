import { Store } from '../shared/store.ts';

/** The room in the address, so that a link leads to it: `#general`, `#chat/berlin`. */
export const route = new Store(read());

window.addEventListener('hashchange', () => route.set(read()));

function read(): string {
  try {
    return decodeURIComponent(window.location.hash.slice(1));
  } catch {
    return window.location.hash.slice(1);
  }
}

export function linkTo(room: string): string {
  return `#${encodeURI(room)}`;
}

export function go(room: string): void {
  if (room) window.location.hash = linkTo(room);
  else {
    history.pushState(null, '', window.location.pathname + window.location.search);
    route.set('');
  }
}
