"""Which replica acts: member leases, leases of bases, assignment."""
