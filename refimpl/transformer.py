"""Layers of a transformer: attention and feed-forward blocks, each added to its input and normalized.

    norm_first:  x = x + block(norm(x))          otherwise:  x = norm(x + block(x))

The blocks of an encoder layer are self-attention and feed_forward(x) = linear2(activation(linear1(x))); a
decoder layer has an attention to the encoder's output, the memory, between them.
Stored in T, beside what `multihead_attention` stores:
    linear                 linear1 and linear2
    activation             gelu (relu of numbers of T needs no store)
    norm                   every norm
    sum                    x + block(x), and where gradients meet
    linear gradient        of the input of a linear layer
    norm gradient          of the input of a norm
    activation gradient    of the input of gelu
A self-test takes one out of the bounds at a time: correct results of the part and what comes behind it are
beyond them.  For a whole layer it shows what slack is left.
Source: torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer; Vaswani et al., arXiv:1706.03762,
section 3.1; Xiong et al., arXiv:2002.04745 (norm_first).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from refimpl.attention_arithmetic import Bounds, Loops
from refimpl.error_bounds import Bounded, Contract
from refimpl.module import Module, uniform
from refimpl.multihead_attention import Call, MultiheadAttention, named

__all__ = ["TransformerDecoderLayer", "TransformerEncoderLayer"]


class Composite(Module):
    """What is made of attentions: written once in the operations of an arithmetic, evaluated with `Loops` and
    with `Bounds`.

    A class derived from it names its `parts` and writes
        calls(*inputs) -> the checked call of every attention, by name
        operands(calls) -> what goes in, (N, L, E)
        run(arithmetic, calls, operands) -> output (N, L, E), what `back` needs
        back(arithmetic, calls, saved, up) -> gradients of the operands, gradients of the parameters by name
    """

    def parts(self) -> Mapping[str, Module]:
        raise NotImplementedError

    def calls(self, *inputs: Any) -> Mapping[str, Any]:
        raise NotImplementedError

    def operands(self, calls: Mapping[str, Any]) -> list[np.ndarray]:
        """Of an encoder src, of a decoder tgt and memory."""
        others = [calls["multihead_attn"].operands[1]] if "multihead_attn" in calls else []
        return [calls["self_attn"].operands[0], *others]

    def run(self, arithmetic: Any, calls: Mapping[str, Any], operands: list) -> tuple[Any, list]:
        raise NotImplementedError

    def back(self, arithmetic: Any, calls: Mapping[str, Any], saved: list, up: Any) -> tuple[list, dict]:
        raise NotImplementedError

    def state_dict(self) -> dict[str, np.ndarray]:
        """Parameters under torch's keys: those of a part behind its name and a dot."""
        return {
            f"{name}.{key}": array
            for name, part in self.parts().items()
            for key, array in part.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, part in self.parts().items():
            start = f"{name}."
            part.load_state_dict(
                {key.removeprefix(start): array for key, array in state.items() if key.startswith(start)}
            )
        extra = sorted(key for key in state if not key.startswith(tuple(f"{name}." for name in self.parts())))
        if extra:
            raise RuntimeError(f"{type(self).__name__}.load_state_dict: not known {extra}")

    def train(self, mode: bool = True) -> Module:
        for part in self.parts().values():
            part.train(mode)
        return super().train(mode)

    def _everything(self, arithmetic: Any, grad_outputs: tuple, inputs: tuple) -> tuple[dict, list, dict]:
        """Output by name, gradients of the inputs, gradients of the parameters by name."""
        calls = self.calls(*inputs)
        call = calls["self_attn"]
        output, saved = self.run(arithmetic, calls, [arithmetic.exact(x) for x in self.operands(calls)])
        output = {"output": arithmetic.moved(output, call.outward)}
        if not grad_outputs:
            return output, [], {}
        upstream = arithmetic.exact(call.inward(np.asarray(grad_outputs[0])))
        of_inputs, gradients = self.back(arithmetic, calls, saved, upstream)
        return output, [arithmetic.moved(gradient, call.outward) for gradient in of_inputs], gradients

    def forward(self, *inputs: Any) -> np.ndarray:
        return self._everything(Loops(), (), inputs)[0]["output"]

    def output_shapes(self, *inputs: Any) -> tuple[tuple[int, ...], ...]:
        self.calls(*inputs)  # refuses operands of wrong shapes
        return (np.shape(inputs[0]),)

    def _backward(self, grad_outputs: tuple, *inputs: Any) -> tuple[tuple, dict[str, np.ndarray]]:
        _, of_inputs, gradients = self._everything(Loops(), grad_outputs, inputs)
        return tuple(of_inputs), gradients

    def bounded(self, contract: Contract, inputs: tuple, grad_outputs: tuple) -> dict[str, Bounded]:
        loops = named(*self._everything(Loops(), grad_outputs, inputs))
        bounds = named(*self._everything(Bounds(contract), grad_outputs, inputs))
        return {name: bound.agreeing(loops[name], name) for name, bound in bounds.items()}


class _Layer(Composite):
    """Blocks in order, each an attention's name or 'feed_forward'; their norms are norm1, norm2, ..."""

    blocks: tuple[str, ...]

    def __init__(
        self,
        d_model,
        nhead,
        dim_feedforward=2048,
        dropout=0.1,
        activation="relu",
        layer_norm_eps=1e-5,
        batch_first=False,
        norm_first=False,
        bias=True,
    ):
        super().__init__()
        if activation not in ("relu", "gelu"):
            raise RuntimeError(f"activation is {activation!r}; needed is 'relu' or 'gelu'")
        self.activation, self.eps, self.dropout = activation, layer_norm_eps, dropout
        self.norm_first = norm_first
        self.attentions = {
            name: MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first)
            for name in self.blocks
            if name != "feed_forward"
        }
        self.own: dict[str, np.ndarray] = {
            "linear1.weight": uniform((dim_feedforward, d_model), d_model),
            "linear2.weight": uniform((d_model, dim_feedforward), dim_feedforward),
        }
        self.own |= {f"norm{i + 1}.weight": np.ones(d_model) for i in range(len(self.blocks))}
        if bias:
            self.own |= {
                "linear1.bias": uniform((dim_feedforward,), d_model),
                "linear2.bias": uniform((d_model,), dim_feedforward),
            }
            self.own |= {f"norm{i + 1}.bias": np.zeros(d_model) for i in range(len(self.blocks))}

    def parts(self) -> Mapping[str, Module]:
        return self.attentions

    def state_dict(self) -> dict[str, np.ndarray]:
        return super().state_dict() | self.own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        own = {key: array for key, array in state.items() if key.split(".")[0] not in self.attentions}
        super().load_state_dict({key: array for key, array in state.items() if key not in own})
        holder = Module()
        holder.parameters = tuple(self.own)
        vars(holder).update(self.own)
        holder.load_state_dict(own)
        self.own = {name: getattr(holder, name) for name in self.own}

    def _block(self, arithmetic: Any, name: str, calls: Mapping[str, Call], x: Any, memory: Any) -> tuple:
        """A block's output and what its gradient needs."""
        if name in self.attentions:
            others = [x, x] if name == "self_attn" else [memory, memory]
            output, _, state = self.attentions[name].run(arithmetic, calls[name], [x, *others])
            return output, state
        inner = arithmetic.affine(x, self.own["linear1.weight"], self.own.get("linear1.bias"))
        active = arithmetic.activation(self.activation, inner)
        output = arithmetic.affine(active, self.own["linear2.weight"], self.own.get("linear2.bias"))
        return output, (x, inner, active)

    def _block_gradients(
        self, arithmetic: Any, name: str, calls: Mapping[str, Call], state: tuple, up: Any
    ) -> tuple[list, dict]:
        """Gradients of the block's inputs (its own and, of the memory, one more) and of its parameters."""
        if name in self.attentions:
            of_inputs, gradients = self.attentions[name].back(arithmetic, calls[name], state, up)
            return of_inputs, {f"{name}.{key}": gradient for key, gradient in gradients.items()}
        x, inner, active = state
        up, weight2, bias2 = arithmetic.affine_gradients(up, active, self.own["linear2.weight"])
        up = arithmetic.activation_gradient(self.activation, up, inner)
        up, weight1, bias1 = arithmetic.affine_gradients(up, x, self.own["linear1.weight"])
        return [up], {
            "linear1.weight": weight1,
            "linear1.bias": bias1,
            "linear2.weight": weight2,
            "linear2.bias": bias2,
        }

    def _norm(self, arithmetic: Any, place: int, x: Any) -> Any:
        name = f"norm{place + 1}"
        return arithmetic.norm(x, self.own[f"{name}.weight"], self.own.get(f"{name}.bias"), self.eps)

    def _norm_gradients(self, arithmetic: Any, place: int, x: Any, up: Any) -> tuple[Any, dict]:
        name = f"norm{place + 1}"
        up, weight, bias = arithmetic.norm_gradients(up, x, self.own[f"{name}.weight"], self.eps)
        return up, {f"{name}.weight": weight, f"{name}.bias": bias}

    def run(self, arithmetic: Any, calls: Mapping[str, Call], operands: list) -> tuple[Any, list]:
        """The output, (N, L, E), and for every block the input of its norm and what its gradient needs."""
        if self.training and self.dropout:
            raise NotImplementedError(
                f"{type(self).__name__}: dropout is {self.dropout}; only 0 has a reference"
            )
        x, memory = (*operands, None)[:2]
        saved = []
        for place, name in enumerate(self.blocks):
            if self.norm_first:
                output, state = self._block(arithmetic, name, calls, self._norm(arithmetic, place, x), memory)
                saved.append((x, state))
                x = arithmetic.add(x, output)
            else:
                output, state = self._block(arithmetic, name, calls, x, memory)
                x = arithmetic.add(x, output)
                saved.append((x, state))
                x = self._norm(arithmetic, place, x)
        return x, saved

    def back(self, arithmetic: Any, calls: Mapping[str, Call], saved: list, up: Any) -> tuple[list, dict]:
        """Gradients of x and, of a decoder, memory; and of the parameters by name."""
        gradients: dict[str, Any] = {}
        of_memory: list = []
        for place in reversed(range(len(self.blocks))):
            normalized, state = saved[place]
            name = self.blocks[place]
            if not self.norm_first:
                up, found = self._norm_gradients(arithmetic, place, normalized, up)
                gradients |= found
            (inner, *others), found = self._block_gradients(arithmetic, name, calls, state, up)
            gradients |= found
            of_memory += others
            if self.norm_first:
                inner, found = self._norm_gradients(arithmetic, place, normalized, inner)
                gradients |= found
            up = arithmetic.add(up, inner)
        return [up, *of_memory], {name: gradients[name] for name in self.state_dict()}


