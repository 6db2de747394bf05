"""A site's settings for one PACS: where it is, who we are there, and how politely we ask."""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hospitium.errors import UsageError

KINDS = ("dicomweb", "dimse")
_RETRIEVE = ("auto", "get", "move")
_AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")  # PS3.5 6.2, AE: no backslash
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
_REQUIRED = {"dicomweb": ("url",), "dimse": ("host", "port", "ae_title", "our_ae_title")}


@dataclass(frozen=True, kw_only=True)
class PacsSettings:
    """One PACS, as a site's settings describe it. Nothing else is ever asked or listened to.

    Attributes:
        name: What the site calls it.
        kind: ``dicomweb`` (QIDO-RS, WADO-RS) or ``dimse`` (C-FIND, C-GET, C-MOVE).
        url: Root of the DICOMweb service.
        user: Of the DICOMweb service; without one nobody logs in.
        password_env: The environment variable that holds the password, or
        password_file: the file that does, readable by this account alone.
        ca_file: Certificates that the hospital trusts, as PEM; empty: those of the system.
        allow_http: Whether a password may travel without TLS to another machine.
        host, port, ae_title: Of the DIMSE service.
        our_ae_title: How we call ourselves; the PACS must know it.
        retrieve: ``get``, ``move``, or ``auto``: C-GET where it is offered, else C-MOVE.
        listen_host, listen_port: Where the PACS sends to after a C-MOVE.
        senders: AE titles that may send to us; empty: ``ae_title`` alone.
        sender_hosts: Addresses that may; empty: those of ``host``.
        hours: When we may ask, local time, as ``"20:00-06:00"``; empty: always.
        instances_per_s: The most that we fetch.
        quiet_s: How long a study must not have grown before it is fetched.
        quota_gib: The most that a cohort may take on disk.
        timeout_s: How long we wait for an answer.
        max_instance_mib: The largest instance that is taken.
        page_size: Studies asked for at a time.
    """

    name: str = "pacs"
    kind: str
    url: str = ""
    user: str = ""
    password_env: str = ""
    password_file: str = ""
    ca_file: str = ""
    allow_http: bool = False
    host: str = ""
    port: int = 0
    ae_title: str = ""
    our_ae_title: str = "HOSPITIUM"
    retrieve: str = "auto"
    listen_host: str = "0.0.0.0"  # noqa: S104  the PACS is another machine; senders are checked
    listen_port: int = 11112
    senders: tuple[str, ...] = ()
    sender_hosts: tuple[str, ...] = ()
    hours: str = ""
    instances_per_s: float = 10.0
    quiet_s: float = 60.0
    quota_gib: float = 100.0
    timeout_s: float = 30.0
    max_instance_mib: int = 1024
    page_size: int = 100

    def __post_init__(self) -> None:
        problems = list(_problems(self))
        if problems:
            raise UsageError(
                f"PACS settings {self.name}: {'; '.join(problems)}. Nothing was asked. Mend the "
                "settings."
            )

    @property
    def address(self) -> str:
        """What to call this PACS in a message."""
        return self.url if self.kind == "dicomweb" else f"{self.ae_title}@{self.host}:{self.port}"

    def password(self) -> str:
        """Return the password from the environment or its file; empty without a user.

        Raises:
            UsageError: It is not there, or other accounts may read the file.
        """
        if not self.user:
            return ""
        if self.password_env:
            value = os.environ.get(self.password_env, "")
            if not value:
                raise UsageError(
                    f"PACS settings {self.name}: the environment variable {self.password_env} is "
                    "empty or not set. Nothing was asked. Set it to the password, or name a "
                    "password_file."
                )
            return value
        return _password_of(Path(self.password_file), name=self.name)

    def is_open(self, now: time) -> bool:
        """Return whether we may ask at this local time."""
        found = _HOURS.fullmatch(self.hours)
        if found is None:
            return True
        hour, minute, to_hour, to_minute = (int(part) for part in found.groups())
        start, end = time(hour, minute), time(to_hour, to_minute)
        return start <= now < end if start < end else now >= start or now < end


