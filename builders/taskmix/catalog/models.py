"""What a catalog file may say. These models are the source of the JSON Schema that editors use."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from taskmix.urls import is_url, object_store

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
EvaluationSplit = Literal["validation", "heldout", "heldout_templates"]
LabelKey = str | bool | int

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0)]


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
        description="A file, a folder that holds SPLIT*.parquet (or .jsonl, .json, .csv, .arrow), or a glob; also as a "
        "URL in an object store, such as s3://bucket/folder.",
    )

    @model_validator(mode="after")
    def _one_of(self) -> "SourceSpec":
        if (self.hub is None) == (self.path is None):
            raise ValueError("give either `hub` (org/name) or `path` (a file, folder or glob)")
        if self.path is not None and (self.config is not None or "revision" in self.model_fields_set):
            raise ValueError("`config` and `revision` belong to a `hub` source, not to a `path`")
        if self.path is not None and is_url(self.path):
            object_store(self.path)
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
    citation: str | None = Field(None, description="Who made the data: authors, year, title and where it appeared.")
    note: str | None = Field(None, description="A sentence for the card, such as how the labels were made.")


class HoldoutSpec(_Model):
    """What training must never see."""

    clusters: list[str] = Field(default_factory=list, description="Whole skills.")
    tasks: list[str] = Field(default_factory=list, description="Single tasks.")
    templates: Annotated[int, Field(ge=0)] = Field(0, description="So many phrasings of each seen task.")
    paired_clusters: bool = Field(
        True, description="Whether the clusters that the catalog pairs with a held-out one leave train."
    )


class TokensSpec(_Model):
    """A budget in tokens: each task gives so many examples as have its share of them, by their mean length."""

    tokens: Annotated[int, Field(ge=1)]
    tokenizer: Annotated[str, Field(min_length=1)] = Field(description="A tokenizer.json, or a model's id on the hub.")


class SamplingSpec(_Model):
    """How many examples each task gives."""

    strategy: Literal["proportional", "equal"] = "proportional"
    cap: Annotated[int, Field(ge=1)] | None = Field(None, description="At most so many training rows a task.")
    max_rate: Annotated[int, Field(ge=1)] | None = Field(
        None, description="With a size: no task counts as having more examples than that."
    )
    temperature: Annotated[float, Field(gt=0)] = Field(
        1.0, description="With a size: rates are raised to 1 / temperature, so that small tasks give more."
    )
    size: Annotated[int, Field(ge=1)] | TokensSpec | None = Field(
        None, description="Training examples in all, or tokens. Without it every row is used `passes` times."
    )
    templates: Annotated[int, Field(ge=1)] | Literal["all"] = Field(
        1, description="So many templates of a task for each row, all different."
    )
    passes: Annotated[int, Field(ge=1)] = Field(1, description="So many times every row, each with fresh templates.")

    @model_validator(mode="after")
    def _sized(self) -> "SamplingSpec":
        if self.size is None:
            for name in ("max_rate", "temperature"):
                if name in self.model_fields_set:
                    raise ValueError(f"`{name}` says how a `size` is shared: give a `size` too")
            if self.strategy == "equal":
                raise ValueError("`strategy: equal` says how a `size` is shared: give a `size` too")
        elif "passes" in self.model_fields_set:
            raise ValueError("how often rows come follows from `size`: leave out `passes`")
        return self


class EvaluationFewShotSpec(_Model):
    """Worked examples before each evaluation row, always from rows that train, or could."""

    k: Annotated[int, Field(ge=1, le=32)]
    splits: Annotated[list[EvaluationSplit], Field(min_length=1)] = Field(
        default=["validation", "heldout_templates"],
        description="With `heldout`, rows of the training split of the held-out task itself are shown.",
    )


class EvaluationSpec(_Model):
    """How large the evaluation splits are, and how their rows are posed."""

    rows: Annotated[int, Field(ge=1)] = Field(500, description="At most so many source rows a task and split.")
    few_shot: EvaluationFewShotSpec | None = None


class FewShotSpec(_Model):
    """Worked examples before a row: rows of the same task under the same template."""

    share: Share
    k: Annotated[list[Annotated[int, Field(ge=1, le=32)]], Field(min_length=2, max_length=2)] = Field(
        default_factory=lambda: [1, 5], description="The least and the most of them."
    )

    @model_validator(mode="after")
    def _ordered(self) -> "FewShotSpec":
        if self.k[0] > self.k[1]:
            raise ValueError(f"the least number of examples, {self.k[0]}, is above the most, {self.k[1]}")
        return self


class OptionsSpec(_Model):
    """A list of the answers to choose from, after the input."""

    share: Share
    lettered: Share = Field(0.5, description="The share of the lists with (A), (B), … rather than dashes.")
    shuffled: Share = Field(0.5, description="The share of the lists in an order of their own.")
    heading: str = "Options:"


class StylesSpec(_Model):
    """The share of a task's training rows that are posed in a style, where that can be."""

    chain_of_thought: Share = Field(0.0, description="With a template that shows the reasoning.")
    inverted: Share = Field(0.0, description="With a template that asks for the input, given the answer.")
    few_shot: FewShotSpec | None = None
    options: Share | OptionsSpec = Field(0.0, description="A share, or how the lists look as well.")
    system: Annotated[str, Field(min_length=1)] | None = Field(None, description="A message before every example.")

    @model_validator(mode="after")
    def _shares(self) -> "StylesSpec":
        if self.chain_of_thought + self.inverted > 1:
            raise ValueError("the shares of the styles add up to more than 1")
        return self

    @property
    def listing(self) -> OptionsSpec:
        """Return how options are listed."""
        return self.options if isinstance(self.options, OptionsSpec) else OptionsSpec(share=self.options)


