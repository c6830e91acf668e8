import { useEffect } from 'react';
import { myName } from '../features/identity/identity.ts';
import { NameChooser } from '../features/identity/NameChooser.tsx';
import { useStore } from '../shared/use-store.ts';
import { chat } from './chat.ts';
import { Shell } from './Shell.tsx';

export function App() {
  const name = useStore(myName);
  const hasName = name !== '';

  useEffect(() => {
    if (hasName) chat.client.connect();
  }, [hasName]);

  return hasName ? <Shell name={name} /> : <NameChooser />;
}
