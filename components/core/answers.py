"""Records of what an engine answered: tokens with their log-probabilities, timing, usage. Pure data."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from components.core.states import Outcome


class Record(BaseModel):
    """Base of all stored records: immutable, and no field may be misspelt."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class TopLogprob(Record):
    """One alternative of a step, as the engine reported it."""

    token_id: int | None = Field(description="Vocabulary id; None when the endpoint gives text only")
    text: str = Field(description="The token decoded alone; may hold U+FFFD for a part of a character")
    logprob: float | None = Field(description="Natural logarithm; None when not returned (never 0)")


class TokenStep(Record):
    """One generated token."""

    token_id: int | None = Field(description="Vocabulary id; None when the endpoint gives text only")
    text: str = Field(description="The token decoded alone")
    raw: bytes | None = Field(default=None, description="Exact bytes where the endpoint gives them")
    logprob: float | None = Field(default=None, description="Natural logarithm of its probability")
    top: tuple[TopLogprob, ...] = Field(default=(), description="The most likely tokens of this step, best first")
    at_ms: float = Field(description="Milliseconds from sending the request until this token's arrival")


class ToolCall(Record):
    """A call of a tool that the model asks for. The arguments are the model's own text, never parsed or run."""

    id: str
    name: str
    arguments: str


class Usage(Record):
    """Token counts of one request."""

    prompt_tokens: int | None = Field(default=None, description="All prompt tokens, image tokens included")
    image_tokens: int | None = Field(default=None, description="Prompt tokens that stand for images; None = unknown")
    output_tokens: int | None = None
    cached_tokens: int | None = Field(default=None, description="Prompt tokens served from the prefix cache")


class Timing(Record):
    """Latencies of one answer; see ``core.latency`` for the definitions. None = not measurable, never 0."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2el_ms: float | None = None
    output_tokens_per_s: float | None = None


class ErrorRecord(Record):
    """The part of an error that may be shown."""

    code: str
    message: str
    hint: str = ""
    field: str | None = None


class Answer(Record):
    """One column's reply to one prompt."""

    text: str = ""
    tokens: tuple[TokenStep, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = Field(default=None, description="As the server said it: stop, length, tool_calls …")
    outcome: Outcome = Outcome.STREAMING
    error: ErrorRecord | None = None
    prompt_token_ids: tuple[int, ...] = Field(default=(), description="The prompt as the engine tokenized it")
    usage: Usage = Usage()
    timing: Timing = Timing()

    @property
    def token_ids(self) -> tuple[int | None, ...]:
        """Ids of the generated tokens, in order."""
        return tuple(step.token_id for step in self.tokens)


class ImageRecord(Record):
    """One canonical image: RGB PNG bytes in the blob store, addressed by their hash."""

    sha256: str = Field(description="Of the canonical PNG bytes, which every engine gets")
    width: int
    height: int
    name: str = Field(description="The user's file name, for display only")
    source_format: str = Field(description="JPEG, PNG or WEBP, by content")
    source_sha256: str = Field(description="Of the uploaded bytes")
    notes: tuple[str, ...] = Field(default=(), description="What canonicalisation changed, in words")


class Sampling(Record):
    """Sampling parameters of one request; None leaves the server's default."""

    temperature: float = Field(default=0.0, ge=0.0, le=2.0, description="0 = always the likeliest token")
    top_p: float = Field(default=1.0, gt=0.0, le=1.0, description="Share of the probability that is sampled from")
    max_tokens: int = Field(default=256, ge=1, le=32768, description="Longest answer, tokens")
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1, description="null = the engine's choice")
    stop: tuple[str, ...] = Field(default=(), max_length=8, description="Texts at which an answer ends")
