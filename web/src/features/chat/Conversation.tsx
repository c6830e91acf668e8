import type { Earlier, Entry } from '@clarion/client/react';
import { type ReactNode, useMemo } from 'react';
import { Composer } from './Composer.tsx';
import styles from './Conversation.module.css';
import { MessageList } from './MessageList.tsx';
import type { IsMine } from './message.ts';
import { toRows } from './rows.ts';

interface ConversationProps {
  /** Of whom or what: `#general`, `Ada`. */
  title: string;
  /** Completes "Messages in ..." and "Message to ...". */
  place: string;
  entries: readonly Entry[];
  earlier: Earlier;
  beginning: string;
  isReady: boolean;
  placeholder: string;
  /** Something to know that is more than a hint. */
  notice?: ReactNode;
  obstacle: string | undefined;
  hint: string;
  messageBytes: number | undefined;
  isMine: IsMine;
  onLoadEarlier?: () => void;
  onSend: (text: string) => void;
  onRetry: (id: string) => void;
  onDiscard: (id: string) => void;
  onTyping?: (isTyping: boolean) => void;
}

const nothing = () => {};

/** Messages and the place to write, of a room or with somebody. */
export function Conversation(props: ConversationProps) {
  const { title, place, entries, isMine, notice, onLoadEarlier = nothing } = props;
  const rows = useMemo(() => toRows(entries, isMine), [entries, isMine]);

  return (
    <div className={styles.conversation}>
      {notice}
      <MessageList
        label={`Messages in ${place}`}
        rows={rows}
        earlier={props.earlier}
        beginning={props.beginning}
        isReady={props.isReady}
        placeholder={props.placeholder}
        onLoadEarlier={onLoadEarlier}
        onRetry={props.onRetry}
        onDiscard={props.onDiscard}
      />
      <Composer
        title={title}
        place={place}
        messageBytes={props.messageBytes}
        obstacle={props.obstacle}
        hint={props.hint}
        onSend={props.onSend}
        onTyping={props.onTyping ?? nothing}
      />
    </div>
  );
}

/** Why nothing can be written at all, what to know before writing, and whether one can wait. */
export function hintOf(client: string, isWaiting: boolean): string {
  if (client !== 'connecting') return '';
  return isWaiting ? 'Not connected: messages go out when the connection is back.' : 'Connecting…';
}

export const NOT_CONNECTED = 'You cannot write without a connection.';
