#!/usr/bin/env python3
"""Writes tests/data/models/: small random models of the real shapes, with the logits of Hugging Face transformers.

Each folder holds config.json, the weights as safetensors (float32 unless said otherwise) and expected.json: token
ids and the logits at every position. tests/parity.rs compares. Seeds are fixed: the same versions of torch and
transformers write the same bytes. Needs: pip install torch transformers safetensors
"""

import json
import pathlib
import shutil

import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "models"
BASE = dict(
    vocab_size=70,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    bos_token_id=1,
    eos_token_id=2,
)


def rope(rope_type, theta=10000.0, **others):
    return dict(rope_parameters=dict(rope_type=rope_type, rope_theta=theta, **others))


LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)
MODELS = {
    # Grouped-query attention, and a vocabulary (70) that is not a whole number of anything.
    "gqa": (LlamaConfig, LlamaForCausalLM, {}),
    "rope-linear": (LlamaConfig, LlamaForCausalLM, rope("linear", 100000.0, factor=4.0)),
    "rope-llama3": (LlamaConfig, LlamaForCausalLM, rope("llama3", 500000.0, **LLAMA3)),
    "rope-yarn": (LlamaConfig, LlamaForCausalLM, rope("yarn", factor=4.0, original_max_position_embeddings=64)),
    "qkv-bias": (Qwen2Config, Qwen2ForCausalLM, rope("default", 1000000.0)),
    # Heads wider than hidden / heads, one key head for all, biases everywhere.
    "wide-heads": (
        LlamaConfig,
        LlamaForCausalLM,
        dict(head_dim=20, num_key_value_heads=1, attention_bias=True, mlp_bias=True),
    ),
    "tied-head": (LlamaConfig, LlamaForCausalLM, dict(tie_word_embeddings=True)),
    # Rows of logits past the tokenizer's end: 70 ids in 96 rows.
    "padded": (LlamaConfig, LlamaForCausalLM, dict(vocab_size=96)),
}


def build(kind, architecture, options, dtype):
    torch.manual_seed(7)
    config = kind(**{**BASE, **options})
    model = architecture(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Large enough that every layer moves the logits.
            spread = 0.2 if parameter.dim() == 2 else 0.1
            values = torch.randn_like(parameter) * spread + (1.0 if "norm" in name else 0.0)
            # Rounded as they will be stored; the arithmetic below stays float32.
            parameter.copy_(values.to(dtype).float())
    return model


def write(name, model, dtype=torch.float32, shard="100MB"):
    folder = OUT / name
    shutil.rmtree(folder, ignore_errors=True)
    ids = torch.randint(0, 70, (1, 90), generator=torch.Generator().manual_seed(11))
    with torch.no_grad():
        logits = model(ids).logits[0]
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    (folder / "generation_config.json").unlink(missing_ok=True)
    rows = [[round(float(x), 5) for x in row] for row in logits]
    json.dump(dict(ids=ids[0].tolist(), logits=rows), open(folder / "expected.json", "w"), separators=(",", ":"))


def old_form(name):
    """The same model with rope as configurations said it before transformers 5."""
    path = OUT / name / "config.json"
    config = json.loads(path.read_text())
    parameters = config.pop("rope_parameters")
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = {"type": parameters.pop("rope_type"), **parameters}
    path.write_text(json.dumps(config, indent=2) + "\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, (kind, architecture, options) in MODELS.items():
        write(name, build(kind, architecture, options, torch.float32))
    write("bf16", build(LlamaConfig, LlamaForCausalLM, {}, torch.bfloat16), torch.bfloat16)
    write("f16", build(LlamaConfig, LlamaForCausalLM, {}, torch.float16), torch.float16)
    write("sharded", build(LlamaConfig, LlamaForCausalLM, {}, torch.float32), shard="40KB")
    old_form("rope-linear")
    print(transformers.__version__, torch.__version__, sorted(folder.name for folder in OUT.iterdir()))


main()
