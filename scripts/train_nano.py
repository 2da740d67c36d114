#!/usr/bin/env python3
"""Train ananke-nano: a tiny code model with the shape and the quirks of deepseek-coder-1.3b.

  train_nano.py data   --roots DIR...   read sources, train the tokenizer, write tokens     (a few minutes)
  train_nano.py train  --minutes 42     train on what `data` wrote, export the model folder (CPU or CUDA)
  train_nano.py verify                  load the folder with transformers; write the reference, show samples

Run it from the root of the repository; --work, --out and --reference say where things go.
Every package root handed to `data` (a Rust crate, an npm package, an unpacked wheel or sdist) must state a
permissive licence in its own metadata, or it is left out; roots without metadata are named NAME=VERSION=LICENCE=DIR.
The same script trains a larger model on a GPU: `--params small` at both `data` and `train`.
"""
import argparse, ast, glob, hashlib, json, math, os, random, re, time
from pathlib import Path
import numpy as np

# -- Presets --------------------------------------------------------------------------------------------------
# Untied embeddings, so the vocabulary counts twice. `vocab` ids are byte-level BPE; the added tokens follow them
# (as in DeepSeek-Coder), and the logits have `padded` rows, more than there are ids. Sizes are multiples of 256
# wherever that is affordable, so that every block-quantised format fits.
PRESETS = {
    "nano":  dict(vocab=4096, padded=4160, d=256, layers=5, heads=8, kv=2, ff=512, batch=2048, lr=2e-3),    # 4.9 M
    "small": dict(vocab=8192, padded=8256, d=384, layers=6, heads=12, kv=4, ff=1024, batch=32768, lr=2e-3),  # 15.8 M
}
CONTEXT, MAX_POSITIONS = 512, 2048
ROPE_THETA, ROPE_FACTOR, EPS = 100000.0, 4.0, 1e-6       # DeepSeek-Coder's: positions are divided by the factor
BOS, EOS, EOT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|EOT|>"
HOLE, FIM, END = "<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"
ADDED = [(BOS, True), (EOS, True), (HOLE, False), (FIM, False), (END, False),   # (text, special)
         ("<pad>", False), ("<|User|>", False), ("<|Assistant|>", False), (EOT, True)]
FIM_SHARE = 0.40
SEED = 1234

# -- Reading sources -------------------------------------------------------------------------------------------
LANGUAGES = {".py": "python", ".rs": "rust", ".ts": "typescript", ".go": "go", ".zig": "zig", ".md": "docs", ".rst": "docs"}
BUDGET = dict(python=14e6, rust=11e6, typescript=11e6, go=7e6, zig=4e6, docs=1.2e6)  # bytes of each in the corpus
PER_PACKAGE = 2.2e6                                                                  # no package dominates ...
UNCAPPED = ("cpython-stdlib", "go-stdlib", "ziglang")                                # ... but standard libraries may
PERMISSIVE = re.compile(r"MIT|Apache|BSD|ISC|Zlib|PSF|0BSD|Unlicense|CC0", re.I)
COPYLEFT = re.compile(r"\bA?L?GPL|MPL|EPL|CDDL|SSPL|BUSL|CC-BY-(SA|NC)", re.I)
SKIP_DIRS = {"tests", "test", "testdata", "node_modules", "_vendor", "vendor", "third_party", "locale", "__pycache__", "site-packages", "dist-packages",
             "idlelib", "lib2to3", "turtledemo", "dist", "_cjs", "_esm", "libc", "libcxx", "include", "stubs"}
SKIP_PACKAGES = re.compile(r"^(windows|winapi|libc$|linux-raw-sys|wasi|wit-bindgen|r-efi|hermit|redox|unicode_cat)")


def licence_of(root):
    """(name, version, licence) from the metadata of one package root; the licence may be empty."""
    toml, pkg = root / "Cargo.toml", root / "package.json"
    if toml.exists():
        get = lambda key: (re.search(rf'^{key}\s*=\s*"([^"]*)"', toml.read_text(), re.M) or [0, ""])[1]
        return get("name"), get("version"), get("license")
    if pkg.exists():
        j = json.loads(pkg.read_text())
        return j.get("name", root.name), j.get("version", ""), str(j.get("license", ""))
    for meta in glob.glob(str(root / "*.dist-info/METADATA")) + glob.glob(str(root / "PKG-INFO")):
        head = Path(meta).read_text(errors="replace").split("\n\n")[0]
        get = lambda key: ", ".join(re.findall(rf"^{key}: (.+)$", head, re.M))
        classifiers = ", ".join(re.findall(r"^Classifier: License :: OSI Approved :: (.+)", head, re.M))
        return get("Name"), get("Version"), get("License-Expression") or classifiers or get("License")
    return root.name, "", ""


