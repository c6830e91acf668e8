import { useClient, useConnection, useStore } from '@clarion/client/react';
import { useEffect } from 'react';
import type { Presence } from '../../shared/presence.ts';
import { userName } from '../../shared/user-name.ts';
import styles from './Conversation.module.css';
import { Conversation, hintOf, NOT_CONNECTED } from './Conversation.tsx';
import type { DirectMessages, Inbox as InboxState } from './direct.ts';
import type { IsMine } from './message.ts';

interface DirectConversationProps {
  direct: DirectMessages;
  user: string;
  /** Seen in one of my rooms; undefined when not. */
  presence: Presence | undefined;
  isMine: IsMine;
}

function explainKeeping({ isKept, keepsMine }: InboxState): string {
  if (!isKept) return 'Kept in your two windows only, until they are closed';
  if (!keepsMine) return 'What you write is shown in this window only, until it is closed';
  return 'Kept by the server, for all your devices';
}

/** What one other user and I have written to each other, and what becomes of it. */
export function DirectConversation({ direct, user, presence, isMine }: DirectConversationProps) {
  const client = useClient();
  const connection = useConnection();
  const thread = useStore(direct.threads, (threads) => threads.get(user));
  const inbox = useStore(direct.inbox);
  const isClosed = connection.state === 'closed';
  const name = presence?.name ?? thread?.name ?? userName(user) ?? user;
  const isGuest = user.startsWith('guest:');

  useEffect(() => direct.open(user, name), [direct, user, name]);

  return (
    <Conversation
      title={name}
      place={name}
      entries={thread?.entries ?? []}
      earlier="none"
      beginning={`Only you and ${name} read this.`}
      isReady={connection.state === 'connected'}
      placeholder={isClosed ? 'Not connected.' : `Only you and ${name} read this. Say hello.`}
      notice={
        thread?.isForbidden ? (
          <p className={styles.refused} role="alert">
            This server does not let you write to single users.
          </p>
        ) : (
          <p className={styles.note}>
            {!presence && isGuest && (
              <span className={styles.warn}>
                {name} is in none of your rooms and may not be reached.
              </span>
            )}
            <span>
              {explainKeeping(inbox)}
              {isGuest ? '; what a guest misses while away is lost.' : '.'}
            </span>
          </p>
        )
      }
      obstacle={isClosed ? NOT_CONNECTED : undefined}
      hint={hintOf(connection.state, connection.nextTryAt !== null)}
      messageBytes={client.session?.limits.message_bytes}
      isMine={isMine}
      onSend={(text) => direct.send(user, text)}
      onRetry={(id) => direct.retry(user, id)}
      onDiscard={(id) => direct.discard(user, id)}
    />
  );
}
