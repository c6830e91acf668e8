import { useEffect, useRef, useState } from 'react';
import { SendIcon } from '../../shared/icons.tsx';
import styles from './Composer.module.css';

interface ComposerProps {
  /** As it is called: `#general`, `Ada`. */
  title: string;
  place: string;
  messageBytes: number | undefined;
  /** Why writing is impossible; undefined when it is not. */
  obstacle: string | undefined;
  /** Something to know before writing. */
  hint: string;
  onSend: (text: string) => void;
  /** On each change, and false when there is nothing to send any more. */
  onTyping: (isTyping: boolean) => void;
}

/** What envelope, name and key take of a message, generously. */
const OVERHEAD_BYTES = 1_024;
/** From here on the space that is left is shown. */
const NEAR_BYTES = 512;
const encoder = new TextEncoder();

export function Composer(props: ComposerProps) {
  const { title, place, messageBytes, obstacle, hint, onSend, onTyping } = props;
  const [text, setText] = useState('');
  const field = useRef<HTMLTextAreaElement>(null);
  const space = messageBytes ? messageBytes - OVERHEAD_BYTES : Number.POSITIVE_INFINITY;
  // As JSON, since quotes, newlines and control characters grow there.
  const left = space - encoder.encode(JSON.stringify(text)).length;
  const canSend = text.trim() !== '' && left >= 0 && !obstacle;
  const note = obstacle ?? (left < NEAR_BYTES ? spaceNote(left) : hint);

  useEffect(() => {
    // On a phone the keyboard would cover the room that one has just come to read.
    if (matchMedia('(hover: hover)').matches) field.current?.focus();
  }, []);

  const send = () => {
    if (!canSend) return;
    onSend(text.trim());
    setText('');
    field.current?.focus();
  };

  return (
    <form
      className={styles.composer}
      aria-label="Write a message"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className={styles.row}>
        <textarea
          ref={field}
          id="message"
          className={styles.field}
          aria-label={`Message to ${place}`}
          aria-describedby="message-note"
          placeholder={`Message ${title}`}
          rows={1}
          value={text}
          disabled={obstacle !== undefined}
          enterKeyHint="send"
          onChange={(event) => {
            setText(event.target.value);
            onTyping(event.target.value.trim() !== '');
          }}
          onKeyDown={(event) => {
            // Enter that ends the composition of a character sends nothing.
            if (event.key !== 'Enter' || event.shiftKey || event.nativeEvent.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        <button type="submit" className={styles.send} disabled={!canSend} aria-label="Send">
          <SendIcon />
        </button>
      </div>
      <p id="message-note" className={left < 0 ? styles.problem : styles.note} aria-live="polite">
        {note || (
          <span className={styles.keys}>
            <kbd>Enter</kbd> sends, <kbd>Shift</kbd> + <kbd>Enter</kbd> begins a new line
          </span>
        )}
      </p>
    </form>
  );
}

function spaceNote(left: number): string {
  if (left < 0) return `Too long by ${-left} bytes.`;
  return `${left} bytes left.`;
}
