#!/usr/bin/env python3
"""Writes tests/data/deepseek_v2/: small random DeepSeek-V2 models, with the logits of Hugging Face transformers.

Each file holds a configuration, the names and shapes of the checkpoint's tensors, token ids, and the logits at every
position. The weights are not stored: they follow from each tensor's name (`values`), and tests/deepseek_v2.rs makes
the same ones. Real weights are not needed. Needs: pip install torch transformers safetensors numpy
"""

import json
import math
import pathlib
import tempfile

import numpy
import safetensors.numpy
import torch
import transformers
from transformers import DeepseekV2Config, DeepseekV2ForCausalLM

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "deepseek_v2"
NUM_IDS = 60
BASE = dict(
    vocab_size=160,
    hidden_size=64,
    intermediate_size=96,
    moe_intermediate_size=32,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=4,
    kv_lora_rank=64,
    qk_nope_head_dim=32,
    qk_rope_head_dim=16,
    v_head_dim=32,
    first_k_dense_replace=1,
    n_routed_experts=16,
    n_shared_experts=2,
    num_experts_per_tok=4,
    routed_scaling_factor=1.0,
    topk_method="greedy",
    n_group=1,
    topk_group=1,
    norm_topk_prob=False,
    max_position_embeddings=512,
    rms_norm_eps=1e-6,
    bos_token_id=1,
    eos_token_id=2,
)


def yarn(**others):
    parameters = dict(rope_type="yarn", rope_theta=10000.0, beta_fast=32, beta_slow=1)
    return dict(rope_parameters={**parameters, "original_max_position_embeddings": 64, **others})


MODELS = {
    # As DeepSeek-Coder-V2-Lite: queries at once, any expert, YaRN whose two magnitudes are equal.
    "lite": dict(q_lora_rank=None, **yarn(factor=40.0, mscale=0.707, mscale_all_dim=0.707)),
    # As DeepSeek-V2: queries through a latent, grouped choice, scaled weights. Widths that are not whole vectors, and
    # an eps that the norms of latents do not share.
    "grouped": dict(
        q_lora_rank=40,
        kv_lora_rank=44,
        qk_nope_head_dim=20,
        qk_rope_head_dim=12,
        v_head_dim=28,
        topk_method="group_limited_greedy",
        n_group=4,
        topk_group=2,
        routed_scaling_factor=4.0,
        rms_norm_eps=1e-3,
        **yarn(factor=8.0, mscale=1.0, mscale_all_dim=0.5),
    ),
    # No scaling of rope, no dense layers, one shared expert, a tied head.
    "plain": dict(
        q_lora_rank=None,
        first_k_dense_replace=0,
        n_shared_experts=1,
        num_hidden_layers=2,
        tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=10000.0),
    ),
}


def values(name, shape):
    """Numbers in steps of 2^-23, by splitmix64 from the FNV-1a hash of the tensor's name."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % 2**64
    with numpy.errstate(over="ignore"):
        z = numpy.uint64(seed) + numpy.arange(1, math.prod(shape) + 1, dtype=numpy.uint64) * numpy.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        z = z ^ (z >> numpy.uint64(31))
    unit = (z >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**23) - numpy.float32(1)
    if "norm" in name:
        unit = numpy.float32(1) + unit * numpy.float32(0.25)
    else:
        unit = unit * numpy.float32(0.3125)
    return unit.reshape(shape)


def reference(options):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        config = DeepseekV2Config(**{**BASE, **options})
        DeepseekV2ForCausalLM(config).save_pretrained(folder)
        weights = folder / "model.safetensors"
        shapes = {name: list(tensor.shape) for name, tensor in safetensors.numpy.load_file(weights).items()}
        made = {name: values(name, shape) for name, shape in shapes.items()}
        safetensors.numpy.save_file(made, weights, metadata={"format": "pt"})
        how = dict(dtype=torch.float32, attn_implementation="eager", experts_implementation="eager")
        model, info = DeepseekV2ForCausalLM.from_pretrained(folder, output_loading_info=True, **how)
        assert not info["missing_keys"] and not info["unexpected_keys"], info
        ids = torch.randint(0, 128, (1, NUM_IDS), generator=torch.Generator().manual_seed(11))
        with torch.no_grad():
            logits = model.eval()(ids).logits[0]
        config = json.loads((folder / "config.json").read_text())
    return dict(
        config=config,
        tensors=dict(sorted(shapes.items())),
        ids=ids[0].tolist(),
        logits=[[round(float(x), 5) for x in row] for row in logits],
    )


def old_form(config):
    """Rope as configurations said it before transformers 5: as the real files do."""
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = {"type": parameters.pop("rope_type"), **parameters}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, options in MODELS.items():
        found = reference(options)
        if name == "lite":
            old_form(found["config"])
        (OUT / f"{name}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        largest = max(abs(x) for row in found["logits"] for x in row)
        print(name, len(found["tensors"]), "tensors, largest logit", largest)
    print(transformers.__version__, torch.__version__)


main()
