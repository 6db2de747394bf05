"""The privacy protections that are off in a plan, in the words of every report."""

from __future__ import annotations

from hospitium.plan import Plan


def protections(plan: Plan) -> list[dict[str, str]]:
    """Return the protections that are off in a plan, and what that means in words."""
    return [
        {
            "name": "secure_sums",
            "value": plan.privacy.secure_sums,
            "meaning": "The coordinator sees each site's update, not only their sum.",
        },
        {
            "name": "record_dp",
            "value": plan.privacy.record_dp,
            "meaning": "No differential privacy: updates may tell something about single subjects.",
        },
        {
            "name": "metrics.release",
            "value": plan.metrics.release,
            "meaning": "Each site's own validation figures are seen by the coordinator.",
        },
    ]