class DecontaminationSpec(_Model):
    """When a training row counts as one of an evaluation split: see docs/contamination.md."""

    ngram: Annotated[int, Field(ge=2, le=50)] = Field(5, description="Words of the sequences that are compared.")
    overlap: Annotated[float, Field(gt=0, le=1)] = Field(
        0.65, description="The least share of an evaluation text's words, by weight, that lie in sequences of both."
    )


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

    tasks: Annotated[list[str | dict[str, Weight]], Field(min_length=1)] = Field(
        description='Task names, "cluster:NAME" and globs, each alone or as {name: weight}.'
    )
    holdout: HoldoutSpec = Field(default_factory=HoldoutSpec)
    sampling: SamplingSpec = Field(default_factory=SamplingSpec)
    evaluation: EvaluationSpec = Field(default_factory=lambda: EvaluationSpec(rows=500))
    styles: StylesSpec = Field(default_factory=StylesSpec)
    decontamination: DecontaminationSpec | Literal["off"] = Field(
        default_factory=DecontaminationSpec,
        description="Rows of evaluation splits leave train, whole or nearly so; `off` keeps them.",
    )
    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="Whether train keeps rows that are the same, to the byte, as an earlier one of their task."
    )
    length: LengthSpec | None = None
    licenses: LicensesSpec | None = None
    format: FormatName = "prompt-completion"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    description: str | None = Field(None, description="A sentence for the card and `mix list`.")

    @model_validator(mode="after")
    def _weighed(self) -> "MixtureSpec":
        weighed = [entry for entry in self.tasks if isinstance(entry, dict)]
        for entry in weighed:
            if len(entry) != 1:
                raise ValueError("tasks: give each weight an entry of its own: `- name: weight`")
        if weighed and self.sampling.size is None:
            raise ValueError("tasks: weights say how a `sampling.size` is shared: give one")
        return self

    @property
    def entries(self) -> list[tuple[str, float | None]]:
        """Return the entries of `tasks`, each with its weight, if it has one."""
        return [(entry, None) if isinstance(entry, str) else next(iter(entry.items())) for entry in self.tasks]


class CatalogSpec(_Model):
    """A catalog.yaml."""

    version: Literal[1]
    extends: Literal["builtin"] | None = Field(None, description="Adds the built-in tasks.")
    tasks: dict[Name, TaskSpec] = Field(default_factory=dict)
    mixtures: dict[Name, MixtureSpec] = Field(default_factory=dict)
    default_mixture: str | None = None
    paired_clusters: list[Annotated[list[Name], Field(min_length=2, max_length=2)]] = Field(
        default_factory=list, description="Pairs of skills: where one is held out, the other leaves train."
    )


def json_schema() -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a catalog file."""
    schema = CatalogSpec.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "taskmix catalog", **schema}
