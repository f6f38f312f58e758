"""The embedded model's shape, and a faster forward pass than transformers' own for training on a CPU.

transformers runs all pictures of a batch through the Pixtral tower as one sequence with a block mask, which costs the
square of the batch; here pictures of equal size share the batch dimension and need no mask. The parameters are those
of `Mistral3ForConditionalGeneration`, so nothing has to be converted afterwards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch_extras
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

VOCABULARY = 8192
MAX_IMAGE_SIZE = 112
PATCH = 14
MERGE = 2
CONTEXT = 4096
IMAGE_TOKEN, IMAGE_BREAK, IMAGE_END = 10, 12, 13
BOS, EOS, PAD = 1, 2, 11
NORM_EPS = 1e-5
HIDDEN, INTERMEDIATE, HEADS, KV_HEADS, HEAD_DIM = 256, 512, 4, 2, 64
TEXT_LAYERS, VISION_LAYERS = 4, 4
TEXT_THETA, VISION_THETA = 100_000.0, 10_000.0


def model_config() -> Mistral3Config:
    """The transformers configuration of the embedded model."""
    torch_extras.prepare()
    from transformers import Mistral3Config, MistralConfig, PixtralVisionConfig

    text = MistralConfig(
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=CONTEXT,
        rms_norm_eps=NORM_EPS,
        rope_parameters={"rope_type": "default", "rope_theta": TEXT_THETA},
        sliding_window=None,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    vision = PixtralVisionConfig(
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=HEADS,
        image_size=MAX_IMAGE_SIZE,
        patch_size=PATCH,
        hidden_act="silu",
        rope_parameters={"rope_type": "axial", "rope_theta": VISION_THETA},
    )
    return Mistral3Config(
        text_config=text,
        vision_config=vision,
        image_token_index=IMAGE_TOKEN,
        spatial_merge_size=MERGE,
        projector_hidden_act="gelu",
        multimodal_projector_bias=False,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )


def build_model(seed: int) -> Mistral3ForConditionalGeneration:
    """A freshly initialised model in float32."""
    torch_extras.prepare()
    from transformers import Mistral3ForConditionalGeneration

    torch.manual_seed(seed)
    model = Mistral3ForConditionalGeneration(model_config())
    return model.float()


def look(model: Mistral3ForConditionalGeneration, pixels: torch.Tensor) -> torch.Tensor:
    """Features `(pictures, hidden, rows, columns)` of equally large pictures `(pictures, 3, height, width)`."""
    tower = model.model.vision_tower
    patches = tower.patch_conv(pixels)
    rows, columns = patches.shape[-2:]
    hidden = tower.ln_pre(patches.flatten(2).transpose(1, 2))
    grid = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    positions = torch.stack([axis.flatten() for axis in grid], dim=-1)
    rotary = tower.patch_positional_embedding(hidden, positions)
    for layer in tower.transformer.layers:
        hidden = layer(hidden, attention_mask=None, position_embeddings=rotary)
    return hidden.transpose(1, 2).reshape(len(pixels), HIDDEN, rows, columns)


def project(model: Mistral3ForConditionalGeneration, patches: torch.Tensor) -> torch.Tensor:
    """The projector: every two by two patches become one image token, `(pictures, tokens, hidden)`."""
    projector = model.model.multi_modal_projector
    image = projector.norm(patches.transpose(1, 3)).transpose(1, 3)
    merged = functional.unfold(image, kernel_size=MERGE, stride=MERGE).transpose(1, 2)
    hidden = projector.patch_merger.merging_layer(merged)
    return projector.linear_2(projector.act(projector.linear_1(hidden)))


Pictures = list[tuple[torch.Tensor, torch.Tensor]]


def fill_in(
    model: Mistral3ForConditionalGeneration, ids: torch.Tensor, pictures: Pictures, tokens: list[torch.Tensor]
) -> torch.Tensor:
    """Token embeddings with the image tokens filled in.

    `pictures` holds, per picture size, the pixels and the flat positions `(pictures, tokens)` of their image tokens;
    `tokens` holds the image tokens themselves.
    """
    embeddings = model.model.language_model.embed_tokens(ids)
    flat = embeddings.reshape(-1, HIDDEN)
    for (_, places), found in zip(pictures, tokens, strict=True):
        flat = flat.index_copy(0, places.flatten(), found.reshape(-1, HIDDEN).to(flat.dtype))
    return flat.view_as(embeddings)


def answer_loss(
    model: Mistral3ForConditionalGeneration,
    ids: torch.Tensor,
    targets: torch.Tensor,
    pictures: Pictures,
    tokens: list[torch.Tensor],
    rivals: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy over the positions whose target is not -100, and the share of them predicted right.

    The head is the dearest layer of so small a model: it runs on the answers' positions only, and over a part of the
    vocabulary: the batch's own targets and `rivals`, ids that differ from step to step so that all get their turn.
    """
    embeddings = fill_in(model, ids, pictures, tokens)
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    wanted = targets.flatten() >= 0
    vocabulary, goal = torch.unique(torch.cat([targets.flatten()[wanted], rivals]), return_inverse=True)
    goal = goal[: int(wanted.sum())]
    logits = hidden.reshape(-1, HIDDEN)[wanted] @ model.lm_head.weight[vocabulary].T
    return functional.cross_entropy(logits, goal), (logits.argmax(-1) == goal).float().mean()


class EyesHead(nn.Module):
    """Two linear classifiers, used in the first phase only.

    `marks` says for every patch what has its middle there: a dense, local lesson that is learnt quickly. `heads` reads
    everything drawn from all image tokens at once, which trains the projector too.
    """

    def __init__(self, outputs: int, marks: int, grids: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleDict(
            {f"{rows}x{columns}": nn.Linear(rows * columns * HIDDEN, outputs) for rows, columns in grids}
        )
        self.marks = nn.ModuleDict({"heads": nn.Sequential(nn.RMSNorm(HIDDEN), nn.Linear(HIDDEN, marks))})

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Logits `(pictures, outputs)` of pictures with the given token grid `(rows, columns)`."""
        return self.heads[f"{grid[0]}x{grid[1]}"](tokens.flatten(1))

    def mark_logits(self, patches: torch.Tensor) -> torch.Tensor:
        """Logits `(pictures, patches, marks)`."""
        return self.marks["heads"](patches.flatten(2).transpose(1, 2))


@torch.no_grad()
def answers_right(
    model: Mistral3ForConditionalGeneration,
    ids: torch.Tensor,
    targets: torch.Tensor,
    pictures: Pictures,
) -> list[bool]:
    """Per row, whether every target token is the likeliest one."""
    embeddings = fill_in(model, ids, pictures, [project(model, look(model, pixels)) for pixels, _ in pictures])
    hidden = model.model.language_model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    wanted = targets >= 0
    wrong = torch.zeros_like(wanted)
    wrong[wanted] = model.lm_head(hidden[wanted]).argmax(-1) != targets[wanted]
    return (~wrong.any(1)).tolist()
