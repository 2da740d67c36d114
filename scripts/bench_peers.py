#!/usr/bin/env python3
"""How fast is our forward pass beside llama.cpp's: same file, same tokens, same threads, same minute?

  bench_peers.py [--pairs 3] [--threads 2] [--folder DIR] [--model FILE.gguf] [--forward BINARY]

Both sides load one Q8_0 GGUF of SmolLM2-135M and do what benches/forward.rs does: prefill a prompt in one step into an
empty cache, decode token by token after it, best of three; the ids are fixed, nothing is sampled or reused.
The sides take turns, each run in a process of its own. A pair of neighbours gives a ratio, the pairs give medians;
above 1.00 we are faster. The last column is how many cores other programs used meanwhile: on a machine that is not
idle, the figures say nothing.

llama.cpp comes with the wheel `xllamacpp` into an environment in DIR (default: ananke/bench in the user's cache
folder); the Q8_0 file is made there too. It keeps its own defaults (flash attention, f16 KV cache). The wheel is built
for any machine of its kind: the line "llama.cpp:" says which instructions it uses.
Needs python3 with venv and pip, and cargo unless BINARY (a built benches/forward.rs) is given.
"""

import argparse
import ctypes
import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGES = {"xllamacpp": "2026.10.11549", "gguf": "0.19.0"}
AS_PEER = "--as-peer"
SECONDS_PER_RUN = 900
OTHERS_MAX = 0.1  # cores that other programs may use before a run counts as disturbed


class BenchError(Exception):
    """What is missing or went wrong, and what to do about it."""


@dataclasses.dataclass
class Lengths:
    """How much one run does."""

    prefill: int
    decode: int
    runs: int


@dataclasses.dataclass
class Speed:
    """Tokens per second, and the cores that other programs used meanwhile (None: this system does not say)."""

    prefill: float
    decode: float
    others: float | None = None


# --- llama.cpp, inside the environment -------------------------------------------------------------------------------
# The wheel's own interface is a server; the C functions of llama.h are exported beside it, and timing those leaves out
# what we leave out: text, sampling and HTTP. Parameter structs travel by value and grow from release to release: they
# are taken as the library fills them, in room to spare, and only their head, which is old, is touched.


class ModelParams(ctypes.Structure):
    _fields_ = [("opaque", ctypes.c_uint64 * 128)]


class ContextParams(ctypes.Structure):
    _fields_ = [("n_ctx", ctypes.c_uint32), ("n_batch", ctypes.c_uint32), ("n_ubatch", ctypes.c_uint32),
                ("n_seq_max", ctypes.c_uint32), ("opaque", ctypes.c_uint64 * 128)]


class Batch(ctypes.Structure):
    """With null for everything but the tokens: they follow what is cached, and the last one gives logits."""

    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.c_void_p), ("n_seq_id", ctypes.c_void_p), ("seq_id", ctypes.c_void_p),
                ("logits", ctypes.c_void_p)]


LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
LOG_ERROR = 4
HANDLE = ctypes.c_void_p
SIGNATURES = {
    "llama_log_set": (None, [LogCallback, HANDLE]),
    "llama_model_default_params": (ModelParams, []),
    "llama_model_load_from_file": (HANDLE, [ctypes.c_char_p, ModelParams]),
    "llama_context_default_params": (ContextParams, []),
    "llama_init_from_model": (HANDLE, [HANDLE, ContextParams]),
    "llama_set_n_threads": (None, [HANDLE, ctypes.c_int32, ctypes.c_int32]),
    "llama_model_get_vocab": (HANDLE, [HANDLE]),
    "llama_vocab_n_tokens": (ctypes.c_int32, [HANDLE]),
    "llama_get_memory": (HANDLE, [HANDLE]),
    "llama_memory_clear": (None, [HANDLE, ctypes.c_bool]),
    "llama_decode": (ctypes.c_int32, [HANDLE, Batch]),
    "llama_synchronize": (None, [HANDLE]),
    "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [HANDLE, ctypes.c_int32]),
    "llama_print_system_info": (ctypes.c_char_p, []),
}


