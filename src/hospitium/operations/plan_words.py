"""A plan in plain sentences: what it does at a site, what leaves, what is weaker than before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hospitium.plan import Plan
from hospitium.types import Json


@dataclass(frozen=True, kw_only=True)
class Change:
    """One key that differs from the plan that was approved last; ``weakens`` says what for."""

    key: str
    before: Json
    after: Json
    weakens: str = ""

    @property
    def words(self) -> str:
        """The change as one line; a weakening is marked."""
        line = f"{self.key}: {_said(self.before)} -> {_said(self.after)}"
        return f"WEAKER  {line} ({self.weakens})" if self.weakens else f"        {line}"


def what_it_does(plan: Plan) -> list[str]:
    """Return what a plan will do on the site's machine."""
    classes = ", ".join(plan.task.classes)
    lines = [
        f"It trains the model {plan.model.name} for {plan.task.kind} ({classes}) in "
        f"{plan.rounds.count} rounds of {plan.training.steps} steps each.",
        f"It reads this site's prepared {_cases(plan)}; they stay on this machine.",
        f"A round closes with at least {_sites(plan.rounds.quorum)}; a site that takes longer than "
        f"{plan.rounds.deadline_s:g} s is left out of it.",
    ]
    if plan.review.mode == "hold":
        lines.append(
            "The coordinator compares this site's changes and scores with the other sites' and "
            "holds back an odd change until a person there has looked at it."
        )
    if plan.training.moments == "keep":
        lines.append("Between rounds the state of the optimizer is kept on this machine.")
    if plan.plugin_sha256:
        lines.append(
            f"It runs CUSTOM CODE that is installed here, of digest {plan.plugin_sha256}. No code "
            "comes over the network."
        )
    return lines


def what_leaves(plan: Plan) -> list[str]:
    """Return what will leave the site if it takes part to the end."""
    count = plan.rounds.count
    scored = sum(plan.is_scored(number) for number in range(1, count + 1))
    seen = (
        "The coordinator can read each site's own change: secure sums are OFF."
        if plan.privacy.secure_sums == "off"
        else "The coordinator can read only the sum over the sites."
    )
    noise = (
        "No noise is added: differential privacy is OFF. What a model change tells about single "
        "cases has no proven bound."
        if plan.privacy.record_dp == "off"
        else f"Noise is added: epsilon {plan.privacy.epsilon:g} at delta "
        f"{plan.privacy.target_delta:g} for each subject, over the whole run."
    )
    bound = (
        f"at most {plan.algorithm.max_norm:g} long"
        if plan.algorithm.clip == "fixed"
        else f"at most {plan.algorithm.max_norm:g} long in round 1, then as the norms seen allow"
    )
    return [
        f"In each of {count} rounds: the change of the model's params, clipped ({bound}).",
        f"In {scored} of them, and after the last one of each model that may be chosen: scores on "
        f"validation cases, as whole-number sums (counts and histograms), {_release(plan)}.",
        "With each change: the number of training cases, of steps, and the seconds it took.",
        "Before a run that begins with a canary, one round by itself to see that all sites answer: "
        "the same once more; its change is part of no model.",
        seen,
        noise,
        "No image, no text, no name, no identifier and no path leaves.",
    ]


def difference(before: Plan | None, after: Plan) -> list[Change]:
    """Return every key that differs from the last approved plan, weakenings first.

    Without an earlier plan the list is empty: everything is new.
    """
    if before is None:
        return []
    old, new = _flat(before.as_dict()), _flat(after.as_dict())
    changes = [
        Change(key=key, before=old.get(key), after=new.get(key), weakens=_weakens(key, old, new))
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    return sorted(changes, key=lambda change: (not change.weakens, change.key))


def _weakens(key: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> str:
    """Return for what a changed key is weaker than before; "" where it is not."""
    if key not in _WEAKENINGS:
        return ""
    is_weaker, words = _WEAKENINGS[key]
    return words if is_weaker(old.get(key), new.get(key)) else ""


def _flat(table: Mapping[str, Any], path: str = "") -> dict[str, Json]:
    """Return a nested table as one of full keys; lists as tuples, so that they compare alike."""
    found: dict[str, Json] = {}
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = tuple(value) if isinstance(value, list) else value
    return found


def _cases(plan: Plan) -> str:
    kind = "volumes" if plan.imaging.kind == "volume" else "images"
    listed = ", ".join(plan.imaging.modalities)
    return f"{kind} ({listed})" if listed else kind


def _sites(count: int) -> str:
    return "1 site" if count == 1 else f"{count} sites"


def _release(plan: Plan) -> str:
    if plan.metrics.release == "per_site":
        return "shown as this site's own"
    return "shown only as a sum over the sites"


def _said(value: Json) -> str:
    if value is None or value == "":
        return "nothing"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def _grows(before: Any, after: Any) -> bool:
    return bool(after > before)


def _shrinks(before: Any, after: Any) -> bool:
    return bool(after < before)


def _becomes(*weak: Json) -> Callable[[Any, Any], bool]:
    return lambda before, after: after in weak


def _changes(before: Any, after: Any) -> bool:
    return bool(after)


def _bound_goes(before: Any, after: Any) -> bool:
    """Whether a privacy budget grows, or its bound is given up (0 means that there is none)."""
    return bool(after == 0.0 or after > before > 0.0)


def _loses_any(before: Any, after: Any) -> bool:
    """Whether a list that narrows (empty: anything) lets more in than before."""
    return not after or bool(before and set(after) - set(before))


_WEAKENINGS: Mapping[str, tuple[Callable[[Any, Any], bool], str]] = {
    "privacy.secure_sums": (_becomes("off"), "single updates become visible"),
    "privacy.record_dp": (_becomes("off"), "no noise protects single subjects"),
    "privacy.epsilon": (_bound_goes, "a larger privacy budget"),
    "privacy.target_delta": (_grows, "a larger privacy budget"),
    "metrics.release": (_becomes("per_site"), "this site's own figures become visible"),
    "rounds.quorum": (_shrinks, "fewer sites to hide among"),
    "rounds.count": (_grows, "more updates leave"),
    "evaluation.every": (_shrinks, "more scores leave"),
    "algorithm.max_norm": (_grows, "a larger change may leave"),
    "algorithm.clip_factor": (_grows, "a larger change may leave"),
    "algorithm.max_share": (_grows, "one site may weigh more"),
    "training.steps": (_shrinks, "fewer steps make single cases easier to see in a change"),
    "training.batch_size": (_shrinks, "smaller batches make single cases easier to see"),
    "plugin_sha256": (_changes, "other custom code runs here"),
    "model.name": (_changes, "another model: look at what it can remember"),
    "model.init_sha256": (_changes, "other first params: look at where they come from"),
    "imaging.burned_in": (_becomes("accept"), "images with text burnt in are trained on"),
    "imaging.secondary_capture": (_becomes("accept"), "screenshots are trained on"),
    "imaging.modalities": (_loses_any, "more kinds of images are read"),
    "imaging.body_parts": (_loses_any, "more kinds of images are read"),
    "imaging.views": (_loses_any, "more kinds of images are read"),
}
