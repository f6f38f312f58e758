"""What a step on conversations is judged by: the answers first, and small lessons beside them."""

from __future__ import annotations

from typing import Any

import torch
from attention import ASKED_LAYER, NEXT_LAYER, CountHead, gaze_loss, watched
from eyes import mark_loss
from model import EyesHead, answer_loss, look, project
from tokens import TokensHead

MARKS_SHARE = 0.3
TOLD_SHARE = 0.1
GAZE_SHARE = 0.5
COUNT_SHARE = 0.2
# Fresh classifiers learn on features as they are before they may change them.
HEADS_ALONE_STEPS = 200
Facts = dict[str, float]


class ConversationLoss:
    """Answers, with the dense lesson of the patches and the lesson of single image tokens."""

    def __init__(self, model: torch.nn.Module, head: EyesHead, tokens_head: TokensHead) -> None:
        self.model, self.head, self.tokens_head = model, head, tokens_head

    def __call__(self, batch: Any, step: int) -> tuple[torch.Tensor, Facts]:
        """The loss of a step and what the log says of it."""
        ids, targets, pictures, rivals, lessons, _gazes = batch
        seen = [look(self.model, pixels) for pixels, _ in pictures]
        tokens = [project(self.model, patches) for patches in seen]
        loss, right = answer_loss(self.model, ids, targets, pictures, tokens, rivals)
        facts = {"answers": loss.item(), "tokens_right": right.item()}
        if pictures:
            loss = loss + self.lessons_loss(seen, tokens, lessons, facts, step)
        return loss, facts

    def lessons_loss(
        self, seen: list[torch.Tensor], tokens: list[torch.Tensor], lessons: list[Any], facts: Facts, step: int
    ) -> torch.Tensor:
        """The eyes go on with their lessons: next to the tower itself they cost nothing."""
        dense, recognised = mark_loss(self.head, seen, [marks for marks, _, _ in lessons])
        facts["marks"] = sum(recognised) / max(1, len(recognised))
        telling = torch.cat(
            [found.flatten(0, 1)[places] for found, (_, places, _) in zip(tokens, lessons, strict=True)]
        )
        told, facts["told"] = self.tokens_head.loss(telling, torch.cat([labels for _, _, labels in lessons]))
        return MARKS_SHARE * dense + TOLD_SHARE * told


class GazingLoss(ConversationLoss):
    """The same in bfloat16 products, and with the lessons of two attention heads and of what they found."""

    def __init__(self, model: torch.nn.Module, head: EyesHead, tokens_head: TokensHead, count_head: CountHead) -> None:
        super().__init__(model, head, tokens_head)
        self.count_head = count_head

    def __call__(self, batch: Any, step: int) -> tuple[torch.Tensor, Facts]:
        """The loss of a step and what the log says of it."""
        attention: dict[int, torch.Tensor] = {}
        with torch.autocast("cpu", torch.bfloat16), watched(self.model, attention):
            loss, facts = super().__call__(batch, step)
        for name, layer, lesson in zip(("asked", "next"), (ASKED_LAYER, NEXT_LAYER), batch[-1], strict=True):
            gaze = gaze_loss(attention[layer], lesson)
            facts[name] = gaze.item()
            loss = loss + GAZE_SHARE * gaze
        counted, facts["counted"] = self.count_head.loss(attention[-1].float(), batch[-1][0])
        return loss + COUNT_SHARE * counted, facts

    def lessons_loss(
        self, seen: list[torch.Tensor], tokens: list[torch.Tensor], lessons: list[Any], facts: Facts, step: int
    ) -> torch.Tensor:
        """Classification losses in full precision."""
        alone = step < HEADS_ALONE_STEPS
        with torch.autocast("cpu", enabled=False):
            full = [[part.float().detach() if alone else part.float() for part in parts] for parts in (seen, tokens)]
            return super().lessons_loss(full[0], full[1], lessons, facts, step)
