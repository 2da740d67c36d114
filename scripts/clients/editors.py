"""What editors' plug-ins that fill in the middle send: path, headers and body as their sources build them.

Sources read on 2026-11-23: Continue (core/llm/llms/OpenAI.ts, LlamaCpp.ts, packages/openai-adapters), Tabby
(crates/http-api-bindings/src/completion), Twinny (src/extension/inference/adapters/fim-dialects.ts), llama.vscode
(src/llama-server.ts), llama.vim (autoload/llama.vim), minuet-ai.nvim (lua/minuet/backends/openai_base.lua), Zed
(crates/edit_prediction/src/open_ai_compatible.rs), and the completion request of GitHub Copilot as proxies record it.
Each answer is read the way the plug-in reads it.
"""

import ast
import json
import urllib.error
import urllib.request

from calls import CHAT, PREFIX, PYTHON_RULES, SUFFIX, TOOLS
from rows import Refused, Suite, Target

SUITE = Suite("editors")
works, refused = SUITE.works, SUITE.refused
SECONDS = 300

# Continue's stop words of a completion: those of every language, and of models that write a document's markers.
CONTINUE_STOPS = ["\n\n", "\r\n\r\n", "/src/", "#- coding: utf-8", "```"]
MARKED = f"<|fim_prefix|>{PREFIX}<|fim_suffix|>{SUFFIX}<|fim_middle|>"
MARKERS = [
    "<|endoftext|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
]
EXTRA = [{"text": "def sub(a, b):\n    return a - b\n", "time": [0, 1], "filename": "sub.py"}]


def send(target: Target, path: str, body: dict | None, headers: dict | None = None) -> str:
    """The body of the reply to a request with the key as bearer."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {target.keys['main']}", **(headers or {})}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{target.url}{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as reply:
            return reply.read().decode()
    except urllib.error.HTTPError as error:
        raise Refused(error.code, error.read().decode()) from None


def events(text: str) -> list[dict]:
    """The events of a stream, which ends with `[DONE]`."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    assert data[-1] == "[DONE]", data[-1]
    return [json.loads(event) for event in data[:-1]]


def streamed(text: str) -> str:
    """The text of a streamed completion, as every plug-in here collects it."""
    chunks = events(text)
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length"), chunks[-1]
    return "".join(chunk["choices"][0]["text"] for chunk in chunks)


# --- Continue ---


def continue_fim(target: Target, **fields) -> dict:
    options = {"max_tokens": 64, "temperature": 0.01, "stop": CONTINUE_STOPS}
    return {"model": target.model, "prompt": PREFIX, "suffix": SUFFIX, **options, "stream": True, **fields}


def continue_headers(target: Target) -> dict:
    key = target.keys["main"]
    return {"Accept": "application/json", "x-api-key": key, "api-key": key}


@works("Continue, providers with their own /completions and `suffix` (LlamaStack, Inception)")
def continue_suffix(target):
    text = streamed(send(target, "/v1/completions", continue_fim(target), continue_headers(target)))
    assert not any(stop in text for stop in CONTINUE_STOPS), text


@works("Continue, the same with a constraint set by `extraBodyProperties`")
def continue_constrained(target):
    body = continue_fim(target, constraints=PYTHON_RULES, stop=[])
    text = streamed(send(target, "/v1/completions", body, continue_headers(target)))
    ast.parse(f"{PREFIX}{text}{SUFFIX}")


@works("Continue, legacy completions: markers in the prompt, which are plain text here")
def continue_legacy(target):
    body = continue_fim(target, prompt=MARKED, stop=[*MARKERS, *CONTINUE_STOPS])
    del body["suffix"]
    streamed(send(target, "/v1/completions", body, continue_headers(target)))


@works("Continue, /models")
def continue_models(target):
    models = json.loads(send(target, "/v1/models", None, continue_headers(target)))["data"]
    assert [model["id"] for model in models] == [target.model]


@works("Continue, OpenAI and Mistral: /fim/completions")
def continue_fim_endpoint(target):
    chunks = events(send(target, "/v1/fim/completions", continue_fim(target), continue_headers(target)))
    # Continue adds up this field of every chunk without looking whether it is there.
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks)
    assert not any(stop in text for stop in CONTINUE_STOPS), text
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length"), chunks[-1]


refused(
    "Continue, llama.cpp: /completion",
    "404 unsupported_endpoint",
    lambda t: send(t, "/completion", {"prompt": MARKED, "stream": True, "n_predict": 64, "temperature": 0.01}),
)
refused(
    "Continue, rerank",
    "404 unsupported_endpoint",
    lambda t: send(t, "/v1/rerank", {"model": t.model, "query": "x", "documents": ["a"]}, continue_headers(t)),
)

# --- Tabby ---


