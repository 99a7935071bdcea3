"""Settings of the forecast itself: the section `model`."""

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.method import Cell, Season
from worker.settings.section import Name, Section

PENDING = 30_000  # numbers that may wait in one stream's row for their labels: 240 kB, so that a page holds the row

Horizon = Annotated[int, Field(strict=True, ge=1, le=1000)]
Level = Annotated[float, Field(strict=True, gt=0, lt=1)]


class Model(Section):
    """The horizons and quantiles to forecast, and the method that forecasts them."""

    cell: Cell = Field(default="gru", description="kind of recurrent network")
    hidden_size: int = Field(default=32, ge=1, le=1024, description="numbers in a layer's hidden state")
    layers: int = Field(default=1, ge=1, le=8, description="recurrent layers")
    profile: Literal["full", "lite"] = Field(
        default="full", description="all experts, or `lite`: a third of the state, without the linear ones"
    )
    season: Season = Field(
        default="auto",
        description="what repeats; `events`: every `season_slots` of them; `auto` asks the first 20 steps",
    )
    season_slots: int = Field(
        default=24, ge=1, le=1000, description="parts of a season, each with its memory; idle where `season` is `none`"
    )
    weekly: Literal["on", "off"] = Field(
        default="on",
        description="a second table over the week, seven times as large, for streams with a daily season; `lite` has "
        "none",
    )
    horizons: tuple[Horizon, ...] = Field(default=(1, 3, 6, 12, 24), description="how many events ahead, increasing")
    quantiles: tuple[Level, ...] = Field(
        default=(0.025, 0.1, 0.5, 0.9, 0.975), description="levels to forecast: increasing, symmetric, 0.5 among them"
    )
    floor: float = Field(
        default=0.0,
        strict=True,
        ge=-1e36,
        le=1e36,
        description="no mean and no quantile is below it, until a value of the stream is; -1e36: no floor",
    )
    checkpoint: Name = Field(
        default="base",
        description="weights to begin with: `base`, those of docs/base.md, but none where they do not fit; a file of "
        "`foldcast pretrain`; or `none`; state that is there keeps its own",
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="draws the first weights where there is no checkpoint")

    @field_validator("horizons", "quantiles")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value:
            raise ValueError("name at least one")
        if any(b <= a for a, b in pairwise(value)):
            raise ValueError("write them in increasing order, each once")
        return value

    @field_validator("quantiles")
    @classmethod
    def _symmetric(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if 0.5 not in value:
            raise ValueError("put 0.5 among them, the median")
        if any(abs(low + high - 1) > 1e-9 for low, high in zip(value, reversed(value), strict=True)):
            raise ValueError("give each level below 0.5 its partner above, such as 0.9 to 0.1")
        return value

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.profile == "lite" and self.weekly == "on" and "weekly" in self.model_fields_set:
            raise ValueError(
                "model.weekly is read by the linear experts' stacking, and model.profile is lite, which has none: make "
                "it full, or leave model.weekly out"
            )
        pending = sum(self.horizons) * (len(self.quantiles) + 2)
        if pending > PENDING:
            raise ValueError(
                f"model.horizons and model.quantiles make each stream keep {pending:,} numbers, at most {PENDING:,} "
                "are possible: ask for fewer long horizons or fewer quantiles"
            )
        return self
