"""Attention and rotary positions, as one operator each (opset 23 on)."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from .base import Converted, Converter, Function, Node


def _attention(node: Node) -> Converted:
    """Scaled dot products of queries with keys, softmax, weighted values; with a cache, masks and windows."""
    causal = bool(node.get("is_causal", 0))
    scale, cap = node.get("scale"), float(node.get("softcap", 0.0))
    heads, held_heads = node.get("q_num_heads"), node.get("kv_num_heads")
    given, back, ahead = (int(node.get(n, d)) for n, d in (
        ("qk_matmul_output_mode", 0), ("left_window_size", -1), ("right_window_size", -1)
    ))  # fmt: skip

    def run(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_k: Tensor | None = None,
        past_v: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        is_flat = q.ndim == 3
        if is_flat:
            q, k, v = _in_heads(q, heads), _in_heads(k, held_heads), _in_heads(v, held_heads)
        if past_k is not None and past_v is not None:
            k, v = torch.cat([past_k, k], dim=2), torch.cat([past_v, v], dim=2)
        present = k, v
        groups = q.shape[1] // k.shape[1]
        if groups > 1:
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        root = sqrt(float(scale)) if scale is not None else q.shape[-1] ** -0.25
        products = (q * root) @ (k * root).transpose(-1, -2)
        capped = cap * torch.tanh(products / cap) if cap else products
        before = 0 if past_k is None else past_k.shape[2]
        bias = _bias(products, mask, before, valid if past_k is None else None, causal, back, ahead)
        biased = capped if bias is None else capped + bias
        weights = torch.softmax(biased, dim=-1)
        if bias is not None:  # a query that may look at nothing gets nothing
            empty = torch.isneginf(biased).all(dim=-1, keepdim=True)
            weights = torch.where(empty, torch.zeros_like(weights), weights)
        found = weights @ v
        found = found.transpose(1, 2).flatten(2) if is_flat else found
        return found, *present, (products, capped, biased, weights)[given]

    return Converted(Function(run), node.inputs)


def _in_heads(x: Tensor, count: int | None) -> Tensor:
    """(N, T, heads * size) -> (N, heads, T, size)."""
    return x.unflatten(2, (int(count or 1), -1)).transpose(1, 2)


def _bias(
    products: Tensor, mask: Tensor | None, before: int, valid: Tensor | None, causal: bool, back: int, ahead: int
) -> Tensor | None:
    """What is added to the products (N, heads, queries, keys): -inf where a query may not look; None for nothing."""
    queries, keys = products.shape[-2:]
    allowed: Tensor | None = None
    place = torch.arange(keys, device=products.device)
    offset = torch.tensor(before, device=products.device).reshape(1, 1, 1, 1)
    if valid is not None:
        allowed = place < valid.reshape(-1, 1, 1, 1)
        offset = valid.reshape(-1, 1, 1, 1) - queries
    own = offset + torch.arange(queries, device=products.device)[:, None]
    limits = [place <= own] if causal else []
    limits += [place >= own - back] if back >= 0 else []
    limits += [place <= own + ahead] if ahead >= 0 else []
    added: Tensor | None = None
    if mask is not None:
        missing = keys - mask.shape[-1]
        if missing:
            mask = torch.nn.functional.pad(mask, (0, missing), value=False if mask.dtype == torch.bool else -torch.inf)
        if mask.dtype == torch.bool:
            limits.append(mask)
        else:
            added = mask
    for limit in limits:
        allowed = limit if allowed is None else allowed & limit
    if allowed is None:
        return added
    closed = torch.zeros(allowed.shape, dtype=products.dtype, device=products.device).masked_fill(~allowed, -torch.inf)
    return closed if added is None else closed + added


def _rotary(node: Node) -> Converted:
    """Pairs of each token's values turned by angles that grow with its position (Su et al. 2021, arXiv:2104.09864)."""
    is_interleaved = bool(node.get("interleaved", 0))
    turned, heads = int(node.get("rotary_embedding_dim", 0)), int(node.get("num_heads", 0))

    def run(x: Tensor, cosines: Tensor, sines: Tensor, places: Tensor | None = None) -> Tensor:
        tokens = x.transpose(1, 2) if x.ndim == 4 else x.unflatten(2, (heads, -1))  # (N, T, heads, size)
        count = turned or tokens.shape[-1]
        if places is not None:
            cosines, sines = cosines[places], sines[places]
        cosines, sines = cosines.unsqueeze(2), sines.unsqueeze(2)
        part, rest = tokens[..., :count], tokens[..., count:]
        a, b = (part[..., 0::2], part[..., 1::2]) if is_interleaved else part.chunk(2, dim=-1)
        pair = cosines * a - sines * b, sines * a + cosines * b
        part = torch.stack(pair, dim=-1).flatten(-2) if is_interleaved else torch.cat(pair, dim=-1)
        found = torch.cat([part, rest], dim=-1)
        return found.transpose(1, 2) if x.ndim == 4 else found.flatten(2)

    return Converted(Function(run), node.inputs)


CONVERTERS: dict[tuple[str, str], Converter] = {
    ("", "Attention"): _attention,
    ("", "RotaryEmbedding"): _rotary,
}
