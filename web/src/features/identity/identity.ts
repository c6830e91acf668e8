import { Store } from '@clarion/client/react';
import { type Presence, STATUS_LENGTH } from '../../shared/presence.ts';
import { Stored } from '../../shared/stored.ts';

export const NAME_LENGTH = 40;
const SESSIONS_MAX = 50;

const storedName = new Stored('name', (value) =>
  typeof value === 'string' ? value.slice(0, NAME_LENGTH) : '',
);

/** What I am called in my messages; empty until chosen. */
export const myName = new Store(storedName.get());

myName.subscribe(() => storedName.set(myName.get()));

const storedToken = new Stored('token', (value) => (typeof value === 'string' ? value : ''));

/** What the server is shown; undefined for a guest. */
export function myToken(): string | undefined {
  return storedToken.get() || undefined;
}

export function isSignedIn(): boolean {
  return myToken() !== undefined;
}

/** Whoever I was is gone with all that the page holds of them. */
export function signIn(token: string): void {
  storedToken.set(token);
  window.location.reload();
}

export function signOut(): void {
  signIn('');
}

/** What I say of myself beside the name. */
export interface MyStatus {
  isAway: boolean;
  text: string;
}

const storedStatus = new Stored<MyStatus>('status', (value) => {
  const { isAway, text } = (value ?? {}) as Record<string, unknown>;
  return {
    isAway: isAway === true,
    text: typeof text === 'string' ? text.slice(0, STATUS_LENGTH) : '',
  };
});

export const myStatus = new Store(storedStatus.get());

myStatus.subscribe(() => storedStatus.set(myStatus.get()));

/** Nobody has looked at the page for this long: away, whatever was chosen. */
const UNSEEN_MS = 60_000;
let isUnseen = false;
let timer: ReturnType<typeof setTimeout> | undefined;

/** What others see of me in their rooms. */
export const myPresence = new Store<Presence>(presence());

myName.subscribe(refresh);
myStatus.subscribe(refresh);
document.addEventListener('visibilitychange', () => {
  clearTimeout(timer);
  const see = (unseen: boolean) => {
    isUnseen = unseen;
    refresh();
  };
  if (document.hidden) timer = setTimeout(() => see(true), UNSEEN_MS);
  else see(false);
});

function presence(): Presence {
  const { isAway, text } = myStatus.get();
  return { name: myName.get(), status: isAway || isUnseen ? 'away' : 'online', text };
}

function refresh(): void {
  const next = presence();
  const before = myPresence.get();
  // The same again would be sent to every room.
  if (JSON.stringify(next) !== JSON.stringify(before)) myPresence.set(next);
}

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
