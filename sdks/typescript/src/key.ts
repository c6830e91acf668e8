/** Makes idempotency keys that differ between clients (104 random bits) and between publications of a client. */
export function keyMaker(random: () => number): () => string {
  let prefix = '';
  let count = 0;
  return () => {
    prefix ||= [random(), random()].map((part) => part.toString(36).slice(2, 12)).join('');
    return `${prefix}-${(++count).toString(36)}`;
  };
}
