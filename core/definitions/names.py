"""Names that have a meaning in definitions."""

from typing import Final

__all__ = ["LIMITS", "NODE_PREFIX", "OPERATOR_POLICY", "RESERVED_PREFIX"]

LIMITS: Final = "vhost-limits"
"""The component of parameters that are the limits of a virtual host."""
OPERATOR_POLICY: Final = "operator_policy"
"""The component of parameters that are operator policies."""
RESERVED_PREFIX: Final = "amq."
"""The beginning of the names of predeclared exchanges and of queues that the broker names."""
NODE_PREFIX: Final = "internal"
"""The beginning of the names of global parameters that belong to one node, such as RabbitMQ's internal_cluster_id."""
