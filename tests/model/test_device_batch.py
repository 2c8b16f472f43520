"""Documents that stay apart in the model, and the check before training."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ranks import in_ranks
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedModel,
    modeling_flash_attention_utils,
)

from pipeline.config.run_config import RunConfig
from pipeline.errors import ConfigError
from pipeline.model.device_batch import Mover, check_document_mask
from pipeline.model.language_model import LanguageModel
from pipeline.sampling.batches import Batch

MakeRun = Callable[..., Path]
VOCABULARY = 64
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
GROUPED = {**LLAMA, "num_key_value_heads": 2}
SIZES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "gpt_neox": LLAMA,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 16},
}
ROWS = ((5, 1, 7, 3), (1, 2, 9, 4))
"""Lengths of the documents in two rows of 16."""


class PlainEngine:
    """A model, called as an engine is."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.module, self.device = LanguageModel(model), torch.device("cpu")

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        return self.module(*inputs, **named)

    def eval(self) -> None:
        self.module.eval()

    def train(self) -> None:
        self.module.train()


def make_engine(
    architecture: str, attention: str = "sdpa", vocabulary: int = VOCABULARY, **sizes: Any
) -> PlainEngine:
    """Build one whose attention is far from uniform, so that nothing of another document goes
    unnoticed."""
    torch.manual_seed(1)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    settings = {**SIZES.get(architecture, {}), **sizes}
    config = AutoConfig.for_model(architecture, vocab_size=vocabulary, **ends, **settings)
    model = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=attention
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5 if parameter.dim() >= 2 else 1)
    return PlainEngine(model)


def make_rows() -> tuple[torch.Tensor, torch.Tensor]:
    """Return random ids and the positions of the documents in ROWS, `(2, 16)` each."""
    positions = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in ROWS])
    ids = torch.randint(VOCABULARY, positions.shape, generator=torch.Generator().manual_seed(2))
    return ids, positions


def documents() -> list[tuple[int, slice]]:
    """Return row and columns of every document."""
    return [
        (i, slice(sum(row[:j]), sum(row[: j + 1])))
        for i, row in enumerate(ROWS)
        for j in range(len(row))
    ]


def largest(difference: torch.Tensor) -> float:
    return float(difference.abs().max())


MODELS = [(architecture, attention) for architecture in SIZES for attention in ("sdpa", "eager")]


@pytest.fixture
def compiler_folder(
    attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Leave nothing in the compiler's own folders; flex_attention is compiled, in half a minute."""
    if attention != "flex_attention":
        yield
        return
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with config.patch(cpp_cache_precompile_headers=False):
        yield


@torch.no_grad()
@pytest.mark.usefixtures("compiler_folder")
@pytest.mark.parametrize(
    ("architecture", "attention"),
    [*MODELS, pytest.param("llama", "flex_attention", marks=[pytest.mark.full, pytest.mark.ranks])],
)
def test_a_document_is_predicted_as_if_it_were_alone(architecture: str, attention: str) -> None:
    engine = make_engine(architecture, attention)
    ids, positions = make_rows()
    logits, unmasked = engine(ids, positions=positions), engine(ids)
    assert logits.shape == (2, 16, VOCABULARY)
    for row, where in documents():
        alone = engine(ids[row : row + 1, where])[0]
        assert largest(alone) > 0.1
        assert largest(logits[row, where] - alone) < 1e-5
        if where.start:
            assert largest(unmasked[row, where] - alone) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "attention"), MODELS)
