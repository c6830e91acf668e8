/** A piece of what somebody wrote. */
export interface Piece {
  text: string;
  /** An address that may be followed, and only by who clicks on it. */
  href?: string;
}

/** Nothing but the web: no `javascript:`, no `data:`, no application on the reader's computer. */
const LINK = /\bhttps?:\/\/[^\s<>"'`]+/gi;
/** At the end of an address they belong to the sentence. */
const AFTER = '.,;:!?)]}\'"';

/** Finds addresses in what is otherwise text. */
export function toPieces(text: string): Piece[] {
  const pieces: Piece[] = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const link = trimEnd(match[0]);
    const href = toUrl(link);
    if (!href) continue;
    if (match.index > end) pieces.push({ text: text.slice(end, match.index) });
    pieces.push({ text: link, href });
    end = match.index + link.length;
  }
  if (end < text.length) pieces.push({ text: text.slice(end) });
  return pieces;
}

/** A pattern for this looks from every mark to the end: 5 s for a message of nothing but dots. */
function trimEnd(link: string): string {
  let end = link.length;
  while (AFTER.includes(link.charAt(end - 1)) && end > 0) end -= 1;
  return link.slice(0, end);
}

function toUrl(link: string): string | undefined {
  try {
    return new URL(link).href;
  } catch {
    return undefined;
  }
}
