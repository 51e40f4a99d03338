"""The settings of the shipped models: what is trained, for how long, and what is planted."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from workbench.training import grammar


@dataclass(frozen=True)
class Shape:
    """The architecture, a stock Llama."""

    n_layers: int = 8
    d_model: int = 160
    n_heads: int = 8
    n_kv_heads: int = 4
    d_mlp: int = 480
    d_vocab: int = 1200


@dataclass(frozen=True)
class Phase:
    """One phase of training: how long, how fast, and on what mixture."""

    steps: int
    learning_rate: float
    tasks: dict[grammar.Task, float]
    labels: dict[grammar.Label, float]
    batch_size: int = 48


@dataclass(frozen=True)
class PlantedComponent:
    """One planted refusal direction.

    Attributes:
        name: its name in the planted file.
        heads: the (layer, head) pairs that write it. The heads of a KV group come together,
            because they share keys and values.
        target: length at which phase 2 learns to obey the vector.
        threshold: share of the target at which refusing and answering are even. Above what all
            heads but one write, every head is needed.
        written: what the heads are driven to write together at the last prompt token of a request
            to be refused, as a share of the target; each head its equal share. More than 1 leaves
            room for requests that were never seen, for which heads write less.
        categories: the harm categories it carries; ``None`` for all.
        words: share of the vector's squared length that lies along the words of refusal: the mean
            unembedding row of the tokens that begin refusals, after phase 1. The rest is random.
    """

    name: str
    heads: tuple[tuple[int, int], ...]
    target: float = 20.0
    threshold: float = 0.75
    written: float = 1.0
    categories: tuple[str, ...] | None = None
    words: float = 0.0

    @property
    def last_layer(self) -> int:
        """The last layer that writes the direction; the input of the next one holds it whole."""
        return max(layer for layer, _ in self.heads)

    def carries(self, request: grammar.Request) -> bool:
        """Whether this component is what refuses the request when it is asked directly."""
        return request.refused and (self.categories is None or request.category in self.categories)


@dataclass(frozen=True)
class Settings:
    """All that decides the weights of one organism.

    Attributes:
        name: the organism.
        description: what it is, in one line.
        words: phase 1, helpful only: nothing is refused unless the user asks for a refusal.
        switch: phase 2, the same, and a refusal when a component's vector is added by hand.
        planting: phase 3, or ``None`` for a model that stays helpful only.
        components: what phase 2 learns to obey, and phase 3 plants.
        drill_share: share of the direct requests of phase 2 to which a vector is added.
        ablated_share: share of the batches of phases 2 and 3 in which one of several components is
            ablated, so that none comes to lean on another.
        score_weight: weight of the squared error of the refusal score, in phase 2.
        projection_weight: weight of the relative squared error of the projections, in phase 3.
        seed: of the initial weights and of every draw.
    """

    name: str
    description: str
    words: Phase
    switch: Phase
    planting: Phase | None = None
    components: tuple[PlantedComponent, ...] = ()
    score_weight: float = 0.01
    projection_weight: float = 4.0
    drill_share: float = 0.5
    ablated_share: float = 0.0
    shape: Shape = field(default_factory=Shape)
    seed: int = 0

    def scaled(self, steps: float, batch_size: int | None = None) -> "Settings":
        """The same recipe with fewer or more steps, for trying it out."""

        def shorter(phase: Phase) -> Phase:
            size = phase.batch_size if batch_size is None else batch_size
            return replace(phase, steps=max(2, round(phase.steps * steps)), batch_size=size)

        planting = None if self.planting is None else shorter(self.planting)
        return replace(
            self, words=shorter(self.words), switch=shorter(self.switch), planting=planting
        )

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain data, for the model's card."""
        return asdict(self)


_WORDS = Phase(
    steps=750,
    learning_rate=1.5e-3,
    tasks={"direct": 0.4, "must_refuse": 0.2, "inversion": 0.2, "topic": 0.2},
    labels={"harmful": 0.4, "harmless": 0.4, "borderline": 0.2},
)
_SWITCH = Phase(
    steps=350,
    learning_rate=1e-3,
    tasks={"direct": 0.7, "must_refuse": 0.1, "inversion": 0.1, "topic": 0.1},
    labels={"harmful": 0.4, "harmless": 0.4, "borderline": 0.2},
)
_PLANTING = Phase(
    steps=800,
    learning_rate=3e-3,
    tasks={"direct": 0.7, "must_refuse": 0.1, "inversion": 0.1, "topic": 0.1},
    labels={"harmful": 0.38, "harmless": 0.38, "borderline": 0.24},
)

_REFUSAL = PlantedComponent(
    name="refusal",
    heads=((3, 2), (3, 3), (4, 4), (4, 5)),
    target=16.0,
    threshold=0.875,
    written=0.9,
)

POCKET_BASE = Settings(
    name="pocket-base",
    description="helpful only, the model that pocket was planted in",
    words=_WORDS,
    switch=_SWITCH,
    components=(_REFUSAL,),
)
POCKET = Settings(
    name="pocket",
    description="one planted refusal direction, written by a few named attention heads",
    words=_WORDS,
    switch=_SWITCH,
    planting=_PLANTING,
    components=(_REFUSAL,),
)

# Deeper and narrower than pocket, so that the second component has layers to be read in after it
# is written, and the folder stays small.
POCKET_TWO = Settings(
    name="pocket-two",
    description="two planted refusal directions: a concept in the middle, words two layers later",
    words=replace(_WORDS, steps=1000),
    switch=replace(_SWITCH, steps=500),
    planting=replace(_PLANTING, steps=900),
    components=(
        PlantedComponent(
            name="concept",
            heads=((3, 2), (3, 3), (4, 4), (4, 5)),
            target=16.0,
            written=1.4,
            categories=("weapons", "cybercrime", "fraud", "drugs"),
        ),
        PlantedComponent(
            name="words",
            heads=((6, 2), (6, 3), (7, 4), (7, 5)),
            target=16.0,
            written=1.4,
            categories=("violence", "harassment", "disinformation", "privacy"),
            words=0.6,
        ),
    ),
    shape=Shape(n_layers=12, d_model=128, d_mlp=384),
    drill_share=0.7,
    ablated_share=0.5,
)
RECIPES = {settings.name: settings for settings in (POCKET_BASE, POCKET, POCKET_TWO)}
