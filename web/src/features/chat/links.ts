/** A piece of what somebody wrote. */
export interface Piece {
  text: string;
  /** An address that may be followed, and only by who clicks on it. */
  href?: string;
}

/** Nothing but the web: no `javascript:`, no `data:`, no application on the reader's computer. */
const LINK = /\bhttps?:\/\/[^\s<>"'`]+/gi;
/** Belongs to the sentence, not to the address. */
const AFTER = /[.,;:!?)\]}'"]+$/;

/** Finds addresses in what is otherwise text. */
export function toPieces(text: string): Piece[] {
  const pieces: Piece[] = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const link = match[0].replace(AFTER, '');
    const href = toUrl(link);
    if (!href) continue;
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) });
    pieces.push({ text: link, href });
    end = match.index + link.length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

function toUrl(link: string): string | undefined {
  try {
    return new URL(link).href;
  } catch {
    return undefined;
  }
}
