"""Reports to and from the outside: hooks, the intake /log, the tracker's file and links."""
