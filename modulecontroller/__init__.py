"""module-controller: the drop-in for the original's single Pod, and the quick start."""
