"""A separate Ray cluster for a test, at its own address, so that tests that run at the same time do not join it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

# A node counts as dead after 10 s without a response instead of 30 s; a busy machine may take seconds to respond.
_HEALTH = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 10}


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """Start a cluster whose head has one CPU, and shut it down at the end; a test can add nodes."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": _HEALTH}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()  # type: ignore[no-untyped-call]
