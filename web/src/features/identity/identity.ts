import { Store } from '../../shared/store.ts';
import { Stored } from '../../shared/stored.ts';

export const NAME_LENGTH = 40;
const SESSIONS_MAX = 50;

const storedName = new Stored('name', (value) =>
  typeof value === 'string' ? value.slice(0, NAME_LENGTH) : '',
);

/** What I am called in my messages; empty until chosen. */
export const myName = new Store(storedName.get());

myName.subscribe(() => storedName.set(myName.get()));

/**
 * Public ids of the sessions this device has had. A guest is a new user after each reload; with
 * these the messages from before still stand on my side.
 */
const sessions = new Stored<readonly string[]>('sessions', (value) =>
  Array.isArray(value) ? value.filter((id) => typeof id === 'string') : [],
);

export function rememberSession(client: string): void {
  const known = sessions.get();
  if (!known.includes(client)) sessions.set([...known, client].slice(-SESSIONS_MAX));
}

export function isMySession(client: string | undefined): boolean {
  return client !== undefined && sessions.get().includes(client);
}
