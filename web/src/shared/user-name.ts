/** A user's id as a name. A guest's is the server's choice and long: it says nothing to people. */
export function userName(user: string | undefined): string | undefined {
  return user?.startsWith('guest:') ? 'Guest' : user;
}

/** What a user's color is made from: a guest is its session, by which it is known in rooms. */
export function seedOf(user: string): string {
  return user.replace(/^guest:/, '');
}
