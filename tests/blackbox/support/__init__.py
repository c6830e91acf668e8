"""What the black-box tests stand on: a server process, and three kinds of client."""