def test_another_text_in_one_document_changes_no_logit_of_the_others(
    architecture: str, attention: str
) -> None:
    engine = make_engine(architecture, attention)
    ids, positions = make_rows()
    logits, unmasked = engine(ids, positions=positions), engine(ids)
    for row, where in documents():
        changed = ids.clone()
        changed[row, where] = (changed[row, where] + 1) % VOCABULARY
        others = torch.ones_like(ids, dtype=torch.bool)
        others[row, where] = False
        assert largest((engine(changed, positions=positions) - logits)[others]) < 1e-6
        assert largest((engine(changed, positions=positions) - logits)[~others]) > 1e-2
        if where.stop < 16:
            assert largest((engine(changed) - unmasked)[row, where.stop :]) > 1e-2


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "attention"), MODELS)
def test_rows_one_after_another_are_the_same_as_rows_in_a_batch(
    architecture: str, attention: str
) -> None:
    engine = make_engine(architecture, attention)
    ids, positions = make_rows()
    one_row = engine(ids.reshape(1, -1), positions=positions.reshape(1, -1)).view(2, 16, -1)
    assert largest(one_row - engine(ids, positions=positions)) < 1e-5


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, softmax_scale: float
) -> torch.Tensor:
    """Compute causal attention as flash-attention's kernels do, `(batch, length, heads, size)`,
    heads in groups."""
    q, k, v = (x.transpose(1, 2) for x in (query, key, value))
    grouped = q.shape[1] != k.shape[1]
    out = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, scale=softmax_scale, enable_gqa=grouped
    )
    return out.transpose(1, 2)


def attend_by_lengths(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    softmax_scale: float,
) -> torch.Tensor:
    """Do so for texts one after another, `(all tokens, heads, size)`, that begin where `cu_seqlens`
    says."""
    assert torch.equal(cu_seqlens_q, cu_seqlens_k)
    parts = [x.split(cu_seqlens_q.diff().tolist()) for x in (query, key, value)]
    return torch.cat(
        [
            attend(q[None], k[None], v[None], softmax_scale)[0]
            for q, k, v in zip(*parts, strict=True)
        ]
    )


