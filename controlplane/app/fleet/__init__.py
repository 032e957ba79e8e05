"""All bases of this replica."""
