"""What is aimed at. Every value is the largest that is good enough."""

ONBOARDING_SECONDS_PER_BASE = 10 / 1000
"""1,000 bases in 10 s, from the first heartbeat to Ready Nodes."""
ROLLOUT_SECONDS_PER_MODULE = 60 / 10_000
"""10,000 Pods on 1,000 bases Running in 60 s."""
BOUND_TO_COMMAND_MS = 100.0
RESULT_TO_STATUS_MS = 200.0
WRITES_PER_VNODE_MINUTE = 6.2
"""A kubelet's."""
CONTROL_PLANE_CORES_PER_BASE = 0.5 / 5000
GATEWAY_CORES_PER_BASE = 0.7 / 5000
CONTROL_PLANE_BYTES = 400e6
VNODE_BYTES = 20e3
TAKEOVER_P50_SECONDS = 8.0
TAKEOVER_P99_SECONDS = 15.0
HANDOVER_SECONDS = 2.0
BALANCE_SECONDS = 60.0
MQTT_CORES_PER_BASE = 0.7 / 10_000
"""Of gateway and control plane each."""
MQTT_MESSAGES_PER_SECOND = 5000.0
"""The least that is good enough, of one gateway, without loss."""
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
