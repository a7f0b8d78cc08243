"""What a catalog file may say. These models are the source of the JSON Schema that editors use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=100)]
HubId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")]
ConfigName = Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")]
KindName = Literal[
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "text-generation",
    "conversation",
    "table",
]
FormatName = Literal["prompt-completion", "messages", "alpaca", "sharegpt", "text"]
SplitName = Literal["train", "validation"]
LabelKey = str | bool | int

LATER = frozenset(
    {
        "size",
        "max_rate",
        "temperature",
        "weights",
        "few_shot",
        "options",
        "system",
        "passes",
        "decontamination",
        "paired_clusters",
        "tokenizer",
    }
)
"""Keys of the design that this version refuses as not supported yet, rather than as unknown."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SourceSpec(_Model):
    """Where rows come from: a hub dataset, or local files."""

    hub: HubId | None = Field(None, description="A dataset's id on the hub, org/name.")
    config: ConfigName | None = Field(None, description="The configuration of a hub dataset that has several.")
    revision: Annotated[str, Field(pattern=r"^[\w][\w./-]*$")] = Field(
        "main", description="A branch, tag or commit of a hub dataset."
    )
    path: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="A file, a folder that holds SPLIT*.parquet (or .jsonl, .json, .csv, .arrow), or a glob.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> "SourceSpec":
        if (self.hub is None) == (self.path is None):
            raise ValueError("give either `hub` (org/name) or `path` (a file, folder or glob)")
        if self.path is not None and (self.config is not None or "revision" in self.model_fields_set):
            raise ValueError("`config` and `revision` belong to a `hub` source, not to a `path`")
        return self


class CutSpec(_Model):
    """A split that the data lacks, cut from another by a hash of the row."""

    from_: SplitName = Field(alias="from", description="The split of this task to cut from.")
    fraction: Annotated[float, Field(gt=0, lt=1)] = Field(description="The share of its rows to take.")


class TaskSpec(_Model):
    """A source seen as one kind of task."""

    kind: KindName
    cluster: Name = Field(description="The skill, such as sentiment or nli: the unit to hold out.")
    source: SourceSpec
    splits: Annotated[dict[SplitName, str | CutSpec], Field(min_length=1)] | None = Field(
        None, description="Ours: theirs. Without it, those of train and validation that the source has."
    )
    columns: dict[str, str | Annotated[list[str], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Canonical column: a column, a dotted path, a list of columns, or one Jinja expression.",
    )
    labels: Annotated[list[str], Field(min_length=1)] | Annotated[dict[LabelKey, str], Field(min_length=1)] | None = (
        Field(None, description="Words for the label ids in order, or {value in the source: word}.")
    )
    where: str | None = Field(None, description='Rows to keep: a Jinja expression, such as "{{ label >= 0 }}".')
    language: str | list[str] = Field("en", description="ISO 639 code or codes.")
    license: str | list[str] = Field("unknown", description="The licence's id on the hub, such as cc-by-4.0.")
    derived_from: list[str] = Field(
        default_factory=list,
        description="Origins shared with other tasks: hold out one, and all leave train.",
    )
    templates: Name | None = Field(
        None, description="The template file in templates/. Default: the task's name, then the kind's."
    )
    note: str | None = Field(None, description="A sentence for the card, such as how the labels were made.")


class HoldoutSpec(_Model):
    """What training must never see."""

    clusters: list[str] = Field(default_factory=list, description="Whole skills.")
    tasks: list[str] = Field(default_factory=list, description="Single tasks.")
    templates: Annotated[int, Field(ge=0)] = Field(0, description="So many phrasings of each seen task.")


class SamplingSpec(_Model):
    """How many rows each task gives."""

    strategy: Literal["proportional"] = "proportional"
    cap: Annotated[int, Field(ge=1)] | None = Field(None, description="At most so many training rows a task.")


class EvaluationSpec(_Model):
    """How large the evaluation splits are."""

    rows: Annotated[int, Field(ge=1)] = Field(500, description="At most so many source rows a task and split.")


class StylesSpec(_Model):
    """The share of a task's training rows that take a template of a style, where it has one."""

    chain_of_thought: Annotated[float, Field(ge=0, le=1)] = 0.0
    inverted: Annotated[float, Field(ge=0, le=1)] = 0.0

    @model_validator(mode="after")
    def _shares(self) -> "StylesSpec":
        if self.chain_of_thought + self.inverted > 1:
            raise ValueError("the shares of the styles add up to more than 1")
        return self


class LengthSpec(_Model):
    """Limits on prompt + completion, in characters; rows outside them are dropped and counted."""

    min_chars: Annotated[int, Field(ge=1)] = 1
    max_chars: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "LengthSpec":
        if self.max_chars is not None and self.max_chars < self.min_chars:
            raise ValueError(f"max_chars ({self.max_chars}) is below min_chars ({self.min_chars})")
        return self


class LicensesSpec(_Model):
    """Licences to accept or to refuse: a task with a refused one is left out."""

    allow: Annotated[list[str], Field(min_length=1)] | None = None
    deny: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "LicensesSpec":
        if (self.allow is None) == (self.deny is None):
            raise ValueError("give either `allow` or `deny`")
        return self


class MixtureSpec(_Model):
    """Tasks, what is held out of them, and how they are sampled and written."""

    tasks: Annotated[list[str], Field(min_length=1)] = Field(description='Task names, "cluster:NAME" and globs.')
    holdout: HoldoutSpec = Field(default_factory=HoldoutSpec)
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    evaluation: EvaluationSpec = Field(default_factory=lambda: EvaluationSpec(rows=500))
    styles: StylesSpec = Field(default_factory=StylesSpec)
    length: LengthSpec | None = None
    licenses: LicensesSpec | None = None
    format: FormatName = "prompt-completion"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    description: str | None = Field(None, description="A sentence for the card and `mix list`.")

    @field_validator("tasks", mode="before")
    @classmethod
    def _no_weights(cls, tasks: object) -> object:
        for entry in tasks if isinstance(tasks, list) else ():
            if isinstance(entry, dict):
                raise ValueError(f"a weight ({entry}) is not supported by this version yet")
        return tasks


class CatalogSpec(_Model):
    """A catalog.yaml."""

    version: Literal[1]
    extends: Literal["builtin"] | None = Field(None, description="Adds the built-in tasks.")
    tasks: dict[Name, TaskSpec] = Field(default_factory=dict)
    mixtures: dict[Name, MixtureSpec] = Field(default_factory=dict)
    default_mixture: str | None = None


def json_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a catalog file."""
    schema = CatalogSpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "taskmix catalog", **schema}
