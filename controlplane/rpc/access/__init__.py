"""Who may call what, and how much of it: every call passes the guard before a byte of its request is read."""