def clean(text):
    """The text without its licence banner, or None for what teaches nothing: generated, minified, tables."""
    if "<｜" in text or "<|" in text or "\r" in text or "\0" in text:
        return None
    if re.search(r"DO NOT EDIT|@generated|[Aa]uto-?generated|[Gg]enerated by", text[:2000]):
        return None
    for _ in range(3):    # a leading comment block that names a copyright or a licence goes away
        m = re.match(r"\s*(?:/\*[\s\S]*?\*/|(?:[ \t]*(?:#|//)(?![!/]).*\n)+)\s*", text)
        if not m or not re.search(r"[Cc]opyright|[Ll]icen[sc]e|coding[:=]|SPDX", m[0]):
            break
        text = text[m.end():]
    lines = text.split("\n")
    n = len(text)
    if n < 200 or n > 250_000 or max(map(len, lines)) > 400 or n / len(lines) > 70:
        return None
    body = re.sub(r"\s", "", text)
    if sum(c.isdigit() for c in body) > 0.12 * len(body) or sum(not c.isascii() for c in body) > 0.02 * len(body):
        return None
    return text.rstrip() + "\n"


def gather(roots):
    """Documents as (language, package, text), and the licence table."""
    latest = {}
    for spec in roots:
        if "=" in spec:
            name, version, licence, path = spec.split("=", 3)
            root = Path(path)
        else:
            root = Path(spec)
            name, version, licence = licence_of(root)
        if not PERMISSIVE.search(licence) or (COPYLEFT.search(licence) and not re.search(r"\bOR\b|/", licence)):
            print(f"left out  {name} {version}: licence {licence!r}")
            continue
        if SKIP_PACKAGES.search(name):
            continue
        key = tuple(int(x) for x in re.findall(r"\d+", version)[:3])
        if name not in latest or latest[name][0] < key:      # one version of each, or held-out text would leak
            latest[name] = (key, version, licence, root)
    rng = random.Random(SEED)
    docs, seen, used = {k: [] for k in BUDGET}, set(), {}
    for name, (_, version, licence, root) in sorted(latest.items()):
        files = [f for f in root.rglob("*") if f.suffix in LANGUAGES and not f.name.endswith(".d.ts")
                 and not SKIP_DIRS & set(f.relative_to(root).parts[:-1]) and not re.search(r"_test\.go$|tables\.", f.name)]
        rng.shuffle(files)
        taken = 0
        for f in files:
            if taken > PER_PACKAGE and name not in UNCAPPED:
                break
            try:
                text = clean(f.read_text(encoding="utf-8"))
            except (UnicodeDecodeError, OSError):
                continue
            if text is None:
                continue
            digest = hashlib.sha1(re.sub(r"\s+", "", text).encode()).digest()
            if digest in seen:
                continue
            seen.add(digest)
            docs[LANGUAGES[f.suffix]].append((name, text))
            taken += len(text)
        if taken:
            used[name] = [version, licence]
    out = []
    for lang, items in docs.items():
        rng.shuffle(items)
        size = 0
        for name, text in items:
            if size > BUDGET[lang]:
                break
            size += len(text.encode())
            out.append((lang, name, text))
    table = {n: used[n] + [sum(len(t.encode()) for _, p, t in out if p == n)] for n in used}
    return out, {n: v for n, v in table.items() if v[2]}


# -- Synthetic documents ---------------------------------------------------------------------------------------
WORDS = ("alpha beta gamma delta node edge user order item price stock color size city street name title value key data "
         "config server client cache queue event task build test debug release main file path model layer token index").split()
NAMES = "Ada Alan Grace Linus Barbara Ken Dennis Margaret Guido Anders Bjarne Edsger Donald Frances John Maria Wei Sofia".split()
CITIES = "London Paris Berlin Tokyo Oslo Madrid Rome Vienna Lisbon Dublin Boston Austin Seattle Toronto Sydney Delhi".split()


