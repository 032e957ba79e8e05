"""When a gateway learned something."""

import time

from koupleless.tunnel.v1 import tunnel_pb2 as pb


def observed(report: pb.Report) -> pb.Report:
    """Return a report, said to be learned now."""
    report.observed_at.FromMilliseconds(int(time.time() * 1000))
    return report
