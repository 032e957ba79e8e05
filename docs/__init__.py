"""Documentation of the project; the pages that are made from code are made here."""