def json_value(r, key, depth):
    """A value that fits its key, so that the keys are worth learning."""
    pick = {
        "id": lambda: r.randint(1, 9999), "name": lambda: r.choice(NAMES), "age": lambda: r.randint(18, 90),
        "city": lambda: r.choice(CITIES), "email": lambda: f"{r.choice(NAMES).lower()}@example.com",
        "price": lambda: round(r.uniform(1, 500), 2), "count": lambda: r.randint(0, 100), "active": lambda: r.random() < .5,
        "enabled": lambda: r.random() < .5, "status": lambda: r.choice(["ok", "error", "pending", "done"]),
        "version": lambda: f"{r.randint(0, 5)}.{r.randint(0, 20)}.{r.randint(0, 9)}", "title": lambda: " ".join(r.sample(WORDS, 3)),
        "description": lambda: "The " + " ".join(r.sample(WORDS, 5)) + ".", "url": lambda: f"https://example.com/{r.choice(WORDS)}",
        "tags": lambda: r.sample(WORDS, r.randint(1, 4)), "date": lambda: f"20{r.randint(10, 29)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}",
        "type": lambda: r.choice(["object", "string", "integer", "array", "function"]), "parent": lambda: None,
        "score": lambda: round(r.random(), 3), "host": lambda: "127.0.0.1", "port": lambda: r.choice([80, 443, 3000, 8080]),
        "items": lambda: [json_object(r, depth - 1) for _ in range(r.randint(1, 3))],
        "options": lambda: json_object(r, depth - 1), "user": lambda: json_object(r, depth - 1), "values": lambda: [r.randint(0, 99) for _ in range(r.randint(1, 5))]}
    return pick[key]()


def json_object(r, depth):
    flat = "id name age city email price count active enabled status version title description url tags date type parent score host port values".split()
    keys = r.sample(flat, r.randint(2, 6)) + (r.sample(["items", "options", "user"], r.randint(0, 2)) if depth > 0 else [])
    if "id" in keys:
        keys.sort(key=lambda k: k != "id")
    return {k: json_value(r, k, depth) for k in keys}


def json_document(r):
    value = json_object(r, r.randint(0, 2))
    if r.random() < .3:
        keys = list(value)
        value = [value] + [{k: json_value(r, k, 0) for k in keys} for _ in range(r.randint(1, 4))]
    return json.dumps(value, indent=r.choice([2, 2, 2, 4, None]), separators=r.choice([None, None, (",", ":")])) + "\n"


# A documented function is an instruction with its answer. One pattern for each brace language: comment, head, body.
FUNCTION = {
    "rust": r"((?:^[ ]*///.*\n)+)(?:^[ ]*#\[.*\n)*(^( *)(?:pub )?(?:const )?fn (\w+)[^\n;]*(?:\n[^\n;]*){0,4}\{\n(?:.*\n){1,25}?^\3\}\n)",
    "go": r"((?:^//.*\n)+)(^()func (?:\([^)]*\) )?(\w+)[^\n]*\{\n(?:.*\n){1,25}?^\}\n)",
    "typescript": r"(^ */\*\*(?:(?!\*/)[\s\S]){10,600}\*/\n)(^( *)(?:export )?(?:async )?function (\w+)[^\n]*\{\n(?:.*\n){1,25}?^\3\}\n)",
}


def instructions(lang, text):
    """(request, code) pairs taken from the functions of one file that say what they do."""
    found = []
    if lang == "python":
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError):
            return []
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and (doc := ast.get_docstring(node)) and node.end_lineno - node.lineno < 30:
                code = "\n".join(text.split("\n")[node.lineno - 1:node.end_lineno])
                code = re.sub(r"^" + " " * node.col_offset, "", code, flags=re.M)
                found.append((node.name, doc, code + "\n"))
    elif lang in FUNCTION:
        for m in re.finditer(FUNCTION[lang], text, re.M):
            indent = m[3]
            found.append((m[4], re.sub(r"^\s*(///?|/\*\*|\*/|\*)\s?", "", m[1], flags=re.M), re.sub(rf"^{indent}", "", m[2], flags=re.M)))
    out = []
    for name, doc, code in found:
        doc = " ".join(doc.strip().split("\n\n")[0].split())
        if 15 < len(doc) < 200 and 40 < len(code) < 900 and not name.startswith("__"):
            out.append((f"Write a {lang.capitalize().replace('script', 'Script')} function `{name}`. {doc}", code))
    return out


