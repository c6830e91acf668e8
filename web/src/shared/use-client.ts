import type {
  Client,
  ClientState,
  MembersSnapshot,
  Room,
  RoomState,
  Status,
} from '@clarion/client';
import { useCallback, useSyncExternalStore } from 'react';

export function useClientStatus(client: Client): Status<ClientState> {
  const subscribe = useCallback((changed: () => void) => client.on('state', changed), [client]);
  return useSyncExternalStore(subscribe, () => client.status);
}

export function useRoomStatus(room: Room): Status<RoomState> {
  const subscribe = useCallback((changed: () => void) => room.on('state', changed), [room]);
  return useSyncExternalStore(subscribe, () => room.status);
}

export function useMembers(room: Room): MembersSnapshot {
  const subscribe = useCallback((changed: () => void) => room.on('members', changed), [room]);
  return useSyncExternalStore(subscribe, () => room.members);
}
