"""What tools ask for."""