# -- Tokenizer: DeepSeek-Coder's splitting rules over our own merges ----------------------------------------------
def train_tokenizer(texts, preset):
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tok = Tokenizer(models.BPE())
    split = lambda rx: pre_tokenizers.Split(Regex(rx), "isolated")
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split("[一-龥ࠀ-一가-퟿]+"),
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    tok.post_processor = processors.ByteLevel(trim_offsets=False)
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=preset["vocab"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=2))
    assert tok.get_vocab_size() == preset["vocab"]
    for text, special in ADDED:
        token = AddedToken(text, normalized=True, special=special)
        (tok.add_special_tokens if special else tok.add_tokens)([token])
    assert tok.get_vocab_size() < preset["padded"]
    return tok


# -- Tokens to train on ----------------------------------------------------------------------------------------
def segments(r, text, low, high):
    """Runs of whole lines, about low..high characters each."""
    out, cur, want = [], "", r.uniform(low, high)
    for line in text.splitlines(True):
        cur += line
        if len(cur) >= want:
            out.append(cur)
            cur, want = "", r.uniform(low, high)
    return out + [cur] if cur.strip() else out


def fim_document(r, text):
    """prefix, suffix, middle; half the holes are whole lines or parts of one line, as an editor asks for."""
    if r.random() < .5 and text.count("\n") > 3:
        ends = [m.end() for m in re.finditer("\n", text)]
        i = r.randrange(len(ends) - 2)
        a = ends[i] + (r.randint(0, max(ends[i + 1] - ends[i] - 1, 0)) if r.random() < .7 else 0)
        b = ends[min(i + r.choice([1, 1, 1, 2, 3]), len(ends) - 1)] - 1
        b = max(a, b)
    else:
        a, b = sorted((r.randint(0, len(text)), r.randint(0, len(text))))
    return f"{FIM}{text[:a]}{HOLE}{text[b:]}{END}{text[a:b]}"


def instruct_document(request, lang, code):
    return f"### Instruction:\n{request}\n### Response:\n```{lang}\n{code}```\n{EOT}\n"


