"""Who we are to Kubernetes: kubeconfig files as kubectl reads them, exec plugins, ID tokens, a Pod's own account."""
