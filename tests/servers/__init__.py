"""Real servers for tests and benchmarks: Kubernetes (etcd, API server, controllers, scheduler) and Mosquitto.

``python -m tests.servers fetch`` gets the programs, ``where`` says where they are. ``KubeCluster`` and ``Mosquitto``
run them; ``fixtures`` gives them to pytest.
"""