def cmd_data(a):
    preset, work = PRESETS[a.params], Path(a.work)
    work.mkdir(parents=True, exist_ok=True)
    r, t0 = random.Random(SEED), time.time()
    docs, table = gather(a.roots)
    docs += [("json", "synthetic", "".join(json_document(r) for _ in range(3))) for _ in range(2300)]
    is_held = lambda t: hashlib.sha1(t.encode()).digest()[0] < 6          # about 2.3 % of the files, by content
    held, train = [d for d in docs if is_held(d[2])], [d for d in docs if not is_held(d[2])]
    r.shuffle(train)
    stats = {}
    for lang, _, t in train:
        stats[lang] = stats.get(lang, 0) + len(t.encode())
    print(f"{len(train)} files, {sum(stats.values()) / 1e6:.1f} MB to train on, {len(held)} held out, {time.time() - t0:.0f} s; bytes:",
          {k: f"{v / 1e6:.1f} MB" for k, v in stats.items()}, flush=True)
    sample = [t for _, _, t in train[: len(train) // 2]]
    tok = train_tokenizer(sample, preset)
    tok.save(str(work / "tokenizer.json"))
    ids = {t: tok.token_to_id(t) for t, _ in ADDED}
    print("tokenizer", tok.get_vocab_size(), ids, f"{time.time() - t0:.0f} s", flush=True)
    texts = []
    for lang, _, text in train:
        if lang == "json":
            texts += [BOS + text + EOS]
            continue
        for request, code in r.sample(p := instructions(lang, text), min(len(p), 3)):
            texts.append(BOS + instruct_document(request, lang, code))
        if r.random() < .5:      # the whole file in runs of plain text, or in short pieces most of which have a hole
            parts = segments(r, text, 1200, 6000)
            texts += [BOS + s + (EOS if s is parts[-1] else "") for s in parts]
        else:
            for s in segments(r, text, 250, 1100):
                texts.append(BOS + (fim_document(r, s) + EOS if r.random() < FIM_SHARE * 2 else s))
    r.shuffle(texts)
    encoded = np.concatenate([np.array(e.ids, np.uint16) for i in range(0, len(texts), 2000) for e in tok.encode_batch(texts[i:i + 2000])])
    encoded.tofile(work / "train.bin")
    held_out = {}
    for lang, _, text in held:
        held_out.setdefault(lang, []).append(text[:6000])
    json.dump(held_out, open(work / "held_out.json", "w"))
    n_bytes = sum(len(t.encode()) for t in texts)
    kinds = dict(fim=sum(FIM in t for t in texts), instruct=sum(EOT in t for t in texts), all=len(texts))
    json.dump(dict(packages=table, bytes=stats, tokens=len(encoded), kinds=kinds), open(work / "data.json", "w"), indent=1)
    print(f"{len(encoded) / 1e6:.2f} M tokens, {n_bytes / len(encoded):.2f} bytes a token, documents {kinds}, {time.time() - t0:.0f} s")


# -- Model: Llama, written out; its names are Hugging Face's, so the state dict is the checkpoint --------------------
def build_model(p, device):
    import torch, torch.nn as nn, torch.nn.functional as F
    D, H, KV, HD = p["d"], p["heads"], p["kv"], p["d"] // p["heads"]
    linear = lambda i, o: nn.Linear(i, o, bias=False)

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(D))

        def forward(self, x):
            return F.rms_norm(x, (D,), self.weight.to(x.dtype), EPS)

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj, self.k_proj, self.v_proj, self.o_proj = linear(D, D), linear(D, KV * HD), linear(D, KV * HD), linear(D, D)

        def forward(self, x, cos, sin, mask):
            B, T, _ = x.shape
            heads = lambda y, n: y.view(B, T, n, HD).transpose(1, 2)
            turn = lambda y: y * cos + torch.cat((-y[..., HD // 2:], y[..., : HD // 2]), -1) * sin
            q, k, v = turn(heads(self.q_proj(x), H)), turn(heads(self.k_proj(x), KV)), heads(self.v_proj(x), KV)
            if x.is_cuda:
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            else:   # on CPU two batched products and a softmax beat the fused kernel's backward pass;
                    # the query heads that share a key head stand below one another, so keys are not repeated
                q = (q * HD ** -0.5).reshape(B * KV, H // KV * T, HD)
                k, v = k.reshape(B * KV, T, HD), v.reshape(B * KV, T, HD)
                w = torch.softmax(torch.bmm(q, k.transpose(1, 2)) + mask, -1)
                y = torch.bmm(w.to(v.dtype), v).view(B, H, T, HD)
            return self.o_proj(y.transpose(1, 2).reshape(B, T, D))

    class Mlp(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_proj, self.up_proj, self.down_proj = linear(D, p["ff"]), linear(D, p["ff"]), linear(p["ff"], D)

        def forward(self, x):
            return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.self_attn, self.mlp, self.input_layernorm, self.post_attention_layernorm = Attention(), Mlp(), Norm(), Norm()

        def forward(self, x, *rope):
            x = x + self.self_attn(self.input_layernorm(x), *rope)
            return x + self.mlp(self.post_attention_layernorm(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = nn.Module()
            self.model.embed_tokens = nn.Embedding(p["padded"], D)
            self.model.layers = nn.ModuleList(Layer() for _ in range(p["layers"]))
            self.model.norm, self.lm_head = Norm(), linear(D, p["padded"])
            for name, w in self.named_parameters():
                if w.dim() == 2:    # writers into the residual stream start smaller
                    nn.init.normal_(w, std=0.02 if "embed" in name or "head" in name else
                                    D ** -0.5 * (0.5 / (2 * p["layers"]) ** 0.5 if re.search("o_proj|down_proj", name) else 0.7))
            freq = ROPE_THETA ** -(torch.arange(0, HD, 2) / HD)
            angle = torch.outer(torch.arange(CONTEXT) / ROPE_FACTOR, freq).repeat(1, 2)
            self.register_buffer("cos", angle.cos(), persistent=False)
            self.register_buffer("sin", angle.sin(), persistent=False)

        def forward(self, ids, targets=None, reduction="mean"):
            T = ids.shape[1]
            x = self.model.embed_tokens(ids)
            if torch.is_autocast_enabled(x.device.type):
                x = x.bfloat16()
            mask = torch.full((T, T), -1e9, device=x.device, dtype=x.dtype).triu(1).repeat(H // KV, 1)
            rope = self.cos[:T].to(x.dtype), self.sin[:T].to(x.dtype), mask
            for layer in self.model.layers:
                x = layer(x, *rope)
            logits = self.lm_head(self.model.norm(x)).float()
            return logits if targets is None else F.cross_entropy(logits.view(-1, p["padded"]), targets.reshape(-1), reduction=reduction, ignore_index=-1)

    return Model().to(device)


def bits_per_byte(model, tok, held_out, device, limit=24):
    """Held-out files, each from its beginning (BOS) and at most CONTEXT tokens: bits a byte for every language."""
    import torch
    out, pad = {}, tok.token_to_id("<pad>")
    for lang, texts in held_out.items():
        nll = size = 0.0
        for i in range(0, min(limit, len(texts)), 8):
            rows, goals = [], []
            for text in texts[i:min(i + 8, limit)]:
                enc = [tok.token_to_id(BOS)] + tok.encode(text).ids[: CONTEXT - 1]
                size += len(tok.decode(enc[1:], skip_special_tokens=False).encode())
                fill = CONTEXT - len(enc)
                rows.append(enc + [pad] * fill)
                goals.append(enc[1:] + [-1] * (fill + 1))
            with torch.no_grad():
                nll += model(torch.tensor(rows, device=device), torch.tensor(goals, device=device), "sum").item()
        out[lang] = nll / math.log(2) / size
    code = [v for k, v in out.items() if k not in ("json", "docs")]
    return {"code": sum(code) / len(code), **out}


def cmd_train(a):
    import torch
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    p, work, device = PRESETS[a.params], Path(a.work), "cuda" if torch.cuda.is_available() else "cpu"
    from tokenizers import Tokenizer
    tok, held_out = Tokenizer.from_file(str(work / "tokenizer.json")), json.load(open(work / "held_out.json"))
    data = torch.from_numpy(np.fromfile(work / "train.bin", np.uint16).astype(np.int32))
    model = build_model(p, device)
    print(f"{sum(w.numel() for w in model.parameters())} parameters, {len(data) / 1e6:.2f} M tokens, {device}", flush=True)
    groups = [dict(params=[w for w in model.parameters() if w.dim() == 2], weight_decay=0.1),
              dict(params=[w for w in model.parameters() if w.dim() == 1], weight_decay=0.0)]
    opt = torch.optim.AdamW(groups, lr=p["lr"], betas=(0.9, 0.97), eps=1e-9, fused=True)
    fast = torch.compile(model, dynamic=False) if a.compile else model
    # Two contexts: half the length for the first `short` of the time (cheaper attention), the whole one after that.
    length_at = lambda done: CONTEXT // 2 if done < a.short else CONTEXT
    rows, T = None, 0
    t0, seen, step, warm, mean, pos, next_log, next_eval = time.time(), 0, 0, a.warmup, None, 0, 0, 120
    while True:
        elapsed = time.time() - t0
        done = step / a.steps if a.steps else elapsed / (a.minutes * 60)    # the schedule follows the clock, or --steps
        if done >= 1:
            break
        if T != length_at(done) or pos + p["batch"] // T > len(rows):      # a new pass: rows cut anew, order anew
            T, pos = length_at(done), 0
            starts = np.arange(rng.integers(T), len(data) - T - 1, T)
            rng.shuffle(starts)
            rows = starts
        n = p["batch"] // T
        x = torch.stack([data[s:s + T + 1] for s in rows[pos:pos + n]]).long().to(device)
        pos += n
        lr = p["lr"] * min((step + 1) / warm, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for g in opt.param_groups:
            g["lr"] = lr
        with torch.autocast(device, torch.bfloat16):
            loss = fast(x[:, :-1], x[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + n * T
        mean = loss.item() if mean is None else 0.98 * mean + 0.02 * loss.item()
        if elapsed > next_log:
            next_log = elapsed + 30
            print(f"{elapsed:6.0f} s  step {step}  {seen / 1e6:.2f} M tokens  loss {mean:.3f}  lr {lr:.1e}  {seen / max(time.time() - t0, 1):.0f} tok/s", flush=True)
        if elapsed > next_eval:
            next_eval = elapsed + a.eval_every
            with torch.autocast(device, torch.bfloat16):
                scores = bits_per_byte(model, tok, held_out, device, 16)
            print("   held out, bits per byte:", {k: round(v, 3) for k, v in scores.items()}, flush=True)
            torch.save(model.state_dict(), work / "last.pt")
    torch.save(model.state_dict(), work / "last.pt")
    scores = bits_per_byte(model, tok, held_out, device, 64)
    summary = dict(params=a.params, steps=step, tokens_seen=seen, seconds=round(time.time() - t0), train_loss=round(mean, 4),
                   held_out_bits_per_byte={k: round(v, 4) for k, v in scores.items()}, device=device, torch=torch.__version__)
    json.dump(summary, open(work / "train.json", "w"), indent=1)
    print(json.dumps(summary))
    export(model, tok, p, work, Path(a.out))


# -- Export ----------------------------------------------------------------------------------------------------
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}\n"
            "{% elif m['role'] == 'user' %}### Instruction:\n{{ m['content'] }}\n"
            "{% else %}### Response:\n{{ m['content'] }}\n<|EOT|>\n{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}### Response:\n{% endif %}")


def export(model, tok, p, work, out):
    """The model folder. As in DeepSeek-Coder, tokenizer.json itself adds no BOS: tokenizer_config's add_bos_token asks for it."""
    import torch
    from safetensors.torch import save_file
    out.mkdir(parents=True, exist_ok=True)
    ids = {t: tok.token_to_id(t) for t, _ in ADDED}
    save = lambda name, j: (out / name).write_text(json.dumps(j, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file({k: v.detach().cpu().bfloat16().contiguous() for k, v in model.state_dict().items()}, out / "model.safetensors", {"format": "pt"})
    save("config.json", dict(
        architectures=["LlamaForCausalLM"], model_type="llama", bos_token_id=ids[BOS], eos_token_id=ids[EOS], hidden_act="silu",
        hidden_size=p["d"], intermediate_size=p["ff"], num_hidden_layers=p["layers"], num_attention_heads=p["heads"],
        num_key_value_heads=p["kv"], initializer_range=0.02, max_position_embeddings=MAX_POSITIONS, pretraining_tp=1, rms_norm_eps=EPS,
        rope_scaling={"factor": ROPE_FACTOR, "type": "linear"}, rope_theta=int(ROPE_THETA), tie_word_embeddings=False,
        torch_dtype="bfloat16", use_cache=True, vocab_size=p["padded"]))
    save("generation_config.json", dict(bos_token_id=ids[BOS], eos_token_id=[ids[EOS], ids[EOT]], pad_token_id=ids["<pad>"]))
    save("tokenizer_config.json", dict(
        add_bos_token=True, add_eos_token=False, bos_token=BOS, eos_token=EOS, pad_token="<pad>", unk_token=None, legacy=True,
        clean_up_tokenization_spaces=False, model_max_length=MAX_POSITIONS, tokenizer_class="LlamaTokenizerFast", chat_template=TEMPLATE))
    tok.save(str(out / "tokenizer.json"))


def cmd_export(a):      # the last checkpoint of a run that was stopped
    import torch
    from tokenizers import Tokenizer
    model = build_model(PRESETS[a.params], "cpu")
    model.load_state_dict(torch.load(Path(a.work) / "last.pt", map_location="cpu"))
    export(model, Tokenizer.from_file(str(Path(a.work) / "tokenizer.json")), PRESETS[a.params], Path(a.work), Path(a.out))


# -- Verify with an independent implementation ---------------------------------------------------------------------
PROMPTS = {
    "python": "def read_lines(path):\n    \"\"\"Return the lines of a file.\"\"\"\n",
    "typescript": "export function isString(value: unknown): value is string {\n",
    "rust": "impl fmt::Display for Error {\n    fn fmt(&self, f: &mut fmt::Formatter",
    "json": "{\n  \"id\": 7,\n  \"name\": \"",
    "fim_python": f"{FIM}def add(a, b):\n    {HOLE}\n\nprint(add(1, 2))\n{END}",
    "fim_rust": f"{FIM}pub fn len(&self) -> usize {{\n    {HOLE}\n}}\n\npub fn is_empty(&self) -> bool {{\n    self.len() == 0\n}}\n{END}",
    "chat": "### Instruction:\nWrite a Python function `is_even`. Return True if the number is even.\n### Response:\n",
}


def fim_accuracy(model, tok, held_out, bos, cases=120):
    """How often greedy infilling restores the rest of a random line of held-out code exactly, and how often it ends by itself."""
    import torch
    r, right, ended, n = random.Random(SEED), 0, 0, 0
    end = tok.convert_tokens_to_ids(EOS)
    for text in [t for k, v in sorted(held_out.items()) if k not in ("json", "docs") for t in v]:
        piece = "".join(text.splitlines(True)[2:26])[:900]
        spots = [m for m in re.finditer(r"[^\n]+", piece) if len(m[0].strip()) > 12 and m.end() < len(piece) - 80]
        if not spots or n >= cases:
            continue
        m = r.choice(spots)
        cut = r.randint(m.start() + (len(m[0]) - len(m[0].lstrip())) + 3, m.end() - 3)
        x = torch.tensor([[bos] + tok(FIM + piece[:cut] + HOLE + piece[m.end():] + END, add_special_tokens=False).input_ids])
        y = model.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=32, do_sample=False, pad_token_id=bos)[0, x.shape[1]:].tolist()
        n, ended = n + 1, ended + (end in y)
        right += tok.decode(y, skip_special_tokens=True) == piece[cut:m.end()]
    return dict(cases=n, exact=right / n, ended=ended / n)


def cmd_verify(a):
    import torch, transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tok = AutoTokenizer.from_pretrained(a.out)
    model = AutoModelForCausalLM.from_pretrained(a.out, dtype=torch.float32).eval()
    bos = model.config.bos_token_id
    refs, samples = [], {}
    for name, prompt in PROMPTS.items():
        ids = [bos] + tok(prompt, add_special_tokens=False).input_ids
        x = torch.tensor([ids])
        with torch.no_grad():
            last = model(x).logits[0, -1].double()
            free = model.generate(x, attention_mask=torch.ones_like(x), max_new_tokens=64, do_sample=False, pad_token_id=bos)[0, len(ids):].tolist()
            fixed, y = [], x
            for _ in range(32 if name in ("python", "rust", "fim_python") else 0):      # plain argmax, end tokens or not
                fixed.append(int(model(y).logits[0, -1].argmax()))
                y = torch.cat([y, torch.tensor([fixed[-1:]])], 1)
        samples[name] = tok.decode(free)
        print(f"--- {name}\n{prompt}\033[1m{samples[name]}\033[0m")
        if fixed:
            top = last.topk(2).values
            refs.append(dict(name=name, prompt=prompt, ids=ids, logits_first_64=[float(np.float32(v)) for v in last[:64]], argmax=int(last.argmax()),
                             logsumexp=float(torch.logsumexp(last, -1)), margin_of_argmax=float(top[0] - top[1]), greedy_32=fixed, greedy_text=tok.decode(fixed)))
    text = 'def f(x):\n\tif x > 10:\n        return "héllo, 世界" + str(x)  # 123\r\n' + EOT + " tail"
    json.dump(dict(model="ananke-nano", dtype="float32 arithmetic on the stored bfloat16 weights", transformers=transformers.__version__, torch=torch.__version__,
                   note="ids begin with BOS, added by hand; greedy_32 does not stop at end tokens", vectors=refs,
                   tokenizer=dict(text=text, ids=tok(text, add_special_tokens=False).input_ids),
                   chat=dict(messages=[{"role": "user", "content": "Hi"}], text=tok.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True))),
              open(a.reference, "w"), indent=1, ensure_ascii=False)
    print("with BOS from the tokenizer itself:", tok("x = 1").input_ids[:2])
    if (Path(a.work) / "held_out.json").exists():
        held = json.load(open(Path(a.work) / "held_out.json"))
        from tokenizers import Tokenizer
        raw = Tokenizer.from_file(str(Path(a.out) / "tokenizer.json"))
        import torch.nn.functional as F
        wrap = lambda x, y, red: F.cross_entropy(model(x).logits.float().view(-1, model.config.vocab_size), y.reshape(-1), reduction=red, ignore_index=-1)
        print("infilling the rest of a line of held-out code:", fim_accuracy(model, tok, held, bos))
        print("bits per byte through transformers:", {k: round(v, 4) for k, v in bits_per_byte(wrap, raw, held, "cpu", 64).items()})


if __name__ == "__main__":
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=["data", "train", "export", "verify"])
    ap.add_argument("--roots", nargs="*", default=[])
    ap.add_argument("--work", default="nano-data/work")
    ap.add_argument("--out", default="models/ananke-nano")
    ap.add_argument("--reference", default="tests/data/nano_reference.json")
    ap.add_argument("--params", choices=PRESETS, default="nano")
    ap.add_argument("--minutes", type=float, default=42)
    ap.add_argument("--steps", type=int, default=0, help="a fixed number of steps in place of --minutes: the run is then repeatable")
    ap.add_argument("--warmup", type=int, default=100)
    ap.add_argument("--short", type=float, default=0.7, help="share of the run at half the context")
    ap.add_argument("--eval-every", type=float, default=300)
    ap.add_argument("--compile", action="store_true")
    a = ap.parse_args()
    globals()["cmd_" + a.command](a)
