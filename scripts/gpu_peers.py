#!/usr/bin/env python3
"""How fast are prefill and decode beside PyTorch's and llama.cpp's, on the same shapes, in the same minutes?

  gpu_peers.py prefill --bench BENCH_PREFILL [--gpu N] [--shape SHAPE] [--rounds 5] [LENGTH[/STEP]...]
  gpu_peers.py decode --bench BENCH_DECODE --shapes BENCH_PREFILL [--gpu N] [--rounds 3] [CELL...]

The benches are built ones (scripts/build_gpu.sh); every side has random weights of one shape, bf16 on a GPU and f32 on
a CPU, and the sides take turns. A round gives a ratio, above 1.00 we are faster; the table has the mean of the ratios
with its 95 % confidence interval.

`prefill`: a Llama written out in PyTorch, with its `scaled_dot_product_attention`, whole prompts at once; ours runs in
steps, as the engine cuts prompts. `decode`: Hugging Face transformers with a static cache and `torch.compile`, and
`llama-bench` where it is on PATH, which decodes one sequence alone; a cell is as benches/decode.rs has it, and the
peers reach its context at the end of a run. What is missing or does not compile is said above the table.
"""

import argparse
import dataclasses
import inspect
import json
import math
import os
import pathlib
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import textwrap
import time

DECODE_STEPS = 48
SECONDS_PER_RUN = 420


class PeerError(Exception):
    """What is missing or went wrong."""


# --- figures ---------------------------------------------------------------------------------------------------------


def margin(values):
    """Half the width of the 95 % confidence interval of the mean (normal approximation)."""
    return 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def ratio_cell(ours, peer):
    """The mean of the rounds' ratios; a dash where the peer has no figures."""
    if not peer:
        return "-"
    ratios = [a / b for a, b in zip(ours, peer)]
    return f"{statistics.mean(ratios):.2f} +- {margin(ratios):.2f}"


def rate_cell(rates):
    return f"{statistics.median(rates):.1f}" if rates else "-"


def print_table(rows):
    for index, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if index == 0:
            print("|" + "---|" * len(row))


def run(command):
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS_PER_RUN)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"{command[0]}: {error}") from None
    # Indented: the only table that begins a line is the one at the end.
    print(textwrap.indent(done.stdout + done.stderr, "  "), end="", file=sys.stderr, flush=True)
    if done.returncode != 0:
        raise PeerError(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()[-1000:]}")
    return done.stdout


def read_shape(bench_prefill, shape):
    return json.loads(run([bench_prefill, "--config", shape]))


# --- PyTorch, written out -------------------------------------------------------------------------------------------


