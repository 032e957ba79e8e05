"""The commands of mctl, one module for each group."""
