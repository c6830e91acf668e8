import { useStore } from '@clarion/client/react';
import { useEffect } from 'react';
import { myName } from '../features/identity/identity.ts';
import { NameChooser } from '../features/identity/NameChooser.tsx';
import { client } from './chat.ts';
import { Shell } from './Shell.tsx';

export function App() {
  const hasName = useStore(myName, (name) => name !== '');

  useEffect(() => {
    if (!hasName) return;
    client.connect();
    // Who leaves the page leaves the rooms, at once and not only when the session has expired. The
    // page may come back as it was, by the back button.
    const leave = () => client.close();
    const comeBack = ({ persisted }: PageTransitionEvent) => persisted && client.connect();
    window.addEventListener('pagehide', leave);
    window.addEventListener('pageshow', comeBack);
    return () => {
      window.removeEventListener('pagehide', leave);
      window.removeEventListener('pageshow', comeBack);
    };
  }, [hasName]);

  return hasName ? <Shell /> : <NameChooser />;
}
