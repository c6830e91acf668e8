import { type ReactNode, useEffect, useRef } from 'react';
import { CloseIcon } from './icons.tsx';
import styles from './Panel.module.css';

interface PanelProps {
  label: string;
  /** There is room for it beside the rest; otherwise it opens over it. */
  isStatic: boolean;
  isOpen: boolean;
  side: 'left' | 'right' | 'center';
  onClose: () => void;
  children: ReactNode;
}

/** A side of the page: beside the conversation where it fits, a modal dialog where it does not. */
export function Panel({ label, isStatic, isOpen, side, onClose, children }: PanelProps) {
  if (isStatic) {
    return (
      <aside className={`${styles.aside} ${styles[side]}`} aria-label={label}>
        {children}
      </aside>
    );
  }
  return (
    isOpen && (
      <Drawer label={label} side={side} onClose={onClose}>
        {children}
      </Drawer>
    )
  );
}

function Drawer({ label, side, onClose, children }: Omit<PanelProps, 'isStatic' | 'isOpen'>) {
  const dialog = useRef<HTMLDialogElement>(null);

  useEffect(() => {
    const element = dialog.current;
    // Modal: focus stays inside, Escape closes, and focus goes back to where it was.
    element?.showModal();
    return () => element?.close();
  }, []);

  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape and the button close it by keyboard
    <dialog
      ref={dialog}
      className={`${styles.drawer} ${styles[side]}`}
      aria-label={label}
      onClose={onClose}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div className={styles.inside}>
        <button
          type="button"
          className={styles.close}
          aria-label={`Close ${label}`}
          onClick={onClose}
        >
          <CloseIcon />
        </button>
        {children}
      </div>
    </dialog>
  );
}