def import_torch():
    try:
        import torch
    except ImportError as error:
        print(f"PyTorch was not measured: {error}")
        return None
    print(f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, {torch.get_num_threads()} threads")
    return torch


def torch_device(torch, gpu):
    if gpu is None:
        return torch.device("cpu"), torch.float32
    if not torch.cuda.is_available():
        raise PeerError("this PyTorch sees no GPU")
    return torch.device("cuda", gpu), torch.bfloat16


class TorchLlama:
    """The forward pass of benches/prefill.rs: a prompt into an empty cache, logits of its last token."""

    def __init__(self, torch, config, device, dtype):
        self.torch, self.config, self.device, self.dtype = torch, config, device, dtype
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.head_dim = hidden // self.heads
        self.grouping = {} if self.heads == self.kv_heads else {"enable_gqa": True}
        kv_width = self.kv_heads * self.head_dim
        self.embedding = self.matrix(config["vocab_size"], hidden)
        self.layers = [
            {
                "norms": torch.ones(2, hidden, device=device, dtype=dtype),
                "q": self.matrix(hidden, hidden), "k": self.matrix(kv_width, hidden),
                "v": self.matrix(kv_width, hidden), "o": self.matrix(hidden, hidden),
                "gate": self.matrix(inner, hidden), "up": self.matrix(inner, hidden),
                "down": self.matrix(hidden, inner),
            }
            for _ in range(config["num_hidden_layers"])
        ]
        self.norm = torch.ones(hidden, device=device, dtype=dtype)
        self.head = self.matrix(config["vocab_size"], hidden)

    def matrix(self, outputs, inputs):
        bound = math.sqrt(3 / inputs)
        weights = self.torch.empty(outputs, inputs, device=self.device, dtype=self.dtype)
        return weights.uniform_(-bound, bound)

    def angles(self, length):
        torch, scaling = self.torch, self.config.get("rope_scaling") or {"factor": 1.0}
        steps = torch.arange(0, self.head_dim, 2, device=self.device, dtype=torch.float32) / self.head_dim
        positions = torch.arange(length, device=self.device, dtype=torch.float32) / scaling["factor"]
        angles = torch.outer(positions, self.config["rope_theta"] ** -steps)
        both = torch.cat([angles, angles], dim=-1)
        return both.cos().to(self.dtype), both.sin().to(self.dtype)

    def turn(self, xs, cos, sin):
        left, right = xs.chunk(2, dim=-1)
        return xs * cos + self.torch.cat([-right, left], dim=-1) * sin

    def rms_norm(self, xs, weight):
        return self.torch.nn.functional.rms_norm(xs, weight.shape, weight, self.config["rms_norm_eps"])

    def forward(self, ids):
        torch, functional = self.torch, self.torch.nn.functional
        cos, sin = self.angles(len(ids))
        xs = functional.embedding(ids, self.embedding)
        for layer in self.layers:
            normed = self.rms_norm(xs, layer["norms"][0])
            q, k, v = (
                functional.linear(normed, layer[name]).view(1, len(ids), -1, self.head_dim).transpose(1, 2)
                for name in ("q", "k", "v")
            )
            gathered = functional.scaled_dot_product_attention(
                self.turn(q, cos, sin), self.turn(k, cos, sin), v, is_causal=True, **self.grouping
            )
            xs = xs + functional.linear(gathered.transpose(1, 2).reshape(len(ids), -1), layer["o"])
            normed = self.rms_norm(xs, layer["norms"][1])
            inner = functional.silu(functional.linear(normed, layer["gate"])) * functional.linear(normed, layer["up"])
            xs = xs + functional.linear(inner, layer["down"])
        return functional.linear(self.rms_norm(xs[-1], self.norm), self.head)

    def seconds(self, length):
        with self.torch.inference_mode():
            ids = self.torch.arange(length, device=self.device) * 7919 % self.config["vocab_size"]
            synchronize(self.torch, self.device)
            start = time.perf_counter()
            logits = self.forward(ids).float().cpu()
            seconds = time.perf_counter() - start
        if not bool(logits.isfinite().all()):
            raise PeerError("PyTorch's logits are not finite")
        return seconds


def synchronize(torch, device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


# --- prefill ---------------------------------------------------------------------------------------------------------


class OurPrefill:
    """benches/prefill.rs, which answers one prompt at a time."""

    def __init__(self, bench, gpu, shape):
        device = [] if gpu is None else ["--gpu", str(gpu)]
        command = [str(bench), "--shape", shape, *device, "-"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, prompt):
        self.process.stdin.write(f"{prompt}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        print(line, end="", file=sys.stderr, flush=True)
        if " s, " not in line:
            raise PeerError(f"benches/prefill.rs answered {line!r} to {prompt}, exit status {self.process.poll()}")
        return float(line.split(": ")[1].split(" s, ")[0])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def prefill(arguments):
    default = ["512", "512/128", "2048"] if arguments.gpu is None else [
        "512", "4096", "4096/2048", "16384", "16384/2048"]
    prompts = arguments.what or default
    ours = OurPrefill(arguments.bench, arguments.gpu, arguments.shape)
    torch = import_torch()
    peer = None
    if torch:
        config = read_shape(arguments.bench, arguments.shape)
        peer = TorchLlama(torch, config, *torch_device(torch, arguments.gpu))
    rows = [("tokens", "tokens in a step of ours", "ananke tok/s", "PyTorch SDPA tok/s", "ananke / PyTorch (95 %)")]
    for prompt in prompts:
        length = int(prompt.partition("/")[0])
        ours_rates, peer_rates = [], []
        for number in range(arguments.rounds + 1):
            pair = [("ours", lambda: ours.seconds(prompt))]
            if peer:
                pair.append(("peer", lambda: peer.seconds(length)))
            seconds = {name: measure() for name, measure in (pair if number % 2 else pair[::-1])}
            if number > 0:  # the first one warms up
                ours_rates.append(length / seconds["ours"])
                peer_rates += [length / seconds["peer"]] if peer else []
        step = prompt.partition("/")[2] or "engine's default"
        rates = (rate_cell(ours_rates), rate_cell(peer_rates), ratio_cell(ours_rates, peer_rates))
        rows.append((str(length), step, *rates))
    ours.close()
    print_table(rows)


# --- decode: transformers -------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Cell:
    """A cell of benches/decode.rs."""

    name: str
    shape: str
    batch: int
    context: int

    @classmethod
    def parse(cls, text):
        try:
            shape, _layout, batch, context = text.split("/")
            return cls(text, shape, int(batch), int(context))
        except ValueError:
            raise PeerError(f"cell `{text}`; expected SHAPE/LAYOUT/BATCH/CONTEXT") from None


class Transformers:
    """LlamaForCausalLM of one shape; greedy decode with a static cache."""

    def __init__(self, torch, config, device, dtype):
        import transformers

        self.torch, self.device, self.transformers = torch, device, transformers
        known = {key: value for key, value in config.items() if key not in ("model_type", "rope_scaling", "rope_theta")}
        rope = {"rope_type": config["rope_scaling"]["type"], "factor": config["rope_scaling"]["factor"]}
        if int(transformers.__version__.split(".")[0]) < 5:
            known |= {"rope_theta": config["rope_theta"], "rope_scaling": rope}
        else:
            known["rope_parameters"] = {"rope_theta": config["rope_theta"], **rope}
        self.config = transformers.LlamaConfig(**known, attn_implementation="sdpa")
        with torch.device(device):
            self.model = transformers.LlamaForCausalLM(self.config).to(dtype).eval()
        self.compiled = torch.compile(self.model.forward, mode="reduce-overhead", fullgraph=True)
        self.takes_positions = "cache_position" in inspect.signature(self.model.forward).parameters
        self.notes = {}

    def forward_of(self, cell):
        """The compiled forward pass, or the eager one where compiling fails; noted once."""
        if cell.name not in self.notes:
            try:
                self.decode(cell, self.compiled)
                self.notes[cell.name] = "compiled"
            except Exception as error:  # whatever the compiler raises
                self.notes[cell.name] = "eager"
                reason = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
                print(f"{cell.name}: torch.compile failed, so this is eager: {reason}")
                self.decode(cell, self.model.forward)
        return self.compiled if self.notes[cell.name] == "compiled" else self.model.forward

    def decode(self, cell, forward):
        """Tokens per second of steps whose last one has the cell's context."""
        torch = self.torch
        steps = min(DECODE_STEPS, cell.context // 2)
        with torch.inference_mode():
            cache = self.transformers.StaticCache(
                config=self.config, max_batch_size=cell.batch, max_cache_len=cell.context, device=self.device,
                dtype=self.model.dtype,
            )
            ids = torch.arange(cell.batch * (cell.context - steps), device=self.device) * 7919 % self.config.vocab_size
            ids = ids.view(cell.batch, -1)
            token = self.step(self.model.forward, ids, 0, cache)
            times = []
            for position in range(cell.context - steps, cell.context):
                synchronize(torch, self.device)
                start = time.perf_counter()
                token = self.step(forward, token, position, cache)
                token.cpu()  # as a server must, to send it
                times.append(time.perf_counter() - start)
        return cell.batch / statistics.median(times)

    def step(self, forward, ids, position, cache):
        if forward is self.compiled:
            self.torch.compiler.cudagraph_mark_step_begin()
        more = {}
        if self.takes_positions:
            more["cache_position"] = self.torch.arange(position, position + ids.shape[1], device=self.device)
        logits = forward(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **more).logits
        return logits[:, -1].argmax(-1, keepdim=True)

    def rate(self, cell):
        return self.decode(cell, self.forward_of(cell))


# --- decode: llama.cpp ----------------------------------------------------------------------------------------------

GGML_F32, GGML_BF16 = 0, 30
GGUF_U32, GGUF_F32, GGUF_STRING = 4, 6, 8
GGUF_ALIGNMENT = 32


def gguf_string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(value):
    if isinstance(value, str):
        return struct.pack("<I", GGUF_STRING) + gguf_string(value)
    if isinstance(value, float):
        return struct.pack("<If", GGUF_F32, value)
    return struct.pack("<II", GGUF_U32, value)


def gguf_metadata(config):
    """What llama.cpp needs of a Llama without a tokenizer."""
    return {
        "general.architecture": "llama",
        "general.name": "random weights",
        "llama.vocab_size": config["vocab_size"],
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "llama.rope.dimension_count": config["hidden_size"] // config["num_attention_heads"],
        "llama.rope.freq_base": float(config["rope_theta"]),
        "llama.rope.scaling.type": config["rope_scaling"]["type"],
        "llama.rope.scaling.factor": float(config["rope_scaling"]["factor"]),
        "tokenizer.ggml.model": "no_vocab",
    }


def gguf_tensors(config):
    """Names and shapes, outputs first."""
    hidden, inner, rows = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv_width = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    tensors = [("token_embd", (rows, hidden)), ("output_norm", (hidden,)), ("output", (rows, hidden))]
    for layer in range(config["num_hidden_layers"]):
        for name, shape in [
            ("attn_norm", (hidden,)), ("ffn_norm", (hidden,)), ("attn_q", (hidden, hidden)),
            ("attn_k", (kv_width, hidden)), ("attn_v", (kv_width, hidden)), ("attn_output", (hidden, hidden)),
            ("ffn_gate", (inner, hidden)), ("ffn_up", (inner, hidden)), ("ffn_down", (hidden, inner)),
        ]:
            tensors.append((f"blk.{layer}.{name}", shape))
    return [(f"{name}.weight", shape) for name, shape in tensors]


def write_gguf(torch, config, dtype, path):
    """A GGUF of random weights in the shape of `config`: matrices in `dtype`, vectors of ones in f32."""
    metadata, tensors = gguf_metadata(config), gguf_tensors(config)
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    head += b"".join(gguf_string(key) + gguf_value(value) for key, value in metadata.items())
    matrix_type, matrix_bytes = (GGML_F32, 4) if dtype == torch.float32 else (GGML_BF16, 2)
    offset = 0
    for name, shape in tensors:
        kind, size = (matrix_type, matrix_bytes) if len(shape) == 2 else (GGML_F32, 4)
        head += gguf_string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *reversed(shape), kind, offset)
        offset += math.prod(shape) * size
        offset += -offset % GGUF_ALIGNMENT
    with open(path, "wb") as file:
        file.write(head + bytes(-len(head) % GGUF_ALIGNMENT))
        for _, shape in tensors:
            if len(shape) == 2:
                bound = math.sqrt(3 / shape[1])
                values = torch.empty(shape, dtype=dtype).uniform_(-bound, bound)
            else:
                values = torch.ones(shape)
            data = values.view(torch.uint8).numpy().tobytes()
            file.write(data + bytes(-len(data) % GGUF_ALIGNMENT))


def llama_bench(program, model, cell, gpu):
    """Tokens per second of one decoding sequence."""
    steps = min(DECODE_STEPS, cell.context // 2)
    command = [program, "-m", model, "-p", 0, "-n", steps, "-d", cell.context - steps, "-r", 1]
    command += ["-ngl", 0] if gpu is None else ["-ngl", 999, "-mg", gpu, "-sm", "none"]
    command += ["-o", "json"]
    results = [result for result in json.loads(run(command)) if result["n_gen"] == steps]
    if not results:
        raise PeerError("llama-bench reported no decoding")
    return results[0]["avg_ts"]


# --- decode ----------------------------------------------------------------------------------------------------------


def our_decode(bench, gpu, cells):
    """Tokens per second of each cell, in one process: as the server runs by default, so on a GPU as recorded graphs."""
    device = [] if gpu is None else ["--gpu", gpu]
    command = [bench, *device, "--steps", DECODE_STEPS, *(cell.name for cell in cells)]
    lines = [line.strip("|").split("|") for line in run(command).splitlines() if line.startswith("|")][2:]
    rows = [[field.strip() for field in line] for line in lines]
    rows = [row for row in rows if row[4] != "eager (off)" and not row[4].endswith("batch-invariant")]
    if len(rows) != len(cells):
        raise PeerError(f"benches/decode.rs has {len(rows)} rows for {len(cells)} cells")
    return [float(row[5]) for row in rows]


def decode(arguments):
    default = ["tiny/f32/1/128", "tiny/f32/4/128"] if arguments.gpu is None else [
        "1.3b/bf16/1/128", "1.3b/bf16/1/4096", "1.3b/bf16/8/128", "1.3b/bf16/64/128"]
    cells = [Cell.parse(text) for text in arguments.what or default]
    torch = import_torch()
    program = shutil.which("llama-bench")
    if program is None:
        print("llama.cpp was not measured: llama-bench is not on PATH")
    elif torch is None:
        print("llama.cpp was not measured: its random weights are written with PyTorch")
    ours = {cell.name: [] for cell in cells}
    hugging = {cell.name: [] for cell in cells}
    llama = {cell.name: [] for cell in cells}
    notes = {}
    with tempfile.TemporaryDirectory() as folder:
        models, files = {}, {}
        for shape in {cell.shape for cell in cells} if torch else ():
            config = read_shape(arguments.shapes, shape)
            device, dtype = torch_device(torch, arguments.gpu)
            try:
                models[shape] = Transformers(torch, config, device, dtype)
                print(f"transformers {models[shape].transformers.__version__}")
            except ImportError as error:
                print(f"transformers was not measured: {error}")
            if program:
                files[shape] = pathlib.Path(folder) / f"{shape}.gguf"
                write_gguf(torch, config, dtype, files[shape])
        for cell in cells:
            if cell.shape in models:
                models[cell.shape].rate(cell)  # compiles
        for _ in range(arguments.rounds):
            for cell, rate in zip(cells, our_decode(arguments.bench, arguments.gpu, cells)):
                ours[cell.name].append(rate)
            for cell in cells:
                if cell.shape in models:
                    hugging[cell.name].append(models[cell.shape].rate(cell))
                    notes[cell.name] = models[cell.shape].notes[cell.name]
                if cell.shape in files and cell.batch == 1:
                    llama[cell.name].append(llama_bench(program, files[cell.shape], cell, arguments.gpu))
    rows = [("cell", "ananke tok/s", "transformers tok/s", "how", "ananke / transformers (95 %)", "llama.cpp tok/s",
             "ananke / llama.cpp (95 %)")]
    for cell in cells:
        ours_here, hugging_here, llama_here = ours[cell.name], hugging[cell.name], llama[cell.name]
        rows.append((
            cell.name, rate_cell(ours_here), rate_cell(hugging_here), notes.get(cell.name, "-"),
            ratio_cell(ours_here, hugging_here), rate_cell(llama_here), ratio_cell(ours_here, llama_here),
        ))
    print_table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, function, rounds in (("prefill", prefill, 5), ("decode", decode, 3)):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--bench", type=pathlib.Path, required=True, help=f"benches/{name}.rs, built")
        command.add_argument("--gpu", type=int, help="index of the GPU (default: the CPU)")
        command.add_argument("--rounds", type=int, default=rounds, help=f"turns of each side (default: {rounds})")
        command.add_argument("what", nargs="*", help="prompts or cells")
        if name == "prefill":
            command.add_argument("--shape", default="tiny", help="tiny, 1.3b or 6.7b (default: tiny)")
        else:
            command.add_argument("--shapes", type=pathlib.Path, required=True, help="benches/prefill.rs, built")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    arguments.function(arguments)


if __name__ == "__main__":
    try:
        main()
    except (PeerError, OSError) as error:
        sys.exit(f"gpu_peers: {error}")