@pytest.fixture
def flash_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have transformers find kernels that compute on CPUs what flash-attention's compute, below its
    own dispatch."""

    def arguments(**given: Any) -> dict[str, Any]:
        assert given["is_causal"]
        return {"softmax_scale": given["softmax_scale"]}

    found = ((attend, attend_by_lengths, None, None, None), (arguments, dict))
    monkeypatch.setattr(
        modeling_flash_attention_utils, "lazy_import_flash_attention", lambda implementation: found
    )


@torch.no_grad()
@pytest.mark.usefixtures("flash_kernels")
@pytest.mark.parametrize("architecture", SIZES)
def test_flash_attention_keeps_documents_apart_for_all_rows_as_one(architecture: str) -> None:
    engine = make_engine(architecture)
    engine.module.double()  # what is in fp32 transformers would cast, as the real kernels take half precision only
    ids, positions = make_rows()
    expected, unmasked = engine(ids, positions=positions), engine(ids)
    engine.module.config._attn_implementation = "flash_attention_2"
    assert largest(engine(ids, positions=positions) - expected) < 1e-5
    assert largest(engine(ids[:1], positions=positions[:1]) - expected[:1]) < 1e-5
    assert largest(engine(ids) - unmasked) < 1e-5
    whole = torch.arange(16).repeat(2, 1)
    assert largest(engine(ids, positions=whole) - unmasked) < 1e-5, "each row one document"
    in_a_batch = engine.module.causal_lm(
        input_ids=ids, position_ids=positions, use_cache=False
    ).logits
    assert largest(in_a_batch - expected) > 1e-2, (
        "transformers sees documents in batches now: LanguageModel can be simpler"
    )
    check_document_mask(engine.module, 16)


def test_a_batch_is_moved_whole() -> None:
    parts = [np.arange(6).reshape(2, 3) + i for i in range(3)]
    moved = Mover(torch.device("cpu"))(
        Batch(parts[0], parts[1], parts[2], np.array([3, 4], np.uint64), np.array([0, 3]))
    )
    moved.wait()
    assert moved.positions is not None
    found = [moved.inputs.tolist(), moved.targets.tolist(), moved.positions.tolist()]
    assert moved.groups.tolist() == [0, 3]
    assert (found, moved.checksum) == ([part.tolist() for part in parts], 7)
    assert (
        Mover(torch.device("cpu"))(
            Batch(parts[0], parts[1], None, np.zeros(2, np.uint64), np.zeros(2, np.int64))
        ).positions
        is None
    )


@pytest.mark.parametrize("architecture", SIZES)
@pytest.mark.parametrize(
    ("length", "dtype"),
    [(2, torch.float32), (3, torch.float32), (16, torch.float32), (16, torch.bfloat16)],
)
def test_architectures_that_keep_documents_apart_pass_the_check(
    architecture: str, length: int, dtype: torch.dtype
) -> None:
    engine = make_engine(architecture)
    engine.module.to(dtype=dtype)  # pyright: ignore[reportCallIssue]
    engine.train()
    before = torch.get_rng_state()
    check_document_mask(engine.module, length)
    assert torch.equal(torch.get_rng_state(), before)
    assert engine.module.training
    engine.eval()
    check_document_mask(engine.module, length)
    assert not engine.module.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "sizes"),
    [
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
        ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4}),
        ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}),
        ("rwkv", {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2}),
    ],
)
def test_architectures_that_let_documents_see_each_other_are_refused(
    architecture: str, sizes: dict[str, int], dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    config = AutoConfig.for_model(architecture, vocab_size=VOCABULARY, **sizes)
    model = AutoModelForCausalLM.from_config(
        config, dtype=dtype
    )  # with the weights that training begins with
    with pytest.raises(
        ConfigError,
        match=rf"data\.document_mask = true: {architecture} does not keep documents apart",
    ):
        check_document_mask(PlainEngine(model).module, 16)


@pytest.mark.parametrize(("vocabulary", "length"), [(2, 2), (3, 16), (17, 4)])
def test_the_check_stays_within_a_small_vocabulary_and_few_positions(
    vocabulary: int, length: int
) -> None:
    check_document_mask(
        make_engine("gpt2", vocabulary=vocabulary, n_positions=length).module, length
    )
    bloom = make_engine("bloom", "eager", vocabulary, hidden_size=32, n_layer=2, n_head=4)
    with pytest.raises(ConfigError, match="does not keep documents apart"):
        check_document_mask(bloom.module, length)


def state_around_the_check(config: RunConfig) -> dict[str, Any]:
    """Return what the check must not change in an engine, before and after it; runs on a rank."""
    from pipeline.engine.deepspeed_config import (
        construction_sharding,
        read_template,
        resolve_template,
    )
    from pipeline.engine.engine import make_engine
    from pipeline.engine.groups import join_process_groups
    from pipeline.model.architecture import model_config
    from pipeline.model.construction import build_model
    from pipeline.store.rank_environment import groups_of_this_process

    groups = groups_of_this_process()
    join_process_groups(groups)
    resolved = resolve_template(read_template(config.deepspeed), config, groups.sizes)
    sharding = construction_sharding(resolved)
    engine = make_engine(
        config,
        groups,
        resolved,
        LanguageModel(build_model(config, model_config(config), sharding=sharding)),
    )

    def state() -> dict[str, Any]:
        parameters = list(engine.module.parameters())
        return {
            "held": [str(p.ds_status) for p in parameters],
            "elements": [p.numel() for p in parameters],
            "gradients": [p.grad is not None for p in parameters],
            "training": [module.training for module in engine.module.modules()],
            "counters": [
                engine.micro_steps,
                engine.global_steps,
                engine.global_samples,
                engine.skipped_steps,
            ],
            "random": torch.get_rng_state().tolist(),
        }

    before = state()
    check_document_mask(engine.module, config.data.sequence_length)
    after = state()
    encoder = build_model(
        config, AutoConfig.for_model("bert", vocab_size=64, **LLAMA), sharding=sharding
    )
    with pytest.raises(ConfigError) as refused:
        make_engine(config, groups, resolved, LanguageModel(encoder))
    return {"before": before, "after": after, "refused": refused.value.problems}


@pytest.mark.ranks
def test_a_sharded_engine_is_as_it_was_after_the_check_and_an_encoder_makes_none(
    make_run: MakeRun, tmp_path: Path
) -> None:
    template = {"zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0}}
    (tmp_path / "sharded.json").write_text(json.dumps(template))
    overrides = [f"deepspeed={tmp_path / 'sharded.json'}", "model.config.attention_dropout=0.1"]
    overrides += ["model.scale_residual_init=false"]  # which the encoder has no place for
    states = in_ranks(make_run(), 1, state_around_the_check, overrides)
    assert set(states["before"]["held"]) == {"ZeroParamStatus.NOT_AVAILABLE"}
    assert all(states["before"]["training"])
    assert states["after"] == states["before"]
    assert len(states["refused"]) == 1