def _call(layer: MultiheadAttention, x: Any, memory: Any, padding: Any, mask: Any, is_causal: Any) -> Call:
    """A call of an attention to `memory` whose weights nobody asks for."""
    return Call(layer, x, memory, memory, padding, need_weights=False, attn_mask=mask, is_causal=is_causal)


class TransformerEncoderLayer(_Layer):
    """Self-attention and a feed-forward block.

        x = norm1(src + self_attn(src)); output = norm2(x + linear2(activation(linear1(x))))
        with norm_first: x = src + self_attn(norm1(src)); output = x + linear2(activation(linear1(norm2(x))))

    src (L, N, d_model), with `batch_first` (N, L, d_model), or (L, d_model) -> output the same; src_mask,
    src_key_padding_mask as attn_mask and key_padding_mask of `MultiheadAttention`.
    Error: the parts' errors handed on; every part's output, every sum and every gradient between parts is
    stored in T.  Where relu's argument may have either sign, so may its slope be 0 or 1.
    Raises RuntimeError for another activation, NotImplementedError for dropout in training; otherwise as
    `MultiheadAttention`.
    Source: torch.nn.TransformerEncoderLayer."""

    blocks = ("self_attn", "feed_forward")

    def calls(self, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
        layer = self.attentions["self_attn"]
        return {"self_attn": _call(layer, src, src, src_key_padding_mask, src_mask, is_causal)}


class TransformerDecoderLayer(_Layer):
    """Self-attention, an attention to the memory, and a feed-forward block.

        x = norm1(tgt + self_attn(tgt)); x = norm2(x + multihead_attn(x, memory, memory))
        output = norm3(x + linear2(activation(linear1(x)))); with norm_first every norm before its block

    tgt (L, N, d_model), memory (S, N, d_model), or both with `batch_first` (N, ...), or without N -> output
    as tgt; masks of tgt and memory as those of `MultiheadAttention`.
    Error, raises: as `TransformerEncoderLayer`.  Source: torch.nn.TransformerDecoderLayer."""

    blocks = ("self_attn", "multihead_attn", "feed_forward")

    def calls(
        self,
        tgt,
        memory,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        tgt_is_causal=False,
        memory_is_causal=False,
    ):
        own, other = self.attentions["self_attn"], self.attentions["multihead_attn"]
        return {
            "self_attn": _call(own, tgt, tgt, tgt_key_padding_mask, tgt_mask, tgt_is_causal),
            "multihead_attn": _call(
                other, tgt, memory, memory_key_padding_mask, memory_mask, memory_is_causal
            ),
        }
