import { useEffect, useState } from 'react';

/** True once `active` has been true for `delayMs` milliseconds without a break. */
export function useAfter(active: boolean, delayMs: number): boolean {
  const [isOver, setOver] = useState(false);
  useEffect(() => {
    if (!active) return;
    const timer = setTimeout(() => setOver(true), delayMs);
    return () => {
      clearTimeout(timer);
      setOver(false);
    };
  }, [active, delayMs]);
  return active && isOver;
}