def tabby(target: Target, suffix: str | None) -> dict:
    options = {"max_tokens": 64, "temperature": 0.1, "stream": True, "presence_penalty": 0.0}
    return {"model": target.model, "prompt": PREFIX, "suffix": suffix, **options}


@works("Tabby, openai/completion")
def tabby_suffix(target):
    return repr(streamed(send(target, "/v1/completions", tabby(target, SUFFIX), {"Accept": "text/event-stream"})))


@works("Tabby, openai/completion, nothing behind the cursor: `suffix: null`")
def tabby_null(target):
    streamed(send(target, "/v1/completions", tabby(target, None), {"Accept": "text/event-stream"}))


refused(
    "Tabby, llama.cpp/completion: /completion",
    "404 unsupported_endpoint",
    lambda t: send(
        t, "/completion", {"seed": 1, "prompt": MARKED, "n_predict": 64, "stream": True, "penalty_last_n": 0}
    ),
)
refused(
    "Tabby's own editors: `segments`",
    "400 unknown_parameter",
    lambda t: send(t, "/v1/completions", {"language": "python", "segments": {"prefix": PREFIX, "suffix": SUFFIX}}),
)

# --- Twinny ---


def twinny(target: Target, **fields) -> dict:
    return {"model": target.model, "prompt": MARKED, "stream": True, **fields}


@works("Twinny, LM Studio, DeepSeek, OpenRouter: markers in the prompt")
def twinny_lm_studio(target):
    body = twinny(target, temperature=0.2, max_tokens=64, stop=["<|endoftext|>", "\n\n"])
    streamed(send(target, "/v1/completions", body))


@works("Twinny, llama.cpp, Oobabooga at /v1/completions: no model named")
def twinny_llama_cpp(target):
    body = {"prompt": MARKED, "stream": True, "temperature": 0.2, "max_tokens": 64, "stop": ["<|endoftext|>"]}
    streamed(send(target, "/v1/completions", body))


@works("Twinny, LiteLLM: a chat")
def twinny_litellm(target):
    body = {"messages": CHAT, "model": target.model, "stream": True, "max_tokens": 16, "temperature": 0.2}
    chunks = events(send(target, "/v1/chat/completions", body))
    assert all("content" in chunk["choices"][0]["delta"] or chunk["choices"][0]["finish_reason"] for chunk in chunks)


ollama_options = {"temperature": 0.2, "num_predict": 64}
refused(
    "Twinny, OpenAI compatible and Ollama: `keep_alive`, `options`",
    "400 unknown_parameter",
    lambda t: send(t, "/v1/completions", twinny(t, keep_alive="5m", options=ollama_options)),
)
refused(
    "Twinny, any other provider: `n_predict`",
    "400 unknown_parameter",
    lambda t: send(t, "/v1/completions", {"prompt": MARKED, "stream": True, "temperature": 0.2, "n_predict": 64}),
)
refused("Twinny, list of Ollama's models", "404 unsupported_endpoint", lambda t: send(t, "/api/tags", None))
refused(
    "Twinny, embeddings",
    "404 unsupported_endpoint",
    lambda t: send(t, "/v1/embeddings", {"model": t.model, "input": "x", "stream": False}),
)

# --- llama.vscode and llama.vim ---

INFILL = {"input_prefix": "import json\n\n\n", "input_suffix": SUFFIX, "input_extra": EXTRA, "prompt": PREFIX}
LLAMA_SAMPLING = {
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
}
LLAMA_TIMES = {"t_max_prompt_ms": 500, "t_max_predict_ms": 1500}
LLAMA_VIM_FIELDS = [
    "content",
    "timings/prompt_n",
    "timings/prompt_ms",
    "timings/prompt_per_token_ms",
    "timings/prompt_per_second",
    "timings/predicted_n",
    "timings/predicted_ms",
    "timings/predicted_per_token_ms",
    "timings/predicted_per_second",
    "truncated",
    "tokens_cached",
]


def infill(target: Target, **fields) -> dict:
    return json.loads(send(target, "/infill", {**INFILL, **fields}))


@works("llama.vscode, /infill")
def llama_vscode(target):
    reply = infill(target, n_predict=64, **LLAMA_SAMPLING, **LLAMA_TIMES, n_indent=4)
    # It is drawn without a seed, and may end at once.
    assert isinstance(reply["content"], str), reply
    assert reply["timings"]["predicted_n"] > 0 or reply["stop_type"] == "eos", reply
    assert {"samplers", "cache_prompt", "t_max_predict_ms"} <= set(reply["not_applied"]), reply["not_applied"]
    return repr(reply["content"])


@works("llama.vscode, /infill to warm a cache: `n_predict: 0`")
def llama_vscode_warm(target):
    body = {"input_prefix": "", "input_suffix": "", "prompt": "", "n_predict": 0, "samplers": [], "cache_prompt": True}
    assert infill(target, **body, t_max_prompt_ms=500, t_max_predict_ms=1)["content"] == ""


