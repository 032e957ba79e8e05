"""The side of every gateway that faces the control plane; ``links.ControlPlaneLinks`` is the way in."""