def read_pacs_settings(path: Path) -> PacsSettings:
    """Read the settings of one PACS from a TOML or JSON file.

    Files that it names (``password_file``, ``ca_file``) are relative to its folder.

    Raises:
        UsageError: It cannot be read, has an unknown key, or a value that is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: PACS settings cannot be read ({error}). Nothing was asked. Write them as "
            "docs/how-to/connect-a-pacs.md shows."
        ) from error
    settings = parse_pacs_settings(text, where=str(path), is_json=path.suffix == ".json")
    named = {
        key: str(path.parent / getattr(settings, key))
        for key in ("password_file", "ca_file")
        if getattr(settings, key)
    }
    return replace(settings, **named)  # type: ignore[arg-type]


def parse_pacs_settings(
    text: str, *, where: str = "settings", is_json: bool = False
) -> PacsSettings:
    """Parse the settings of one PACS.

    Raises:
        UsageError: Not TOML (or JSON), an unknown key, or a value that is none.
    """
    try:
        table = json.loads(text) if is_json else tomllib.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{where}: not {'JSON' if is_json else 'TOML'} ({error}). Nothing was asked. Mend it."
        ) from error
    if not isinstance(table, dict) or "kind" not in table:
        raise UsageError(
            f'{where}: no kind, expected kind = "dicomweb" or "dimse". Nothing was asked. Write '
            "the settings as docs/how-to/connect-a-pacs.md shows."
        )
    return PacsSettings(**_checked(table, where=where))


def _checked(table: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return the values by field, each of its type."""
    defaults = {field.name: field.default for field in fields(PacsSettings)}
    values, problems = dict[str, Any](), list[str]()
    for key, value in table.items():
        default = "" if key == "kind" else defaults.get(key)
        if default is None:
            problems.append(f"{key} is no setting (there are {', '.join(sorted(defaults))})")
        elif isinstance(default, tuple):
            is_list = isinstance(value, list) and all(isinstance(part, str) for part in value)
            values[key] = tuple(value) if is_list else ()
            problems += [] if is_list else [f"{key} is {value!r}, expected a list of words"]
        elif isinstance(default, float) and type(value) in (int, float):
            values[key] = float(value)
        elif type(value) is not type(default):
            problems.append(f"{key} is {value!r}, expected a {type(default).__name__}")
        else:
            values[key] = value
    if problems:
        raise UsageError(f"{where}: {'; '.join(problems)}. Nothing was asked. Mend the settings.")
    return values


def _problems(settings: PacsSettings) -> list[str]:
    """Return what is wrong with the settings."""
    found = []
    if settings.kind not in KINDS:
        return [f"kind is {settings.kind!r}, expected one of {', '.join(KINDS)}"]
    missing = [name for name in _REQUIRED[settings.kind] if not getattr(settings, name)]
    if missing:
        found.append(f"{', '.join(missing)} missing")
    for name in ("instances_per_s", "quota_gib", "timeout_s", "max_instance_mib", "page_size"):
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            found.append(f"{name} is {value}, expected more than 0")
    if not 0 <= settings.quiet_s < math.inf:
        found.append(f"quiet_s is {settings.quiet_s}, expected seconds")
    if settings.hours and not _HOURS.fullmatch(settings.hours):
        found.append(f'hours is {settings.hours!r}, expected as "20:00-06:00"')
    return [*found, *(_web_problems if settings.kind == "dicomweb" else _dimse_problems)(settings)]


def _web_problems(settings: PacsSettings) -> list[str]:
    parts = urlsplit(settings.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return [f"url is {settings.url!r}, expected http://... or https://..."]
    if parts.username or parts.password or parts.query or parts.fragment:
        return ["url holds a user, a password or a query; give user and password_env instead"]
    found = []
    if settings.user and not (settings.password_env or settings.password_file):
        found.append("user without password_env or password_file")
    if settings.password_env and settings.password_file:
        found.append("both password_env and password_file")
    is_open = parts.scheme == "http" and not _is_this_machine(parts.hostname)
    if settings.user and is_open and not settings.allow_http:
        found.append("a password over http to another machine: use https, or say allow_http = true")
    return found


def _dimse_problems(settings: PacsSettings) -> list[str]:
    titles = [settings.ae_title, settings.our_ae_title, *settings.senders]
    found = [f"{title!r} is no AE title" for title in titles if not _AE_TITLE.fullmatch(title)]
    if settings.retrieve not in _RETRIEVE:
        found.append(f"retrieve is {settings.retrieve!r}, expected one of {', '.join(_RETRIEVE)}")
    for name in ("port", "listen_port"):
        if not 1 <= getattr(settings, name) <= 65_535:
            found.append(f"{name} is {getattr(settings, name)}, expected 1 to 65535")
    return found


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _password_of(path: Path, *, name: str) -> str:
    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise UsageError(
                f"PACS settings {name}: other accounts may read {path} (mode "
                f"{path.stat().st_mode & 0o777:o}, expected 600). Nothing was asked. Run "
                f"`chmod 600 {path}`."
            )
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"PACS settings {name}: the password_file cannot be read ({error}). Nothing was "
            "asked. Let this account read it."
        ) from error