@LogCallback
def log_errors(level, text, _data):
    if level == LOG_ERROR:
        sys.stderr.write(text.decode(errors="replace"))


def load_library():
    from xllamacpp import xllamacpp as extension  # only in the environment

    library = ctypes.CDLL(extension.__file__)
    for name, (result, arguments) in SIGNATURES.items():
        function = getattr(library, name, None)
        if function is None:
            raise BenchError(f"this build of llama.cpp does not export {name}")
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(log_errors, None)
    return library


class Peer:
    """A model in llama.cpp, with a context that holds one run."""

    def __init__(self, path, threads, lengths):
        self.library = load_library()
        model = self.library.llama_model_load_from_file(os.fsencode(path), self.library.llama_model_default_params())
        if not model:
            raise BenchError(f"llama.cpp cannot load {path}")
        self.context = self.library.llama_init_from_model(model, self.context_params(lengths))
        if not self.context:
            raise BenchError("llama.cpp cannot make a context")
        self.library.llama_set_n_threads(self.context, threads, threads)
        self.vocab_len = self.library.llama_vocab_n_tokens(self.library.llama_model_get_vocab(model))

    def context_params(self, lengths):
        params = self.library.llama_context_default_params()
        if (params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max) != (512, 2048, 512, 1):
            raise BenchError("llama.cpp's defaults are not those this script knows; see ContextParams")
        params.n_ctx = lengths.prefill + lengths.decode
        return params

    def clear(self):
        self.library.llama_memory_clear(self.library.llama_get_memory(self.context), True)

    def forward(self, num_tokens, num_computed):
        """The ids of benches/forward.rs at these positions."""
        ids = [(num_computed + i) * 7919 % self.vocab_len for i in range(num_tokens)]
        batch = Batch(n_tokens=num_tokens, token=(ctypes.c_int32 * num_tokens)(*ids))
        code = self.library.llama_decode(self.context, batch)
        if code != 0:
            raise BenchError(f"llama_decode of {num_tokens} tokens after {num_computed} returned {code}")
        self.library.llama_synchronize(self.context)

    def check_logits(self):
        logits = self.library.llama_get_logits_ith(self.context, -1)[: self.vocab_len]
        if not all(map(math.isfinite, logits)) or min(logits) == max(logits):
            raise BenchError("llama.cpp's logits are not those of a working model")


def time_peer(peer, lengths):
    """Prefill and decode of one run, in tokens per second."""
    peer.clear()
    start = time.perf_counter()
    peer.forward(lengths.prefill, 0)
    middle = time.perf_counter()
    for num_computed in range(lengths.prefill, lengths.prefill + lengths.decode):
        peer.forward(1, num_computed)
    end = time.perf_counter()
    peer.check_logits()
    return lengths.prefill / (middle - start), lengths.decode / (end - middle)


def be_peer(path, *numbers):
    """What this script does when it runs itself inside the environment; prints one line of JSON."""
    threads, *lengths = map(int, numbers)
    lengths = Lengths(*lengths)
    peer = Peer(path, threads, lengths)
    prefill, decode = zip(*(time_peer(peer, lengths) for _ in range(lengths.runs)))
    system = peer.library.llama_print_system_info().decode()
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    print(json.dumps({"prefill": max(prefill), "decode": max(decode), "system": system, "versions": versions}))


# --- what is needed --------------------------------------------------------------------------------------------------


