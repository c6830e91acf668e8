import { ClarionProvider } from '@clarion/client/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import '../shared/tokens.css';
import '../shared/base.css';
import { App } from './App.tsx';
import { client } from './chat.ts';

createRoot(document.getElementById('root') as HTMLElement).render(
  <StrictMode>
    <ClarionProvider client={client}>
      <App />
    </ClarionProvider>
  </StrictMode>,
);
