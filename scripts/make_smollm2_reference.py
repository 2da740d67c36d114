#!/usr/bin/env python3
"""Writes tests/data/smollm2_reference.json: what Hugging Face transformers says after five prompts.

The weights are those of the GGUF file that scripts/fetch_model.sh brings, dequantized to f32; decoding is greedy and
does not stop at end tokens. Needs: pip install torch transformers gguf accelerate
"""

import json
import pathlib
import sys

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parent.parent
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
NUM_TOKENS = 32
PROMPTS = [
    "The capital of France is",
    "def fibonacci(n):\n    ",
    "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n",
    "interface Order {\n  id: string;\n  quantity: number;\n",
    "Once upon a time, in a village by the sea, there lived a clockmaker who",
]


def run(model, ids):
    logits = model(torch.tensor([ids])).logits[0].double()
    return logits


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "models" / "smollm2-135m"
    load = dict(gguf_file=GGUF)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **load)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **load).eval()
    vectors = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, add_special_tokens=False).input_ids
        greedy, margins = [], []
        with torch.no_grad():
            for step in range(NUM_TOKENS):
                last = run(model, ids + greedy)[-1]
                best = last.topk(2).values
                if step == 0:
                    first = last
                greedy.append(int(last.argmax()))
                margins.append(round(float(best[0] - best[1]), 5))
        vectors.append(
            dict(
                prompt=prompt,
                ids=ids,
                greedy=greedy,
                margins=margins,
                logits_first_64=[round(float(x), 5) for x in first[:64]],
                text=tokenizer.decode(greedy),
            )
        )
    reference = dict(
        model=GGUF,
        dtype="float32 arithmetic on the dequantized weights",
        transformers=transformers.__version__,
        torch=torch.__version__,
        vectors=vectors,
    )
    out = ROOT / "tests" / "data" / "smollm2_reference.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(reference, indent=1, ensure_ascii=False) + "\n")
    for vector in vectors:
        print(min(vector["margins"]), repr(vector["text"]))


main()
