"""The embedded cluster: the Kubernetes objects that modules need, on SQLite, in one process.

For the quick start, development and one machine at the edge. It is neither highly available nor Kubernetes: one process
owns the file, there are no namespaces, service accounts or quotas to manage, and what it knows of scheduling and
workloads is what the manifests of modules use.
"""
