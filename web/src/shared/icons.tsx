import type { ReactNode } from 'react';

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg
      viewBox="0 0 24 24"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.8"
      strokeLinecap="round"
      strokeLinejoin="round"
      aria-hidden="true"
    >
      {children}
    </svg>
  );
}

export function MenuIcon() {
  return (
    <Icon>
      <path d="M4 7h16M4 12h16M4 17h10" />
    </Icon>
  );
}

export function PeopleIcon() {
  return (
    <Icon>
      <circle cx="9" cy="8" r="3.2" />
      <path d="M3 19c.6-3.2 3-5 6-5s5.4 1.8 6 5M16 5.300a3.2 3.2 0 0 1 0 5.400M17.5 14.300c1.9.7 3.1 2.3 3.5 4.7" />
    </Icon>
  );
}

export function SendIcon() {
  return (
    <Icon>
      <path d="M4.5 12 20 4.5 15.5 20l-3.7-6.300L4.5 12ZM11.8 13.7 20 4.5" />
    </Icon>
  );
}

export function CloseIcon() {
  return (
    <Icon>
      <path d="m6 6 12 12M18 6 6 18" />
    </Icon>
  );
}

export function DownIcon() {
  return (
    <Icon>
      <path d="M12 5v14M6 13l6 6 6-6" />
    </Icon>
  );
}

export function KeyboardIcon() {
  return (
    <Icon>
      <path d="M4 6.500h16a1 1 0 0 1 1 1v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1v-9a1 1 0 0 1 1-1ZM7 10h.01M10.300 10h.01M13.700 10h.01M17 10h.01M8 14h8" />
    </Icon>
  );
}

export function InboxIcon() {
  return (
    <Icon>
      <path d="M4 13.500 6.500 5h11L20 13.500V19H4v-5.500ZM4 13.500h4.500l1.500 2.500h4l1.500-2.500H20" />
    </Icon>
  );
}

export function Logo() {
  return <img src="/favicon.svg" width="28" height="28" alt="" />;
}