def run(command, what, **options):
    """The standard output of a command; its own words where it fails."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    except FileNotFoundError:
        raise BenchError(f"{what}: {command[0]} is missing") from None
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"{what}: not done after {error.timeout:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(f"{what} failed ({done.returncode}):\n{(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def default_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "ananke" / "bench"


def bench_lengths():
    """As benches/forward.rs has them, so that both sides do the same work."""
    source = ROOT / "benches" / "forward.rs"
    if not source.is_file():
        raise BenchError(f"{source} is missing; it says how long a run is")
    found = dict(re.findall(r"^const (PREFILL|DECODE|RUNS): usize = (\d+);", source.read_text(), re.MULTILINE))
    if len(found) != 3:
        raise BenchError(f"{source} does not define PREFILL, DECODE and RUNS as plain numbers")
    return Lengths(int(found["PREFILL"]), int(found["DECODE"]), int(found["RUNS"]))


def has_packages(python):
    wanted = f"import importlib.metadata as m; exit(any(m.version(n) != v for n, v in {PACKAGES!r}.items()))"
    return python.exists() and subprocess.run([python, "-c", wanted], capture_output=True, check=False).returncode == 0


def make_environment(folder):
    """The interpreter of an environment with the packages; makes it where it is missing."""
    python = folder / "venv" / "bin" / "python3"
    if not has_packages(python):
        print(f"installing {', '.join(PACKAGES)} into {folder / 'venv'}", flush=True)
        run([sys.executable, "-m", "venv", folder / "venv"], "making an environment")
        packages = [f"{name}=={version}" for name, version in PACKAGES.items()]
        run([python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages], "installing the peers")
    return python


def find_source(given):
    if given is None:
        return pathlib.Path(run([ROOT / "scripts" / "fetch_model.sh", "smollm2"], "fetching SmolLM2").strip())
    if not given.is_file():
        raise BenchError(f"{given} is missing")
    return given


def make_q8_0(python, source, folder):
    """The Q8_0 copy of `source` in `folder`; made again when the source is newer."""
    name = re.sub(r"[.-](Q\d\w*|IQ\d\w*|BF16|F16|F32)$", "", source.stem, flags=re.IGNORECASE)
    target = folder / f"{name}.Q8_0.gguf"
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        print(f"writing {target}", flush=True)
        run([python, ROOT / "scripts" / "make_q8_0.py", source, target], "making the Q8_0 file")
    return target


def build_forward():
    """Builds benches/forward.rs and says where cargo put it."""
    print("building benches/forward.rs", flush=True)
    command = ["cargo", "bench", "--locked", "--bench", "forward", "--no-run", "--message-format=json"]
    messages = map(json.loads, run(command, "cargo bench", cwd=ROOT).splitlines())
    built = [m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "forward"]
    if not built:
        raise BenchError("cargo built no bench named forward")
    return pathlib.Path(built[-1])


def find_forward(given):
    if given is None:
        return build_forward()
    if not os.access(given, os.X_OK):
        raise BenchError(f"{given} is not a program; leave --forward out to build it")
    return given.resolve()


# --- the two sides ---------------------------------------------------------------------------------------------------


def run_ours(binary, model, threads):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    output = run([binary, model, "stored"], "our forward pass", env=environment, timeout=SECONDS_PER_RUN)
    found = re.search(r"^prefill ([\d.]+) tok/s, decode ([\d.]+) tok/s$", output, re.MULTILINE)
    if not found:
        raise BenchError(f"benches/forward.rs printed no figures but:\n{output}")
    return Speed(float(found[1]), float(found[2]))


def run_peer(python, model, threads, lengths):
    """The peer's speed, and what it says about itself."""
    numbers = [threads, *dataclasses.astuple(lengths)]
    output = run([python, __file__, AS_PEER, model, *numbers], "llama.cpp", timeout=SECONDS_PER_RUN)
    told = json.loads(output.splitlines()[-1])
    return Speed(told["prefill"], told["decode"]), told


def busy_seconds():
    """Core seconds that this machine has spent working, or that were stolen from it; None where nobody counts."""
    try:
        user, nice, system, _idle, _wait, *rest = map(int, open("/proc/stat").readline().split()[1:9])
    except OSError:
        return None
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def child_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watch(function, *arguments):
    """What `function` returns, and the cores that programs other than our children used meanwhile."""
    start, busy, child = time.monotonic(), busy_seconds(), child_seconds()
    result = function(*arguments)
    if busy is None:
        return result, None
    others = (busy_seconds() - busy) - (child_seconds() - child)
    return result, max(0.0, others / (time.monotonic() - start))


def measure_pair(binary, python, model, threads, lengths):
    ours, our_others = watch(run_ours, binary, model, threads)
    (peer, told), peer_others = watch(run_peer, python, model, threads, lengths)
    ours.others, peer.others = our_others, peer_others
    return ours, peer, told


