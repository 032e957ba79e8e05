"""What all tests have: real servers where they ask for them."""

pytest_plugins = ["tests.servers.fixtures"]
