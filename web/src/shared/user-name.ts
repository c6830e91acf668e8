/** A user's id as a name. A guest's is the server's choice and long: it says nothing to people. */
export function userName(user: string | undefined): string | undefined {
  return user?.startsWith('guest:') ? 'Guest' : user;
}
