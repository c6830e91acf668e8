import type { Client } from '@clarion/client';
import { useClientStatus, useRoomStatus } from '../../shared/use-client.ts';
import { useStore } from '../../shared/use-store.ts';
import { Composer } from './Composer.tsx';
import styles from './ConversationView.module.css';
import type { ChatRoom } from './chat-room.ts';
import { explainLeft } from './explain.ts';
import { toRows } from './groups.ts';
import { MessageList } from './MessageList.tsx';

/** One room's messages and the place to write, or why they are not there. */
export function ConversationView({ chatRoom, client }: { chatRoom: ChatRoom; client: Client }) {
  const timeline = useStore(chatRoom.timeline);
  const roomStatus = useRoomStatus(chatRoom.room);
  const clientStatus = useClientStatus(client);
  const rows = toRows(timeline.items, timeline.outgoing);
  const isClosed = clientStatus.state === 'closed';
  const wasRefused = roomStatus.state === 'left' && !isClosed;

  return (
    <div className={styles.conversation}>
      {wasRefused && (
        <div className={styles.refused} role="alert">
          <p>{explainLeft(roomStatus)}</p>
          <button type="button" className={styles.button} onClick={() => chatRoom.join()}>
            Try to join again
          </button>
        </div>
      )}
      <MessageList
        chatRoom={chatRoom}
        rows={rows}
        earlier={timeline.earlier}
        isJoined={roomStatus.state === 'joined'}
        placeholder={placeholder(roomStatus.state, clientStatus.state)}
      />
      <Composer
        room={chatRoom.name}
        messageBytes={client.session?.limits.message_bytes}
        obstacle={obstacle(wasRefused, isClosed)}
        hint={hint(clientStatus.state, clientStatus.nextTryAt !== null)}
        onSend={(text) => chatRoom.send(text)}
      />
    </div>
  );
}

/** What stands where the messages would be, when there are none. */
function placeholder(room: string, client: string): string {
  if (client === 'closed') return 'Not connected.';
  if (room === 'joined') return 'No messages yet. Say something nice.';
  if (room === 'left') return 'You are not in this room.';
  return client === 'connected' ? 'Joining…' : 'Waiting for the connection…';
}

/** Why nothing can be written at all. */
function obstacle(wasRefused: boolean, isClosed: boolean): string | undefined {
  if (isClosed) return 'You cannot write without a connection.';
  if (wasRefused) return 'You can write after joining the room.';
  return undefined;
}

function hint(client: string, isWaiting: boolean): string {
  if (client !== 'connecting') return '';
  return isWaiting ? 'Not connected: messages go out when the connection is back.' : 'Connecting…';
}