@works("llama.vim, /infill with `response_fields`")
def llama_vim(target):
    fields = {**LLAMA_SAMPLING, **LLAMA_TIMES, "response_fields": LLAMA_VIM_FIELDS}
    reply = infill(target, n_predict=64, n_indent=4, **fields)
    assert set(reply) == set(LLAMA_VIM_FIELDS), sorted(set(LLAMA_VIM_FIELDS) ^ set(reply))


@works("llama.vim, /infill to warm a cache: `response_fields: ['']`")
def llama_vim_warm(target):
    fields = {"n_predict": 0, "temperature": 0.0, "stream": False, "samplers": [], "response_fields": [""]}
    assert infill(target, input_prefix="", input_suffix="", prompt="", **fields) == {}


@works("llama.vscode, OpenAI endpoint: a template in the prompt, not streamed")
def llama_vscode_openai(target):
    body = {
        "model": target.model,
        "prompt": MARKED,
        "max_tokens": 64,
        "temperature": 0.1,
        "top_p": 0.99,
        "stream": False,
    }
    reply = json.loads(send(target, "/v1/completions", body))
    assert reply["choices"][0]["finish_reason"] and reply["usage"]["total_tokens"], reply


@works("llama.vscode, chat with tools")
def llama_vscode_tools(target):
    body = {"messages": CHAT, "stream": False, "temperature": 0.8, "top_p": 0.95, "tools": TOOLS, "tool_choice": "auto"}
    reply = json.loads(send(target, "/v1/chat/completions", {**body, "max_tokens": 64}))
    assert "message" in reply["choices"][0], reply


chat_edit = {
    "messages": CHAT,
    "stream": False,
    "cache_prompt": True,
    "samplers": "edkypmxt",
    "temperature": 0.8,
    "max_tokens": -1,
}
refused(
    "llama.vscode, edit by chat: llama.cpp's samplers",
    "400 unknown_parameter",
    lambda t: send(t, "/v1/chat/completions", chat_edit),
)
refused("llama.vscode, a LoRA chosen", "400 unknown_parameter", lambda t: infill(t, lora=[{"id": 0, "scale": 0.5}]))
refused("an editor that streams /infill", "400 unsupported_parameter", lambda t: infill(t, stream=True))

# --- minuet, Zed, Copilot ---


@works("minuet-ai.nvim, openai_fim_compatible, streamed: three at once")
def minuet(target):
    prompt = f"# language: python\n# indentation: use 4 spaces for a tab\n{PREFIX}"
    body = {"model": target.model, "stream": True, "max_tokens": 56, "top_p": 0.9, "prompt": prompt, "suffix": SUFFIX}
    for _ in range(3):
        streamed(send(target, "/v1/completions", body, {"Accept": "application/json"}))


@works("Zed, OpenAI-compatible edit prediction")
def zed(target):
    body = {"model": target.model, "prompt": MARKED, "max_tokens": 64, "stop": ["<|endoftext|>", "<|file_sep|>"]}
    reply = json.loads(send(target, "/v1/completions", body))
    assert reply["id"] and reply["object"] and reply["created"] and reply["usage"], reply
    assert isinstance(reply["choices"][0]["text"], str)


COPILOT = {
    "prompt": f"# Path: add.py\n{PREFIX}",
    "suffix": SUFFIX,
    "max_tokens": 500,
    "temperature": 0,
    "top_p": 1,
    "n": 1,
    "stop": ["\n"],
    "stream": True,
}
COPILOT_EXTRA = {
    "nwo": "owner/name",
    "extra": {
        "language": "python",
        "next_indent": 0,
        "trim_by_indentation": True,
        "prompt_tokens": 18,
        "suffix_tokens": 9,
    },
}
COPILOT_HEADERS = {"OpenAI-Intent": "copilot-ghost", "Editor-Version": "vscode/1.99", "accept": "*/*"}


@works("Copilot's request without `nwo` and `extra`")
def copilot(target):
    assert "\n" not in streamed(send(target, "/v1/completions", COPILOT, COPILOT_HEADERS))


refused(
    "Copilot's request as it is: `nwo`, `extra`",
    "400 unknown_parameter",
    lambda t: send(t, "/v1/completions", {**COPILOT, **COPILOT_EXTRA}, COPILOT_HEADERS),
)
refused(
    "Copilot's path: /v1/engines/NAME/completions",
    "404 unsupported_endpoint",
    lambda t: send(t, "/v1/engines/copilot-codex/completions", {**COPILOT, **COPILOT_EXTRA}, COPILOT_HEADERS),
)
refused(
    "any of them with a wrong key",
    "401 invalid_api_key",
    lambda t: send(t, "/infill", INFILL, {"Authorization": "Bearer sk-wrong"}),
)
