"""The kubelet API of all VNodes, as far as it makes sense for them: logs of modules, streams into their bases."""
