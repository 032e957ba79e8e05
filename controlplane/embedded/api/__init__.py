"""The objects of the embedded cluster: store, validation, patches."""
