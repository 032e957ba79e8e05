"""Who calls, and what they may do: certificates, tokens of this machine, reviews by the API server."""
