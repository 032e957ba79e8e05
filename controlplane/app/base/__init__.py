"""One base: its actor and what the actor works with."""
