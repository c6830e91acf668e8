import { Store } from '@clarion/client/react';
import { Stored } from '../../shared/stored.ts';
import { roomNameProblem } from './room-name.ts';

const ROOMS_MAX = 20;

const stored = new Stored<readonly string[]>('rooms', (value) =>
  Array.isArray(value)
    ? value.filter((name) => typeof name === 'string' && !roomNameProblem(name)).slice(0, ROOMS_MAX)
    : [],
);

/** Rooms visited on this device, in the order in which they were first visited. */
export const recentRooms = new Store(stored.get());

recentRooms.subscribe(() => stored.set(recentRooms.get()));

export function rememberRoom(name: string): void {
  const rooms = recentRooms.get();
  if (!rooms.includes(name)) recentRooms.set([...rooms, name].slice(-ROOMS_MAX));
}

export function forgetRoom(name: string): void {
  recentRooms.set(recentRooms.get().filter((room) => room !== name));
}
