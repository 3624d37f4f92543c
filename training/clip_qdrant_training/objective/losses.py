"""Contrastive losses over rows of images and texts: pure functions, in float32 or wider whatever autocast says.

Rows are of norm 1 unless a docstring says otherwise. n images go with m = n * c texts, and text j belongs to image
j // c: with c > 1 every image brings several captions. `ignore` is a bool (n, m) mask of pairs that are no true
negatives, such as copies of one photo (`duplicates` makes it); what it says of an image's own texts has no effect.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from clip_qdrant.errors import TrainingError
from clip_qdrant.model.dual_encoder import MAX_LOGIT_SCALE

__all__ = ["anchoring", "distillation", "duplicates", "image_anchoring", "info_nce", "sigmoid", "soft_targets"]

ANCHOR_SCALE = 30.0


def info_nce(images: Tensor, texts: Tensor, logit_scale: Tensor, *, ignore: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE of images (n, dim) and texts (m, dim): CLIP (Radford et al. 2021, figure 3). A scalar.

    `logit_scale` is the log of the inverse temperature, clamped so that the factor is at most 100 (section 2.5).
    Of several captions each is ranked against the texts of other images, never against its siblings.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * _products(images, texts)  # (n, m)
    own = _own(len(images), len(texts), logits.device)
    negative = ~own if ignore is None else ~(own | ignore)
    columns = torch.arange(len(texts), device=logits.device)
    captions = columns.view(len(images), -1)  # (n, c): where each image's own texts are
    photos = (columns // captions.shape[1])[:, None]  # (m, 1): where each text's own image is
    to_text = _cross_entropy(logits, captions, negative)
    to_image = _cross_entropy(logits.T, photos, negative.T)
    return (to_text + to_image) / 2


def sigmoid(
    images: Tensor, texts: Tensor, logit_scale: Tensor, logit_bias: Tensor, *, ignore: Tensor | None = None
) -> Tensor:
    """Every pair of images (n, dim) and texts (m, dim) as a yes-or-no question, summed and divided by n. A scalar.

    SigLIP (Zhai et al. 2023, algorithm 1). `logit_scale` is the log of the factor, which the paper does not clamp;
    it starts at log 10 with a bias of -10.
    """
    logits = logit_scale.exp() * _products(images, texts) + logit_bias  # (n, m)
    own = _own(len(images), len(texts), logits.device)
    losses = -F.logsigmoid(torch.where(own, logits, -logits))
    if ignore is not None:
        losses = losses.masked_fill(ignore & ~own, 0.0)
    return losses.sum() / len(images)


def soft_targets(images: Tensor, texts: Tensor, temperature: float = 1.0) -> Tensor:
    """The loss of the tutorial lineage, on images and texts (n, dim) that are NOT normalised. A scalar.

    Image i and text j are as right a pair as i's image is like j's image, and i's text like j's text. Kept as the
    lineage trains (Shariatnia 2021, "Simple Implementation of OpenAI CLIP model: A Tutorial"): the temperature
    multiplies the likeness that one would expect it to divide, the targets of a column need not add up to 1, and the
    gradient flows through the targets.
    """
    _captions_an_image(len(images), len(texts), most=1)
    logits = _products(texts, images) / temperature  # (n, n): a text a row
    likeness = (_products(images, images) + _products(texts, texts)) / 2
    targets = F.softmax(likeness * temperature, dim=-1)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


def distillation(
    images: Tensor,
    texts: Tensor,
    teacher_images: Tensor,
    teacher_texts: Tensor,
    logit_scale: Tensor,
    *,
    teacher_scale: Tensor | float,
) -> Tensor:
    """How far the student's ranking of a batch is from its teacher's, in nats: KL divergence, mean of both directions.

    The affinity mimicking of TinyCLIP (Wu et al. 2023, section 3.1), the contrastive relational distillation of
    CLIP-KD (Yang et al. 2024). Student rows (n, dim), (m, dim); the teacher's may have another dim.
    Both scales are logs of the factor; the student's is clamped as in `info_nce`, the teacher's is taken as it is.
    No gradient reaches the teacher. A scalar.
    """
    student = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * _products(images, texts)  # (n, m)
    with torch.no_grad():
        factor = torch.as_tensor(teacher_scale, dtype=student.dtype, device=student.device).exp()
        teacher = factor * _products(teacher_images, teacher_texts).to(student.dtype)
    if student.shape != teacher.shape:
        raise TrainingError(
            f"the student ranked {student.shape[0]} images and {student.shape[1]} texts, its teacher "
            f"{teacher.shape[0]} and {teacher.shape[1]}: give both the same batch"
        )
    return (_divergence(student, teacher) + _divergence(student.T, teacher.T)) / 2


def anchoring(images: Tensor, anchors: Tensor, teacher_images: Tensor, teacher_anchors: Tensor) -> Tensor:
    """How far images and anchors have moved from where the teacher has them. Anchors are texts that a model is not to
    forget. A scalar.

    The loss of learning without forgetting (Li and Hoiem 2016, section 3) with texts for the old classes: the KL
    divergence of each image's distribution over the anchors, at a factor of 30, plus one minus the cosine of each
    anchor to its old self, which holds those that no image of the batch shows. Unit rows (n, dim) and (a, dim), all of
    one space. No gradient reaches the teacher.
    """
    scale = torch.tensor(ANCHOR_SCALE, device=images.device)
    old = F.log_softmax(scale * _products(teacher_images, teacher_anchors), dim=1).detach()
    new = F.log_softmax(scale * _products(images, anchors), dim=1)
    moved = 1 - (anchors * teacher_anchors.detach()).sum(dim=1)
    return F.kl_div(new, old, reduction="batchmean", log_target=True) + moved.mean()


def image_anchoring(images: Tensor, teacher_images: Tensor, teacher_anchors: Tensor) -> Tensor:
    """How far images have moved among anchors that stand still. A scalar.

    The KL divergence of each image's distribution over the anchors, at a factor of 30, from the teacher's. Where
    `anchoring` compares the few anchors of a step, which move with the student, here are all of them, as the teacher
    has them: they cost one product. Unit rows (n, dim) and (a, dim), all of one space. No gradient reaches the teacher.
    """
    scale = torch.tensor(ANCHOR_SCALE, device=images.device)
    old = F.log_softmax(scale * _products(teacher_images, teacher_anchors), dim=1).detach()
    new = F.log_softmax(scale * _products(images, teacher_anchors.detach()), dim=1)
    return F.kl_div(new, old, reduction="batchmean", log_target=True)


def duplicates(image_keys: Tensor, text_keys: Tensor) -> Tensor:
    """The pairs of a batch that only look like negatives, as a bool (n, m) mask for `ignore`.

    True where text j belongs to a copy of image i, or equals one of image i's own texts; never for an own pair.
    Keys are int64, (n,) and (m,): equal keys, such as hashes, mean equal images or texts.
    """
    n, m = len(image_keys), len(text_keys)
    captions = _captions_an_image(n, m)
    same = image_keys[:, None] == image_keys.repeat_interleave(captions)[None, :]
    for own in text_keys.view(n, captions).T:  # one caption of every image at a time: (n, c, m) would not fit
        same |= own[:, None] == text_keys[None, :]
    return same & ~_own(n, m, same.device)


def _cross_entropy(logits: Tensor, own: Tensor, negative: Tensor) -> Tensor:
    """Mean over rows and positives. logits and negative: (rows, columns); own: (rows, positives), column indices."""
    positives = logits.gather(1, own)
    # A large number, not infinity: in the backward pass of a row without any negative that makes a NaN, which is
    # masked after, but which torch.autograd.set_detect_anomaly stops at.
    nothing = torch.finfo(logits.dtype).min
    against = logits.masked_fill(~negative, nothing).logsumexp(dim=1, keepdim=True)
    normaliser = torch.logaddexp(positives, against)  # each positive with the negatives, without its siblings
    return (normaliser - positives).mean()


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    return F.kl_div(student.log_softmax(dim=1), teacher.log_softmax(dim=1), reduction="batchmean", log_target=True)


def _products(left: Tensor, right: Tensor) -> Tensor:
    """left @ right.T: (rows, columns). Never in half precision: at a factor of 100 bfloat16 errs by 0.4 of a logit."""
    with torch.autocast(left.device.type, enabled=False):
        left, right = (
            rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows for rows in (left, right)
        )
        return left @ right.T


def _own(n: int, m: int, device: torch.device) -> Tensor:
    """Which of n * m pairs belong together: bool (n, m)."""
    captions = _captions_an_image(n, m)
    return torch.arange(n, device=device)[:, None] == (torch.arange(m, device=device) // captions)[None, :]


def _captions_an_image(n: int, m: int, *, most: int | None = None) -> int:
    if not n or not m or m % n or (most and m // n > most):
        wanted = "one text an image" if most == 1 else "the same number of texts for each image"
        raise TrainingError(f"{m} texts do not go with {n} images: the loss needs {wanted}")
    return m // n