# --- saying it -------------------------------------------------------------------------------------------------------


def cpu_name():
    try:
        found = re.search(r"^model name\s*: (.+)$", open("/proc/cpuinfo").read(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def tool_version(*command):
    try:
        return run(command, command[0], cwd=ROOT).strip()
    except BenchError:
        return "unknown"


def print_header(model, threads, lengths, given):
    commit = tool_version("git", "describe", "--always", "--dirty")
    ours = f"given binary {given.name}" if given else f"commit {commit}, {tool_version('rustc', '--version')}"
    print(f"date:      {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC")
    print(f"machine:   {cpu_name()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}")
    print(f"model:     {model.name}, {model.stat().st_size} bytes")
    print(f"work:      {lengths.prefill} prefilled, {lengths.decode} decoded, best of {lengths.runs}, {threads} threads")
    print(f"ananke:    {ours}", flush=True)


def print_peer(told):
    versions = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    print(f"llama.cpp: {versions}, Python {platform.python_version()}; {told['system'].strip(' |')}\n")
    print(f"{'':8}{'prefill tok/s':^30}{'decode tok/s':^30}  others,")
    print(f"{'pair':8}{'ananke':>10}{'llama.cpp':>11}{'ratio':>7}  {'ananke':>10}{'llama.cpp':>11}{'ratio':>7}    cores")


def cells(ours, peer, ratio):
    return f"{ours:10.1f}{peer:11.1f}{ratio:7.2f}  "


def print_pair(number, ours, peer):
    prefill = cells(ours.prefill, peer.prefill, ours.prefill / peer.prefill)
    decode = cells(ours.decode, peer.decode, ours.decode / peer.decode)
    others = "      -" if ours.others is None else f"{ours.others:.2f} {peer.others:.2f}"
    print(f"{number:<8}{prefill}{decode}{others}", flush=True)


def print_medians(pairs):
    line = f"{'median':8}"
    for phase in ("prefill", "decode"):
        speeds = [(getattr(ours, phase), getattr(peer, phase)) for ours, peer in pairs]
        ratio = statistics.median(ours / peer for ours, peer in speeds)
        line += cells(*(statistics.median(side) for side in zip(*speeds)), ratio)
    print(line.rstrip())


def print_warnings(pairs, threads):
    disturbed = sum(speed.others is not None and speed.others > OTHERS_MAX for pair in pairs for speed in pair)
    if disturbed:
        print(f"warning: other programs used the machine during {disturbed} of {2 * len(pairs)} runs; "
              "these figures do not count", file=sys.stderr)
    if threads > os.cpu_count():
        print(f"warning: {threads} threads share {os.cpu_count()} cores", file=sys.stderr)


# --- all of it -------------------------------------------------------------------------------------------------------


def at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=at_least_one, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--threads", type=at_least_one, default=2, help="threads of each side (default: 2)")
    parser.add_argument("--folder", type=pathlib.Path, default=default_folder(),
                        help="for the environment and the Q8_0 file (default: ananke/bench in the cache folder)")
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF to requantize (default: SmolLM2, fetched if missing)")
    parser.add_argument("--forward", type=pathlib.Path, help="benches/forward.rs, already built (default: build it)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    lengths = bench_lengths()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    binary = find_forward(arguments.forward)
    source = find_source(arguments.model)
    python = make_environment(folder)
    model = make_q8_0(python, source, folder)
    print_header(model, arguments.threads, lengths, arguments.forward)
    pairs = []
    for number in range(1, arguments.pairs + 1):
        ours, peer, told = measure_pair(binary, python, model, arguments.threads, lengths)
        if number == 1:
            print_peer(told)
        print_pair(number, ours, peer)
        pairs.append((ours, peer))
    print_medians(pairs)
    print_warnings(pairs, arguments.threads)


if __name__ == "__main__":
    try:
        be_peer(*sys.argv[2:]) if sys.argv[1:2] == [AS_PEER] else main()
    except (BenchError, OSError) as error:
        sys.exit(f"bench_peers: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
