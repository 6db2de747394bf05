"""The plan as frozen dataclasses: every key, its default, its bounds and what it means.

The dataclasses are the one source of the TOML that is accepted, of ``plan show``, of the commented
template and of ``docs/reference/plan.md``. A value here is the same for all sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, cast

from hospitium.types import Json
from hospitium.wire.canonical import canonical_json, digest

SCHEMA_VERSION = 2


def key(default: Any, note: str, **bounds: Any) -> Any:
    """Declare one key of a plan: its default, what it means, and its bounds.

    Bounds: ``low`` and ``high`` (inclusive), ``above`` (exclusive), ``choices`` (what is built),
    ``is_open`` (a plug-in may add names), ``reserved`` (names of later versions: read, then refused
    by name in ``plan check``). Those of a list hold for each of its items.
    """
    metadata = {"note": note, **bounds}
    if isinstance(default, dict | tuple):
        return field(default_factory=lambda: default, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class TaskSection:
    """What is to be learnt."""

    kind: str = key(
        "classification",
        "what is predicted from a case",
        choices=("classification",),
        reserved=("multilabel", "ordinal", "segmentation", "tabular", "survival", "time_series"),
    )
    classes: tuple[str, ...] = key(
        ("normal", "pneumonia"), "names of the classes; with two, the last is the positive one"
    )


@dataclass(frozen=True, kw_only=True)
class PipelineSection:
    """The steps from an image to a training case, the same at every site."""

    size: tuple[int, ...] = key(
        (28, 28),
        "rows and columns of an image in pixels; of a volume three numbers, along the RAS+ axes",
        low=8,
        high=1024,
    )
    channels: int = key(1, "1 grey, 3 colour", choices=(1, 3))
    crop_field: bool = key(
        False, "fundus photographs: cut to the square about the round field first"
    )
    n4: bool = key(False, "MR volumes: take out the bias field (N4); a minute for a small volume")
    spacing_mm: tuple[float, ...] = key(
        (),
        "resample to this spacing, one number for each of size; empty keeps what is there",
        above=0.0,
        high=1000.0,
    )
    intensity: str = key(
        "range",
        "range of the bit depth, or percentiles of the image, to [0, 1]; zscore of its foreground; "
        "window clips physical values to [0, 1]; pooled: clip by window, then mean and std",
        choices=("range", "percentile", "zscore", "window", "pooled"),
    )
    low: float = key(1.0, "percentile: the one that becomes 0", low=0.0, high=100.0)
    high: float = key(99.0, "percentile: the one that becomes 1", low=0.0, high=100.0)
    window: tuple[float, ...] = key(
        (), "window and pooled: lowest and highest physical value, for CT in HU"
    )
    mean: float = key(0.0, "pooled: subtracted after clipping")
    std: float = key(1.0, "pooled: divided by after clipping", above=0.0)
    background: float = key(
        0.0, "what pixels that are not image become, and borders that are added, after intensity"
    )
    resize: str = key(
        "fit",
        "fit: all of the image, padded to the shape of size, then resized (shrinking averages); "
        "crop: cut or padded about the centre, never resized",
        choices=("fit", "crop"),
    )


@dataclass(frozen=True, kw_only=True)
class ImagingSection:
    """The data contract: which images are cases, and what a case looks like at every site."""

    kind: str = key("image", "a case is one image, or one volume", choices=("image", "volume"))
    modalities: tuple[str, ...] = key((), 'DICOM codes, e.g. ["CR", "DX"]; empty: any')
    body_parts: tuple[str, ...] = key((), 'BodyPartExamined, e.g. ["CHEST"]; empty: any')
    views: tuple[str, ...] = key((), 'ViewPosition, e.g. ["PA", "AP"]; empty: any')
    secondary_capture: str = key(
        "refuse",
        "refuse, or accept, screenshots and digitised film",
        choices=("refuse", "accept"),
    )
    lossy: str = key(
        "accept", "accept, or refuse, images compressed with loss", choices=("accept", "refuse")
    )
    raw: str = key(
        "refuse", "refuse, or accept, raw detector data (FOR PROCESSING)",
        choices=("refuse", "accept"),
    )  # fmt: skip
    burned_in: str = key(
        "refuse",
        "refuse, or accept, images that say that text is burnt into them",
        choices=("refuse", "accept"),
    )
    voi: str = key(
        "ignore",
        "ignore, or apply, the viewing window of CR, DX and MG",
        choices=("ignore", "apply"),
    )
    spacing_kinds: tuple[str, ...] = key(
        (),
        "accepted kinds of spacing of projections; empty: any, or none at all",
        choices=("calibrated", "detector", "scanned", "none"),
    )
    min_slices: int = key(1, "fewest slices of a volume", low=1, high=8192)
    normalise: str = key(
        "image",
        "in training: per image to mean 0, sd 1; by the site's own training mean and sd; or none",
        choices=("image", "site", "none"),
    )
    pipeline: PipelineSection = field(default_factory=PipelineSection)


@dataclass(frozen=True, kw_only=True)
class ModelSection:
    """The model, by its registry name, and where its first params come from."""

    name: str = key("small_cnn", "a name of the model registry (docs/reference/models.md)")
    args: Mapping[str, Json] = key({}, "arguments of that model, checked against the registry")
    init_seed: int = key(
        7, "first params are drawn from this seed, on CPU, in a fixed order", low=0
    )
    init_file: str = key("", "or: a safetensors file of pretrained params; empty means the seed")
    init_sha256: str = key("", "digest of the first params; checked whenever it is given")


@dataclass(frozen=True, kw_only=True)
class AlgorithmSection:
    """How updates become the next params."""

    name: str = key(
        "fedavg",
        "fedavg, fedprox with mu, fedadam (the coordinator steps by AdamW), or the plug-in's",
        choices=("fedavg", "fedprox", "fedadam"),
        is_open=True,
        reserved=("fedavgm", "fedyogi", "fedadagrad", "fednova", "scaffold", "fedbn",
                  "silobn", "fixbn", "fedper", "ditto", "fedbuff", "cyclic", "trimmed_mean"),
    )  # fmt: skip
    mu: float = key(0.0, "FedProx: pull of a site's step towards the round's params", low=0.0)
    coordinator_lr: float = key(1.0, "step of the coordinator along the mean change", above=0.0)
    coordinator_schedule: str = key(
        "constant",
        "fedadam: that step over the rounds",
        choices=("constant", "cosine"),
    )
    coordinator_warmup: float = key(
        0.0, "fedadam: share of all rounds in which it rises (at most 200)", low=0.0, high=0.5
    )
    coordinator_decay: float = key(
        0.0, "fedadam: decoupled weight decay; not on biases and norms", low=0.0
    )
    beta1: float = key(0.9, "fedadam: memory of the mean change", low=0.0, high=0.9999)
    beta2: float = key(0.999, "fedadam: memory of its square", low=0.0, high=0.999999)
    weight_exponent: float = key(
        1.0, "weight of a site = cases^a: 0 equal, 1 by cases", low=0.0, high=1.0
    )
    max_share: float = key(
        0.5, "no site holds more of the weight (0.6 below 5 sites); 1 = no cap", above=0.0, high=1.0
    )
    clip: str = key(
        "adaptive",
        "bound on a site's change: adaptive (from the norms seen), or fixed at max_norm",
        choices=("adaptive", "fixed"),
    )
    max_norm: float = key(
        10.0, "the bound of round 1 (of all rounds where clip is fixed)", low=1e-6, high=1e6
    )
    clip_factor: float = key(1.5, "adaptive: times the median norm of the last 5 rounds", low=1.0)
    ema: float = key(
        0.0,
        "running average of the params kept for evaluation: 0 off, else e.g. 0.9",
        low=0.0,
        high=0.999,
    )


@dataclass(frozen=True, kw_only=True)
class TrainingSection:
    """What a site does in a round."""

    steps: int = key(10, "optimizer steps per round, equal at all sites", low=1, high=100_000)
    batch_size: int = key(32, "cases per step, on average over the sites", low=1, high=65_536)
    batching: str = key(
        "proportional",
        "equal: the same at all sites; proportional: each site draws the same share of its cases",
        choices=("equal", "proportional"),
    )
    sampling_rate: float = key(
        0.0,
        "that share; filled in from the sites' counts when a run starts, between machines when the "
        "plan is offered",
        low=0.0,
        high=1.0,
    )
    optimizer: str = key("adamw", "adamw, or sgd with Nesterov momentum", choices=("adamw", "sgd"))
    lr: float = key(0.004, "the highest learning rate", above=0.0)
    momentum: float = key(0.9, "sgd only", low=0.0, high=0.9999)
    weight_decay: float = key(0.05, "decoupled; not on biases and norms", low=0.0)
    schedule: str = key(
        "cosine",
        "over the total of all rounds' steps, not restarted",
        choices=("cosine", "constant"),
    )
    warmup: float = key(
        0.05, "share of all steps in which the rate rises (at most 200 steps)", low=0.0, high=0.5
    )
    moments: str = key(
        "keep",
        "optimizer state between rounds: reset, or keep at the site (it never travels)",
        choices=("reset", "keep"),
    )
    loss: str = key("cross_entropy", "a name of the loss registry")
    class_weighting: str = key(
        "logit_adjusted",
        "none; balanced: over all sites' counts; logit_adjusted: by the site's own label shares",
        choices=("none", "balanced", "logit_adjusted"),
    )
    class_weights: tuple[float, ...] = key(
        (),
        "the weights themselves; filled in from the sites' counts when a balanced run starts, "
        "between machines when the plan is offered",
    )
    label_smoothing: float = key(0.0, "", low=0.0, high=0.5)
    augment: str = key(
        "radiograph",
        "none, radiograph (rotate, shift, scale, contrast, gamma, noise), or radiograph_strong",
        choices=("none", "radiograph", "radiograph_strong"),
    )
    mixed_precision: bool = key(True, "on a GPU; on a CPU it changes nothing")


@dataclass(frozen=True, kw_only=True)
class RoundsSection:
    """How many rounds, who must answer, and how long is waited."""

    count: int = key(200, "rounds", low=1, high=100_000)
    quorum: int = key(
        2, "the fewest sites whose updates make a round; below it the model stays", low=1
    )
    deadline_s: float = key(
        600.0, "seconds until a silent site is left out of the round", above=0.0
    )
    keep_last: int = key(
        3, "params of the last K rounds are kept, and those of the best", low=1, high=100_000
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationSection:
    """How the model that is used is chosen, and what is measured."""

    every: int = key(
        1, "the sites score the incoming params in round 1 and every so many rounds after", low=1
    )
    choose: str = key(
        "last",
        "which round's params are used: best on validation, or last",
        choices=("best", "last"),
    )
    metric: str = key("auroc", "validation metric that chooses", choices=("auroc", "loss"))
    threshold: str = key(
        "youden", "operating point for two classes, on validation cases only", choices=("youden",),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ReviewSection:
    """Which updates a person looks at before they count."""

    mode: str = key(
        "hold",
        "hold: an odd update does not count until a person releases it; off: none is looked at",
        choices=("hold", "off"),
    )
    on_held: str = key(
        "go_on",
        "go_on: the round closes without it, if the quorum holds; wait: for a person's decision",
        choices=("go_on", "wait"),
    )
    deadline_s: float = key(
        86400.0, "wait: seconds until it is excluded by itself, if the quorum holds", above=0.0
    )
    flag_at: float = key(
        4.0, "robust distance from the other sites or the site's own past that is shown", low=2.0
    )
    hold_at: float = key(6.0, "robust distance that holds an update", low=3.0)
    lasting_at: float = key(
        3.2, "mean distance from the others over five rounds that holds one", low=2.0
    )


@dataclass(frozen=True, kw_only=True)
class AgreementSection:
    """Under which agreement it is run, and whose the model is then."""

    reference: str = key(
        "", "the consortium's agreement, as its number or title (printable ASCII, at most 512)"
    )
    licence: str = key(
        "", "the licence of the model, as the agreement has it (printable ASCII, at most 512)"
    )


@dataclass(frozen=True, kw_only=True)
class PrivacySection:
    """What protects the updates. What is off is said in every report."""

    secure_sums: str = key(
        "off",
        "whether the coordinator sees only sums",
        choices=("off",),
        reserved=("on", "exact", "compact"),
    )
    record_dp: str = key(
        "off", "differential privacy per subject", choices=("off",), reserved=("on",)
    )
    epsilon: float = key(0.0, "privacy budget, where record_dp is on", low=0.0)
    target_delta: float = key(0.0, "", low=0.0, high=0.1)


@dataclass(frozen=True, kw_only=True)
class MetricsSection:
    """Which figures leave a site."""

    release: str = key(
        "per_site",
        "per_site: each site's figures are seen",
        choices=("per_site",),
        reserved=("pooled",),
    )


@dataclass(frozen=True, kw_only=True)
class EngineSection:
    """How tasks and updates travel."""

    name: str = key(
        "in_process",
        "in_process: all sites on this machine; between machines the hub takes its place",
        choices=("in_process",),
        reserved=("hub", "flower", "flare"),
    )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a federation agreed to run; immutable, named by the digest of its canonical bytes."""

    name: str = key("pneumonia", "a short name for people")
    seed: int = key(7, "all randomness flows from it", low=0, high=(1 << 53) - 1)
    task: TaskSection = field(default_factory=TaskSection)
    imaging: ImagingSection = field(default_factory=ImagingSection)
    model: ModelSection = field(default_factory=ModelSection)
    algorithm: AlgorithmSection = field(default_factory=AlgorithmSection)
    training: TrainingSection = field(default_factory=TrainingSection)
    rounds: RoundsSection = field(default_factory=RoundsSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    review: ReviewSection = field(default_factory=ReviewSection)
    metrics: MetricsSection = field(default_factory=MetricsSection)
    privacy: PrivacySection = field(default_factory=PrivacySection)
    engine: EngineSection = field(default_factory=EngineSection)
    agreement: AgreementSection = field(default_factory=AgreementSection)
    plugin_sha256: str = key("", "digest of the plug-in file, where one is used; in_process only")

    def as_dict(self) -> dict[str, Json]:
        """Return every value, defaults included, as plain JSON with the schema's version."""
        return {"schema_version": SCHEMA_VERSION, **cast(dict[str, Json], asdict(self))}

    @property
    def canonical(self) -> bytes:
        """The bytes that are digested, stored and one day signed."""
        return canonical_json(self.as_dict())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes: the name under which a plan is approved."""
        return digest(self.canonical)

    def is_scored(self, round_number: int) -> bool:
        """Whether the sites score the incoming params in this round, before they train."""
        return (round_number - 1) % self.evaluation.every == 0

    @property
    def total_steps(self) -> int:
        """Optimizer steps of one site over the whole run; the learning-rate schedule's length."""
        return self.rounds.count * self.training.steps
