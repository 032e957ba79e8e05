"""What is aimed at. Every value is the largest that is good enough, or the smallest where it says so."""

ONBOARDING_SECONDS_PER_BASE = 10 / 1000
"""1,000 bases in 10 s, from the first heartbeat to Ready Nodes."""
ONBOARDING_MULTIPLE = 1.3
"""Of a bare client that writes the same Leases and Nodes."""
ONBOARDING_MS = {"control plane": 2.0, "gateway": 1.5}
"""CPU time for each base."""
ROLLOUT_SECONDS_PER_MODULE = 60 / 10_000
"""10,000 Pods on 1,000 bases Running in 60 s."""
ROLLOUT_MULTIPLE = 1.3
"""Of a bare client that creates as many Pods and patches the status of each."""
ROLLOUT_MS = {"control plane": 2.0, "gateway": 1.2}
"""CPU time for each module."""
DENSER = 10
"""How many times as many modules a tenth of the bases gets, in the measurement of density."""
DENSE_MULTIPLE = 1.2
"""Of the CPU time for each module, with ten times as many modules on each base."""
DELETION_MULTIPLE = 1.5
"""Of a bare client that deletes as many Pods."""
WRITES_PER_INSTALL = 1.2
WRITES_PER_UNINSTALL = 1.1
BOUND_TO_COMMAND_MS = 100.0
RESULT_TO_STATUS_MS = 200.0
LEASE_DURATION, LONG_LEASE_DURATION = 40, 60
"""Seconds that a VNode's Lease lasts by default, and from which on it is renewed half as often."""
WRITES_PER_VNODE_MINUTE, LONG_WRITES_PER_VNODE_MINUTE = 6.2, 3.2
"""A kubelet's, and with the long Lease."""
CORES_PER_BASE = {"control plane": 0.08 / 1000, "gateway": 0.10 / 1000}
"""At rest."""
CORES_WITH_MODULES = 1.15
"""Of those without modules, with 10 on each base."""
EXPONENT = 1.05
"""Of the number of bases, with which cost may grow; 1 is in proportion."""
CONTROL_PLANE_BYTES = 400e6
VNODE_BYTES = 20e3
MODULE_BYTES = 3e3
TAKEOVER_P50_SECONDS = 6.0
TAKEOVER_P99_SECONDS = 10.0
HANDOVER_SECONDS = 1.0
BALANCE_SECONDS = 60.0
MQTT_CORES_PER_BASE = 0.7 / 10_000
"""Of gateway and control plane each."""
MQTT_MESSAGE_US = 120.0
"""CPU time of the gateway for each message at rest."""
MQTT_MESSAGES_PER_SECOND = 8000.0
"""At least, of one gateway, without loss."""
MQTT_RECONNECT_SECONDS_PER_BASE = 30 / 5000
TLS_SHARE = 0.10
"""More CPU time with TLS than without."""
REVIEWS_PER_MINUTE = 6.0
"""Of one caller's token, and of each of its rights."""
HEARTBEAT_MS = 1000.0
"""p99 of the answer to a good base's heartbeat under attack."""
POD_READY_SECONDS = 10.0
CONTROL_PLANE_LIMIT_MIB = 1024.0
GATEWAY_LIMIT_MIB = 512.0
"""Limits of memory in deploy/."""
TOOLS_BLOCK_MS = 20.0
"""The longest time for which what tools ask keeps the loop from turning."""
