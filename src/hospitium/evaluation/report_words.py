"""The report in words: what was learnt, as sentences that stay honest in every case."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

MARGIN = 0.01
"""The shared model counts as good as pooled training if it is not lower by more than this."""

FEW_POSITIVES = 20
"""Below this many positive cases the interval is printed first, the estimate second."""

MINUS = "\N{MINUS SIGN}"


def signed(value: float) -> str:
    """Return a difference with its sign, to three decimals.

    Example:
        >>> signed(0.0214)
        '+0.021'
    """
    return f"{MINUS if value < 0 else '+'}{abs(value):.3f}"


def figure(metric: Mapping[str, Any] | None, *, is_difference: bool = False) -> str:
    """Return a figure with its limits; few positives: limits first; none: the reason.

    Example:
        >>> figure({"estimate": 0.9, "lower": 0.85, "upper": 0.94, "n": 90, "num_positive": 30})
        '0.900 [0.850, 0.940]'
    """
    if metric is None or metric.get("estimate") is None:
        return f"missing: {(metric or {}).get('reason') or 'not recorded'}"
    show = signed if is_difference else "{:.3f}".format
    estimate, note = show(metric["estimate"]), metric.get("reason")
    if metric.get("lower") is None or metric.get("upper") is None:
        text = f"{estimate} [limits missing]"
    else:
        text = f"[{show(metric['lower'])}, {show(metric['upper'])}]"
        few = metric.get("num_positive")
        if few is not None and few < FEW_POSITIVES:
            text = f"{text} (estimate {estimate}; few positives: {few})"
        else:
            text = f"{estimate} {text}"
    return f"{text} ({note})" if note else text


def summary_sentence(report: Mapping[str, Any]) -> str:
    """Return what was learnt, in a few sentences without jargon beyond AUROC.

    Says better, as good, not told apart or worse according to the paired intervals, never
    according to the estimates alone, and names each site whose own model is better than the shared
    one by more than noise.

    Args:
        report: A `hospitium.evaluation.report_shape.Report`.
    """
    auroc = report["results"]["federated"]["test"]["auroc"]
    if auroc["estimate"] is None:
        return (
            "What was learnt cannot be said: the AUROC of the shared model on the joint test set "
            f"is missing ({auroc.get('reason', 'not recorded')})."
        )
    parts = [
        _opening(report),
        _against_local(report),
        _against_pooled(report),
        _against_own(report),
    ]
    return " ".join(parts)


def _opening(report: Mapping[str, Any]) -> str:
    auroc, sites = report["results"]["federated"]["test"]["auroc"], len(report["sites"])
    kind = "an AUROC" if len(report["classes"]) == 2 else "a macro AUROC"
    trained = f"{sites} sites trained one model together; it" if sites > 1 else "The model"
    return (
        f"{trained} reaches {kind} of {figure(auroc)} on the joint test set of {auroc['n']} cases."
    )


def _against_local(report: Mapping[str, Any]) -> str:
    """Compare with the mean of the sites alone."""
    difference = report["federated_minus_local_only"]
    local = report["results"]["local_only"]["test"]["auroc"]["estimate"]
    if difference["estimate"] is None or local is None:
        return f"It was not compared with sites alone: {_reason(difference)}."
    by = figure(difference, is_difference=True)
    if _lower(difference) > 0:
        return f"That is better than the mean site alone ({local:.3f}), by {by}."
    if _upper(difference) < 0:
        return f"That is worse than the mean site alone ({local:.3f}): {by}."
    return f"It cannot be told apart from the mean site alone ({local:.3f}): {by}."


def _against_pooled(report: Mapping[str, Any]) -> str:
    """Compare with pooled training, if there was any."""
    difference = report["federated_minus_pooled"]
    if difference["estimate"] is None:
        return f"It was not compared with pooled training: {_reason(difference)}."
    by = figure(difference, is_difference=True)
    if _lower(difference) > 0:
        verdict = f"It is better than pooled training: {by}."
    elif _lower(difference) > -MARGIN:
        below = "measurably, but " if _upper(difference) < 0 else ""
        verdict = (
            f"It is lower than pooled training {below}by less than the margin of {MARGIN}: {by}."
            if below
            else f"It is as good as pooled training within the margin of {MARGIN}: {by}."
        )
    elif _upper(difference) < 0:
        verdict = f"It is worse than pooled training: {by}."
    else:
        verdict = (
            f"Whether it is as good as pooled training is not settled, because the lower limit is "
            f"not above {signed(-MARGIN)}: {by}."
        )
    closed = report.get("gap_closed")
    if closed is None:
        return verdict
    share = f"{100 * closed:.0f} %"
    return f"{verdict} It closes {share} of the distance from the mean site alone to pooled."


def _against_own(report: Mapping[str, Any]) -> str:
    """Say at which sites the shared model is below the site's own by more than noise."""
    below = sites_below_own(report)
    if below:
        listed = "; ".join(f"{site}, {where}" for site, where in below.items())
        return (
            "The shared model is below a site's own model by more than noise at "
            f"{len(below)} of {len(report['gain_over_own_model'])} sites: {listed}."
        )
    gains = report["gain_over_own_model"].values()
    unknown = sum(gain["own"]["estimate"] is None for gain in gains)
    if gains and unknown == len(gains):
        return "No site's own test cases allow a comparison with its own model."
    but = (
        f" ({unknown} of {len(gains)} could not be compared on their own cases)" if unknown else ""
    )
    return f"At no site is the shared model below the site's own by more than noise{but}."


def sites_below_own(report: Mapping[str, Any]) -> dict[str, str]:
    """Return the sites whose gain over their own model is below 0 by more than noise, and where."""
    places = {"own": "on its own test cases", "joint": "on the joint test set"}
    below = {
        site: " and ".join(
            f"{place} ({figure(gain[key], is_difference=True)})"
            for key, place in places.items()
            if _upper(gain[key]) < 0
        )
        for site, gain in report["gain_over_own_model"].items()
    }
    return {site: where for site, where in sorted(below.items()) if where}


def _reason(metric: Mapping[str, Any]) -> str:
    return str(metric.get("reason") or "not recorded")


def _lower(metric: Mapping[str, Any]) -> float:
    """Return the lower limit; unknown is as low as it can be."""
    return -1.0 if metric.get("lower") is None else float(metric["lower"])


def _upper(metric: Mapping[str, Any]) -> float:
    """Return the upper limit; unknown is as high as it can be."""
    return 1.0 if metric.get("upper") is None else float(metric["upper"])


def size(num_bytes: float | None) -> str:
    """Return an amount of data in decimal units.

    Example:
        >>> size(391_224)
        '391 kB'
    """
    if num_bytes is None:
        return "missing: not recorded"
    amount, units = float(num_bytes), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1000 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    is_round = amount >= 100 or units[0] == "B"
    return f"{amount:.0f} {units[0]}" if is_round else f"{amount:.1f} {units[0]}"


def moment(text: str) -> str:
    """Return a time of day in UTC as a person reads it.

    Example:
        >>> moment("2026-11-22T00:57:09+00:00")
        '2026-11-22 00:57 UTC'
    """
    return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float | None) -> str:
    """Return a time span in words.

    Example:
        >>> duration(3725.4)
        '1 h 2 min'
    """
    if seconds is None:
        return "missing: not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
