"""What a worker process does with a request: answer one task as one site, and say how it went."""

from __future__ import annotations

import base64
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from hospitium.errors import CorruptedError, HospitiumError, SiteError, UpdateError
from hospitium.plan import Plan
from hospitium.plan.reading import plan_from_dict
from hospitium.site.agent import Site, answer
from hospitium.site.consent import Consent
from hospitium.site.egress import prepare
from hospitium.site.public_words import closed, failed_with
from hospitium.training import Trainer, trainer_for
from hospitium.training.plugins import Plugin, load_plugin
from hospitium.types import Params
from hospitium.wire import blob
from hospitium.wire.canonical import canonical_json
from hospitium.wire.envelope import decode_task

SITE_LOG = "site.log"
"""What helps the site's own staff and goes no further, in the site's folder."""


def answer_request(request: bytes) -> bytes:
    """Answer one task for one site."""
    fields = json.loads(request)
    folder = Path(fields["folder"])
    return public_words(lambda: _answer(fields, folder), folder)


def public_words(work: Callable[[], str], folder: Path) -> bytes:
    """Reply with an envelope in base64; every failure becomes words of the closed list.

    What helps the site's own staff, with its traceback, is appended to `SITE_LOG` in the site's
    folder and goes no further.
    """
    try:
        return canonical_json({"envelope": work()})
    except SiteError as error:
        public = closed(error.public)
        _log(folder, error.detail if public == error.public else f"{error.public}\n{error.detail}")
        return canonical_json({"error": public})
    except HospitiumError as error:
        _log(folder, traceback.format_exc())
        return canonical_json({"error": closed(f"the site failed with {error.code}")})
    except Exception as error:
        _log(folder, traceback.format_exc())
        return canonical_json({"error": failed_with(error)})


def read_reply(reply: bytes) -> Mapping[str, str]:
    """Return what a worker replied: an ``envelope`` in base64, or ``error``, words about one.

    Raises:
        UpdateError: It is neither (``canonical``): nothing of it was used.
    """
    try:
        fields = json.loads(reply)
        if set(fields) == {"error"} and isinstance(fields["error"], str):
            return {"error": fields["error"]}
        base64.b64decode(fields["envelope"], validate=True)
        return {"envelope": fields["envelope"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UpdateError("canonical", "A worker replied what cannot be read.") from error


def _answer(fields: dict[str, Any], folder: Path) -> str:
    """Return the envelope of the site's update, in base64."""
    plan, trainer, manifest = _prepared(
        json.dumps(fields["plan"], sort_keys=True), fields["plugin"]
    )
    params = _params(Path(fields["params"]), manifest)
    task = decode_task(base64.b64decode(fields["task"]), params=params)
    site = Site(
        site_id=fields["site_id"],
        cases_folder=Path(fields["cases"]),
        folder=Path(fields.get("state", folder)),
        consent=Consent(plan_digest=plan.digest, num_cases=int(fields["num_cases"])),
    )
    update = answer(task, plan=plan, site=site, trainer=trainer)
    envelope, _ = prepare(
        update,
        task=task,
        outbox=Path(fields["outbox"]),
        is_sealed=fields.get("is_sealed", False),
    )
    return base64.b64encode(envelope).decode()


@lru_cache(maxsize=4)
def _prepared(plan_json: str, plugin: str) -> tuple[Plan, Trainer, blob.Manifest]:
    """Build a plan's trainer once for each worker; one torch thread, deterministic.

    The manifest is that of the params that the plan's model has.
    """
    plan = plan_from_dict(json.loads(plan_json))
    loaded = load_plugin(Path(plugin)) if plugin else Plugin()
    if loaded.sha256 != plan.plugin_sha256:
        raise SiteError("the plug-in file is not the one of the plan")
    trainer = trainer_for(plan, plugin=loaded)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    return plan, trainer, blob.manifest_of(trainer.first_params())


def _params(path: Path, manifest: blob.Manifest) -> Params:
    """Return the params of a task; the header of their file is compared with the plan's model."""
    try:
        return blob.read(path, manifest=manifest)
    except CorruptedError as error:
        raise SiteError(
            "the params that came are not those of the plan's model", detail=str(error)
        ) from error


def _log(folder: Path, text: str) -> None:
    """Keep what happened for the site's own staff."""
    if text:
        with suppress(OSError), (folder / SITE_LOG).open("a", encoding="utf-8") as file:
            file.write(text.rstrip() + "\n")
