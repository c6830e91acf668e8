import type { MembersSnapshot, Sender } from '@clarion/client';
import {
  useClient,
  useConnection,
  useMessages,
  usePresence,
  useRoom,
  useTyping,
} from '@clarion/client/react';
import { presenceOf } from '../../shared/presence.ts';
import styles from './Conversation.module.css';
import { Conversation, hintOf, NOT_CONNECTED } from './Conversation.tsx';
import { CHAT } from './chat-room.ts';
import { explainLeft, explainTyping } from './explain.ts';
import { CHAT_MESSAGE, chatPayload, type IsMine } from './message.ts';

interface RoomConversationProps {
  name: string;
  /** As people call it. */
  title: string;
  /** What I am called. */
  author: string;
  isMine: IsMine;
}

/** Reasons of not being in a room that is about to be joined. */
const PASSING = new Set(['new', 'leave']);

/** What is said in one room, or why it is not there. */
export function RoomConversation({ name, title, author, isMine }: RoomConversationProps) {
  const client = useClient();
  const connection = useConnection();
  const { status, rejoin } = useRoom(name, CHAT);
  const { entries, earlier, send, retry, discard, loadEarlier } = useMessages(name, CHAT);
  const [typists, sayTyping] = useTyping(name);
  const members = usePresence(name);
  const isClosed = connection.state === 'closed';
  const isOut = status.state === 'left' && !PASSING.has(status.reason);
  const wasRefused = isOut && !isClosed;

  return (
    <Conversation
      title={name.startsWith('$') ? title : `#${name}`}
      place={title}
      entries={entries}
      earlier={earlier}
      beginning="This is where it begins."
      isReady={status.state === 'joined'}
      placeholder={placeholder(status.state, connection.state)}
      notice={
        wasRefused && (
          <div className={styles.refused} role="alert">
            <p>{explainLeft(status)}</p>
            {!name.startsWith('$') && (
              <button type="button" className={styles.button} onClick={rejoin}>
                Try to join again
              </button>
            )}
          </div>
        )
      }
      obstacle={
        isClosed ? NOT_CONNECTED : wasRefused ? 'You can write after joining the room.' : undefined
      }
      hint={
        hintOf(connection.state, connection.nextTryAt !== null) ||
        explainTyping(typists.map((typist) => nameIn(members, typist)))
      }
      messageBytes={client.session?.limits.message_bytes}
      isMine={isMine}
      onLoadEarlier={loadEarlier}
      onSend={(text) => send(CHAT_MESSAGE, chatPayload(author, text))}
      onRetry={retry}
      onDiscard={discard}
      onTyping={sayTyping}
    />
  );
}

/** What stands where the messages would be, when there are none. */
function placeholder(room: string, client: string): string {
  if (client === 'closed') return 'Not connected.';
  if (room === 'joined') return 'No messages yet. Say something nice.';
  if (room === 'left') return 'You are not in this room.';
  return client === 'connected' ? 'Joining…' : 'Waiting for the connection…';
}

function nameIn({ list }: MembersSnapshot, { client = '', user }: Sender): string {
  const member = list.find((each) => each.client === client);
  return presenceOf(member ?? { client, ...(user !== undefined && { user }) }).name;
}
