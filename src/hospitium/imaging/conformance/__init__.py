"""Checks of a site's data before it joins: PASS, WARN or FAIL, with the remedy and who acts."""

from hospitium.imaging.conformance.case_facts import CaseFacts, Inventory
from hospitium.imaging.conformance.check import Check
from hospitium.imaging.conformance.checks_site import Capacity, Earlier
from hospitium.imaging.conformance.gathering import gather
from hospitium.imaging.conformance.report import Report, Surroundings, run_checks

__all__ = [
    "Capacity",
    "CaseFacts",
    "Check",
    "Earlier",
    "Inventory",
    "Report",
    "Surroundings",
    "gather",
    "run_checks",
]
