"""A stage for these tests: each has its own bases and namespace."""

from tests.corner import everything as everything
from tests.corner import sandbox as sandbox
