"""The calls of OpenAI's Python client."""

import ast
import asyncio
import json
import math
import re
from typing import Literal

import openai
import pydantic

from calls import CHAT, ORDER, ORDER_FORMAT, PARAMETERS, PREFIX, PYTHON_RULES, RESPONSE_TOOLS, SUFFIX, TOOLS
from rows import Suite, Target, valid

SUITE = Suite("openai, Python")
works, refused = SUITE.works, SUITE.refused
UNSUPPORTED = "400 unsupported_parameter"
UNKNOWN = "400 unknown_parameter"
INVALID = "400 invalid_value"
NO_ENDPOINT = "404 unsupported_endpoint"


class Order(pydantic.BaseModel):
    """An order, as a user of `.parse` writes it."""

    id: int = pydantic.Field(ge=1, le=9999)
    status: Literal["open", "paid", "sent"]
    items: list[str] = pydantic.Field(max_length=3)


class Weather(pydantic.BaseModel):
    """The weather in a city."""

    city: str = pydantic.Field(max_length=12)
    unit: Literal["C", "F"]


def chat(target: Target, **fields):
    fields = {"model": target.model, "messages": CHAT, "max_tokens": 96, "seed": 7, **fields}
    return target.client.chat.completions.create(**fields)


def complete(target: Target, **fields):
    fields = {"model": target.model, "prompt": "def add(a, b):\n", "max_tokens": 24, "seed": 7, **fields}
    return target.client.completions.create(**fields)


def respond(target: Target, **fields):
    fields = {"model": target.model, "input": "What is the weather in Rome?", "max_output_tokens": 96, **fields}
    return target.client.responses.create(**fields)


def text_of(chunks) -> str:
    """The text of the first choice of a streamed chat."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def check_calls(calls) -> str:
    """Calls of functions that exist, with arguments that their schemas allow."""
    assert calls
    for call in calls:
        valid(PARAMETERS[call.function.name], call.function.arguments)
    return ", ".join(call.function.name for call in calls)


def token_of(target: Target, text: str) -> int:
    tokens = target.client.post("/tokenize", cast_to=object, body={"content": text})["tokens"]
    assert len(tokens) == 1, tokens
    return tokens[0]


# --- models ---


@works("models.list")
def models_list(target):
    models = target.client.models.list().data
    assert [model.id for model in models] == [target.model], models


@works("models.retrieve")
def models_retrieve(target):
    assert target.client.models.retrieve(target.model).id == target.model


refused("models.retrieve, unknown", "404 model_not_found", lambda t: t.client.models.retrieve("gpt-4o"))
refused("models.delete", "405 method_not_allowed", lambda t: t.client.models.delete(t.model))

# --- chat completions ---


@works("chat.completions.create")
def chat_create(target):
    reply = chat(target)
    message = reply.choices[0].message
    assert message.role == "assistant" and message.content and reply.usage.completion_tokens > 0, reply
    assert reply.object == "chat.completion" and reply.model == target.model, reply


@works("chat.completions.create, all roles, parts of text, names")
def chat_roles(target):
    text = [{"type": "text", "text": "Hello"}, {"type": "text", "text": " there."}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "Be kind."}]},
        {"role": "user", "content": text, "name": "ann"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "And now?"},
    ]
    assert chat(target, messages=messages).usage.prompt_tokens > chat(target).usage.prompt_tokens


@works("chat.completions.create, max_completion_tokens")
def chat_max_completion_tokens(target):
    reply = chat(target, max_tokens=openai.omit, max_completion_tokens=4)
    assert reply.usage.completion_tokens <= 4, reply.usage


@works("chat.completions.create, n")
def chat_n(target):
    choices = chat(target, n=3, temperature=1.0).choices
    assert [choice.index for choice in choices] == [0, 1, 2]
    assert len({choice.message.content for choice in choices}) == 3, choices


@works("chat.completions.create, stop")
def chat_stop(target):
    whole = chat(target).choices[0].message.content
    stop = whole[len(whole) // 2 :][:3]
    cut = chat(target, stop=[stop]).choices[0]
    assert cut.message.content == whole[: whole.index(stop)] and cut.finish_reason == "stop", (whole, cut)


@works("chat.completions.create, seed")
def chat_seed(target):
    texts = [chat(target, seed=seed, temperature=1.0).choices[0].message.content for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2], texts


@works("chat.completions.create, temperature, top_p, penalties, user, metadata, store=False")
def chat_sampling(target):
    labels = {"user": "u", "metadata": {"a": "b"}, "safety_identifier": "s", "prompt_cache_key": "k", "store": False}
    reply = chat(target, temperature=0.5, top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5, **labels)
    assert reply.choices[0].finish_reason in ("stop", "length")


@works("chat.completions.create, top_k, min_p, repetition_penalty by extra_body")
def chat_more_sampling(target):
    greedy = chat(target, temperature=0).choices[0].message.content
    first = chat(target, temperature=1, extra_body={"top_k": 1, "min_p": 0.1}).choices[0].message.content
    assert first == greedy, (first, greedy)
    chat(target, extra_body={"repetition_penalty": 1.1})


@works("chat.completions.create, logprobs, top_logprobs")
def chat_logprobs(target):
    choice = chat(target, logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    written = b"".join(bytes(token.bytes) for token in tokens)
    assert written.decode(errors="replace").startswith(choice.message.content), choice
    assert all(math.isfinite(token.logprob) and token.logprob <= 0 for token in tokens)
    assert all(math.isfinite(top.logprob) for token in tokens for top in token.top_logprobs)
    assert all(len(token.top_logprobs) >= 3 for token in tokens)


@works("chat.completions.create, logit_bias")
def chat_logit_bias(target):
    bias = {str(token_of(target, "a")): 100}
    reply = chat(target, logit_bias=bias, temperature=0, max_tokens=8)
    assert reply.choices[0].message.content == "a" * 8, reply


@works("chat.completions.create, stream")
def chat_stream(target):
    chunks = list(chat(target, stream=True))
    assert text_of(chunks) == chat(target).choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices[0].finish_reason
    assert all(chunk.usage is None for chunk in chunks)
    return f"{len(chunks)} chunks"


@works("chat.completions.create, stream with usage")
def chat_stream_usage(target):
    *chunks, last = chat(target, stream=True, stream_options={"include_usage": True})
    assert last.choices == [] and last.usage == chat(target).usage, last
    assert chunks[-1].choices[0].finish_reason


@works("chat.completions.create, stream, n=2, logprobs")
def chat_stream_choices(target):
    chunks = list(chat(target, stream=True, n=2, logprobs=True, temperature=1))
    for index, choice in enumerate(chat(target, n=2, temperature=1).choices):
        deltas = [delta for chunk in chunks for delta in chunk.choices if delta.index == index]
        assert "".join(delta.delta.content or "" for delta in deltas) == choice.message.content
        assert any(delta.logprobs and delta.logprobs.content for delta in deltas)


@works("chat.completions.stream (helper)")
def chat_stream_helper(target):
    # The helper raises where an answer ends with `length`, so this one cannot.
    ended = {"structured_outputs": {"regex": "[a-z ]{3,30}"}}
    fields = {"model": target.model, "messages": CHAT, "max_tokens": 64, "seed": 7, "extra_body": ended}
    with target.client.chat.completions.stream(**fields) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert stream.get_final_completion().choices[0].message.content == text


@works("chat.completions.create, tools, tool_choice=auto")
def tools_auto(target):
    message = chat(target, tools=TOOLS, tool_choice="auto").choices[0].message
    return check_calls(message.tool_calls) if message.tool_calls else f"prose: {message.content!r}"[:60]


@works("chat.completions.create, tools, tool_choice=required")
def tools_required(target):
    choice = chat(target, tools=TOOLS, tool_choice="required").choices[0]
    assert choice.finish_reason == "tool_calls" and not choice.message.content, choice
    return check_calls(choice.message.tool_calls)


@works("chat.completions.create, tools, tool_choice=named")
def tools_named(target):
    named = {"type": "function", "function": {"name": "time"}}
    calls = chat(target, tools=TOOLS, tool_choice=named).choices[0].message.tool_calls
    assert check_calls(calls) == "time"


@works("chat.completions.create, tools, tool_choice=none")
def tools_none(target):
    assert chat(target, tools=TOOLS, tool_choice="none").choices[0].message.tool_calls is None


@works("chat.completions.create, tools, parallel_tool_calls=False")
def tools_single(target):
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    for seed in range(4):
        calls = chat(target, seed=seed, **fields).choices[0].message.tool_calls
        assert len(calls) == 1 and check_calls(calls), calls


@works("chat.completions.create, tools, stream")
def tools_stream(target):
    fields = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    whole = chat(target, **fields).choices[0].message.tool_calls[0]
    chunks = [chunk.choices[0] for chunk in chat(target, stream=True, **fields)]
    pieces = [piece for choice in chunks for piece in choice.delta.tool_calls or []]
    assert pieces[0].id and pieces[0].function.name == whole.function.name, pieces[0]
    assert "".join(piece.function.arguments for piece in pieces) == whole.function.arguments
    assert chunks[-1].finish_reason == "tool_calls"
    return f"{len(pieces)} pieces"


@works("chat.completions.create, results of tools sent back")
def tools_results(target):
    first = chat(target, tools=TOOLS, tool_choice="required").choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "17"} for call in first.tool_calls]
    messages = [*CHAT, first.model_dump(exclude_none=True), *results]
    after = chat(target, messages=messages, tools=TOOLS, tool_choice="none").choices[0].message
    assert after.content is not None, after


@works("chat.completions.parse, pydantic_function_tool")
def tools_parse(target):
    reply = target.client.chat.completions.parse(
        model=target.model,
        messages=CHAT,
        tools=[openai.pydantic_function_tool(Weather)],
        tool_choice="required",
        max_tokens=96,
        seed=7,
    )
    call = reply.choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, Weather), call
    valid(Weather.model_json_schema(), call.function.arguments)


custom_tool = {"type": "custom", "custom": {"name": "run", "description": "Runs code."}}
allowed = {
    "type": "allowed_tools",
    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]},
}
no_tool = {"type": "function", "function": {"name": "other"}}
for name, expected, fields in [
    ("chat.completions.create, custom tool", INVALID, {"tools": [custom_tool]}),
    ("chat.completions.create, tool_choice=allowed_tools", INVALID, {"tools": TOOLS, "tool_choice": allowed}),
    ("chat.completions.create, tool_choice of no tool", INVALID, {"tools": TOOLS, "tool_choice": no_tool}),
    ("chat.completions.create, functions", UNSUPPORTED, {"functions": [TOOLS[0]["function"]]}),
]:
    refused(name, expected, lambda t, fields=fields: chat(t, **fields))


@works("chat.completions.create, response_format=text")
def format_text(target):
    assert chat(target, response_format={"type": "text"}).choices[0].message.content


@works("chat.completions.create, response_format=json_object")
def format_object(target):
    choice = chat(target, response_format={"type": "json_object"}).choices[0]
    assert choice.finish_reason == "stop", choice
    valid({"type": "object"}, choice.message.content)


@works("chat.completions.create, response_format=json_schema, strict, 8 seeds")
def format_schema(target):
    for seed in range(8):
        choice = chat(target, seed=seed, response_format=ORDER_FORMAT).choices[0]
        assert choice.finish_reason == "stop", choice
        valid(ORDER, choice.message.content)


@works("chat.completions.create, response_format=json_schema, stream")
def format_stream(target):
    valid(ORDER, text_of(chat(target, response_format=ORDER_FORMAT, stream=True)))


@works("chat.completions.parse, pydantic")
def format_parse(target):
    reply = target.client.chat.completions.parse(
        model=target.model, messages=CHAT, response_format=Order, max_tokens=120, seed=7
    )
    message = reply.choices[0].message
    assert isinstance(message.parsed, Order), message
    valid(Order.model_json_schema(), message.content)


@works("chat.completions.stream, pydantic")
def format_stream_helper(target):
    fields = {"model": target.model, "messages": CHAT, "max_tokens": 120, "seed": 7}
    with target.client.chat.completions.stream(response_format=Order, **fields) as stream:
        kinds = {event.type for event in stream}
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, Order)
    assert {"content.delta", "content.done"} <= kinds, kinds


def odd_schema(schema: dict) -> dict:
    return {"type": "json_schema", "json_schema": {"name": "odd", "schema": schema}}


image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
for name, expected, fields in [
    (
        "chat.completions.create, schema that cannot be kept",
        "422 unsupported_schema",
        {"response_format": odd_schema({"type": "array", "uniqueItems": True})},
    ),
    (
        "chat.completions.create, schema that nothing satisfies",
        "422 unsatisfiable",
        {"response_format": odd_schema({"type": "object", "properties": {"a": False}, "required": ["a"]})},
    ),
    ("chat.completions.create, schema beside tools", UNSUPPORTED, {"tools": TOOLS, "response_format": ORDER_FORMAT}),
    ("chat.completions.create, image", UNSUPPORTED, {"messages": image}),
    ("chat.completions.create, no messages", INVALID, {"messages": []}),
    (
        "chat.completions.create, prompt too long",
        "400 context_length_exceeded",
        {"messages": [{"role": "user", "content": "word " * 20000}]},
    ),
    ("chat.completions.create, temperature=-1", "400 out_of_range", {"temperature": -1}),
    ("chat.completions.create, n=0", "400 out_of_range", {"n": 0}),
    (
        "chat.completions.create, modalities=audio",
        UNSUPPORTED,
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    ),
    ("chat.completions.create, reasoning_effort", UNSUPPORTED, {"reasoning_effort": "low"}),
    ("chat.completions.create, verbosity", UNSUPPORTED, {"verbosity": "low"}),
    ("chat.completions.create, prediction", UNSUPPORTED, {"prediction": {"type": "content", "content": "x"}}),
    ("chat.completions.create, web_search_options", UNSUPPORTED, {"web_search_options": {}}),
    ("chat.completions.create, store=True", UNSUPPORTED, {"store": True}),
    ("chat.completions.create, service_tier=flex", UNSUPPORTED, {"service_tier": "flex"}),
    ("chat.completions.create, prompt_cache_retention", UNKNOWN, {"prompt_cache_retention": "24h"}),
    ("chat.completions.create, stream_options without stream", INVALID, {"stream_options": {"include_usage": True}}),
    (
        "chat.completions.create, include_obfuscation",
        UNKNOWN,
        {"stream": True, "stream_options": {"include_obfuscation": False}},
    ),
    ("chat.completions.create, unknown field by extra_body", UNKNOWN, {"extra_body": {"no_such_field": 1}}),
]:
    refused(name, expected, lambda t, fields=fields: chat(t, **fields))
for name, expected, function in [
    ("chat.completions.list", "405 method_not_allowed", lambda t: t.client.chat.completions.list()),
    ("chat.completions.retrieve", NO_ENDPOINT, lambda t: t.client.chat.completions.retrieve("chatcmpl-1")),
    ("chat.completions.update", NO_ENDPOINT, lambda t: t.client.chat.completions.update("chatcmpl-1", metadata={})),
    ("chat.completions.delete", NO_ENDPOINT, lambda t: t.client.chat.completions.delete("chatcmpl-1")),
    ("chat.completions.messages.list", NO_ENDPOINT, lambda t: t.client.chat.completions.messages.list("chatcmpl-1")),
]:
    refused(name, expected, function)

# --- constraints, as extra_body brings them ---


@works("chat, constraints: a set (Python, two imports)")
def constraint_set(target):
    code = chat(target, max_tokens=120, extra_body={"constraints": PYTHON_RULES}).choices[0].message.content
    imported = [name.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Import) for name in node.names]
    imported += [node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    assert {name.split(".")[0] for name in imported} <= {"json", "math"}, imported


@works("chat, constraint_ir: regex and forbidden text")
def constraint_ir(target):
    ir = {
        "regex_patterns": [{"any_of": [{"pattern": "[a-f ]{10,60}"}], "match": "full"}],
        "forbidden_text": [{"text": "ab"}],
    }
    text = chat(target, extra_body={"constraint_ir": ir}).choices[0].message.content
    assert re.fullmatch("[a-f ]{10,60}", text) and "ab" not in text, text


@works("chat, structured_outputs: regex, choice, grammar, json together and alone")
def structured_outputs(target):
    for fields, pattern in [
        ({"regex": "[a-z]{3,9}"}, "[a-z]{3,9}"),
        ({"choice": ["yes", "no", "a.b"]}, r"yes|no|a\.b"),
        ({"grammar": 'root ::= "a" [0-9] "b"'}, "a[0-9]b"),
        ({"regex": "[a-o]{2,3}", "choice": ["yes", "no", "on"]}, "no|on"),
    ]:
        text = chat(target, extra_body={"structured_outputs": fields}).choices[0].message.content
        assert re.fullmatch(pattern, text), (fields, text)
    text = chat(target, max_tokens=120, extra_body={"structured_outputs": {"json": ORDER}}).choices[0].message.content
    valid(ORDER, text)


@works("chat, guided_json, guided_regex, guided_choice, guided_grammar (vLLM's older names)")
def guided(target):
    valid(ORDER, chat(target, max_tokens=120, extra_body={"guided_json": ORDER}).choices[0].message.content)
    for fields, pattern in [
        ({"guided_regex": "[0-9]{4}"}, "[0-9]{4}"),
        ({"guided_choice": ["left", "right"]}, "left|right"),
        ({"guided_grammar": 'root ::= "x" [0-9]'}, "x[0-9]"),
    ]:
        text = chat(target, extra_body=fields).choices[0].message.content
        assert re.fullmatch(pattern, text), (fields, text)


@works("chat, grammar and json_schema (llama.cpp's)")
def llama_cpp_fields(target):
    valid(ORDER, chat(target, max_tokens=120, extra_body={"json_schema": ORDER}).choices[0].message.content)
    text = chat(target, extra_body={"grammar": 'root ::= "q" [a-c]+ "."'}).choices[0].message.content
    assert re.fullmatch("q[a-c]+[.]", text), text


@works("chat, context: a type of source code")
def context(target):
    source = "interface Point { x: number; y: number; label?: 'a' | 'b' }"
    fields = {"source": source, "language": "typescript", "type": "Point"}
    text = chat(target, max_tokens=160, extra_body={"context": fields}).choices[0].message.content
    number = {"type": "number"}
    point = {"x": number, "y": number, "label": {"enum": ["a", "b"]}}
    valid({"type": "object", "properties": point, "required": ["x", "y"], "additionalProperties": False}, text)


@works("chat, profile: a rule set of the server")
def profile(target):
    reply = chat(target, extra_body={"profile": "no-urls", "structured_outputs": {"regex": "http(s://a|[.]a)"}})
    assert reply.choices[0].message.content == "http.a", reply.choices[0]
    assert "no-urls" in str(reply.provenance[0]["profiles"]), reply.provenance


for name, expected, fields in [
    ("chat, profile that is not there", INVALID, {"extra_body": {"profile": "other"}}),
    (
        "chat, parts that exclude each other",
        "422 unsatisfiable",
        {"response_format": {"type": "json_object"}, "extra_body": {"structured_outputs": {"regex": "[a-z]+"}}},
    ),
    ("chat, regex that is none", "422 invalid_regex", {"extra_body": {"structured_outputs": {"regex": "("}}}),
    (
        "chat, whitespace pattern",
        UNSUPPORTED,
        {"extra_body": {"structured_outputs": {"regex": "a", "whitespace_pattern": "x"}}},
    ),
]:
    refused(name, expected, lambda t, fields=fields: chat(t, **fields))

# --- completions ---


@works("completions.create")
def completion(target):
    reply = complete(target)
    assert reply.choices[0].text and reply.object == "text_completion" and reply.usage.completion_tokens > 0, reply


@works("completions.create, list of prompts")
def completion_prompts(target):
    texts = [choice.text for choice in complete(target, prompt=["def a(", "class B"]).choices]
    assert texts == [complete(target, prompt=prompt).choices[0].text for prompt in ("def a(", "class B")]


@works("completions.create, token ids")
def completion_tokens(target):
    prompt = "def add(a, b):\n"
    tokens = target.client.post("/tokenize", cast_to=object, body={"prompt": prompt})["tokens"]
    assert complete(target, prompt=tokens).choices[0].text == complete(target, prompt=prompt).choices[0].text


@works("completions.create, stream with usage")
def completion_stream(target):
    *chunks, last = complete(target, stream=True, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in chunks) == complete(target).choices[0].text
    assert last.choices == [] and last.usage == complete(target).usage


@works("completions.create, suffix")
def completion_suffix(target):
    reply = complete(target, prompt=PREFIX, suffix=SUFFIX)
    assert reply.provenance[0]["fim"]["suffix_tokens"] > 0, reply.provenance
    chunks = complete(target, prompt=PREFIX, suffix=SUFFIX, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == reply.choices[0].text


@works("completions.create, suffix, constraints: the document is Python")
def completion_suffix_constraints(target):
    for seed in range(4):
        reply = complete(
            target, prompt=PREFIX, suffix=SUFFIX, seed=seed, max_tokens=64, extra_body={"constraints": PYTHON_RULES}
        )
        ast.parse(f"{PREFIX}{reply.choices[0].text}{SUFFIX}")


@works("completions.create, echo")
def completion_echo(target):
    assert complete(target, prompt="def f", echo=True).choices[0].text.startswith("def f")


@works("completions.create, echo and logprobs")
def completion_echo_logprobs(target):
    prompt = "def add(a, b):\n    return"
    scored = complete(target, prompt=prompt, echo=True, max_tokens=0, logprobs=2).choices[0]
    tokens = scored.logprobs.tokens
    assert scored.text == prompt and scored.finish_reason == "length", scored
    assert scored.logprobs.token_logprobs[0] is None and scored.logprobs.top_logprobs[0] is None
    assert len(tokens) > 3 and all(math.isfinite(value) for value in scored.logprobs.token_logprobs[1:])
    for fields in ({"max_tokens": 0}, {"max_tokens": 4}):
        chunks = list(complete(target, prompt=prompt, echo=True, logprobs=2, stream=True, **fields))
        assert chunks[0].choices[0].logprobs == scored.logprobs and chunks[0].choices[0].text == prompt
    reply = complete(target, prompt=[prompt, "x"], n=2, echo=True, logprobs=2)
    for choice in reply.choices[:2]:
        assert choice.logprobs.token_logprobs[: len(tokens)] == scored.logprobs.token_logprobs
        assert choice.logprobs.text_offset[len(tokens)] == len(prompt)
    return f"{len(tokens)} tokens of the prompt"


@works("completions.create, best_of, n")
def completion_best_of(target):
    assert len(complete(target, best_of=4, n=2, temperature=1.0).choices) == 2


@works("completions.create, logprobs")
def completion_logprobs(target):
    logprobs = complete(target, logprobs=3).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) > 0
    assert all(math.isfinite(value) for value in logprobs.token_logprobs)


@works("completions.create, logit_bias, stop, penalties, user")
def completion_more(target):
    bias = {str(token_of(target, "a")): 100, str(token_of(target, "b")): -100}
    fields = {"temperature": 0, "presence_penalty": 0.1, "frequency_penalty": 0.1, "user": "u"}
    assert complete(target, logit_bias=bias, stop=["aaa"], **fields).choices[0].text == ""


@works("completions.create, token_healing by extra_body")
def completion_healing(target):
    reply = complete(target, prompt="def f():\n    retu", temperature=0, extra_body={"token_healing": True})
    return f"{reply.provenance[0]['healed_bytes']} bytes written again"


for name, expected, fields in [
    ("completions.create, best_of, stream", UNSUPPORTED, {"best_of": 2, "n": 1, "stream": True}),
    ("completions.create, best_of < n", INVALID, {"best_of": 1, "n": 2}),
    ("completions.create, echo and logprobs, suffix", UNSUPPORTED, {"echo": True, "logprobs": 1, "suffix": "x"}),
    ("completions.create, max_tokens=0", "400 out_of_range", {"max_tokens": 0}),
    ("completions.create, 17 stops", "400 invalid_text", {"stop": [f"s{i}" for i in range(17)]}),
    ("completions.create, suffix with token ids", UNSUPPORTED, {"prompt": [1, 2], "suffix": "x"}),
    ("completions.create, token id that is none", "400 invalid_prompt_token", {"prompt": [10**9]}),
    ("completions.create, logit_bias of no token", INVALID, {"logit_bias": {"99999999": 1}}),
    (
        "completions.create, unparsable context, refuse",
        "422 unparsable_context",
        {
            "prompt": "def (",
            "suffix": "\n",
            "extra_body": {"constraints": PYTHON_RULES, "on_unparsable_context": "refuse"},
        },
    ),
]:
    refused(name, expected, lambda t, fields=fields: complete(t, **fields))

# --- responses ---


@works("responses.create")
def response(target):
    reply = respond(target, instructions="Be brief.", metadata={"a": "b"}, temperature=0.5, top_p=0.9)
    assert reply.output_text and reply.metadata == {"a": "b"} and reply.usage.output_tokens > 0, reply


@works("responses.create, a conversation as input")
def response_conversation(target):
    first = respond(target, extra_body={"seed": 7})
    items = [item.model_dump(exclude_none=True) for item in first.output]
    conversation = [*CHAT, *items, {"role": "user", "content": [{"type": "input_text", "text": "And tomorrow?"}]}]
    assert respond(target, input=conversation).usage.input_tokens > first.usage.input_tokens


@works("responses.create, stream")
def response_stream(target):
    events = list(respond(target, stream=True, extra_body={"seed": 7}))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == respond(target, extra_body={"seed": 7}).output_text == events[-1].response.output_text
    return f"{len(events)} events"


@works("responses.stream (helper)")
def response_stream_helper(target):
    fields = {"model": target.model, "input": "Hello", "max_output_tokens": 200}
    with target.client.responses.stream(text_format=Order, **fields) as stream:
        kinds = [event.type for event in stream]
        assert isinstance(stream.get_final_response().output_parsed, Order)
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds


@works("responses.parse, pydantic")
def response_parse(target):
    reply = target.client.responses.parse(
        model=target.model, input="An order.", text_format=Order, max_output_tokens=120
    )
    assert isinstance(reply.output_parsed, Order), reply
    valid(Order.model_json_schema(), reply.output_text)


@works("responses.create, text.format json_schema and json_object")
def response_format(target):
    schema = {"type": "json_schema", "name": "order", "strict": True, "schema": ORDER}
    valid(ORDER, respond(target, text={"format": schema}).output_text)
    valid({"type": "object"}, respond(target, text={"format": {"type": "json_object"}}).output_text)


@works("responses.create, tools auto, required, named, none; results sent back")
def response_tools(target):
    named = {"type": "function", "name": "time"}
    for choice in ("auto", "required", named, "none"):
        reply = respond(target, tools=RESPONSE_TOOLS, tool_choice=choice, parallel_tool_calls=False)
        calls = [item for item in reply.output if item.type == "function_call"]
        for call in calls:
            valid(PARAMETERS[call.name], call.arguments)
        assert choice == "auto" or bool(calls) == (choice != "none"), reply
        if calls:
            output = {"type": "function_call_output", "call_id": calls[0].call_id, "output": "17"}
            items = [item.model_dump(exclude_none=True) for item in reply.output]
            after = respond(target, input=[*CHAT, *items, output], tools=RESPONSE_TOOLS, tool_choice="none")
            assert after.output[0].type == "message", after


@works("responses.create, constraints by extra_body")
def response_constraints(target):
    reply = respond(target, extra_body={"structured_outputs": {"regex": "[a-z]{4}"}})
    assert re.fullmatch("[a-z]{4}", reply.output_text), reply


for field, value in [
    ("store", True),
    ("previous_response_id", "resp_1"),
    ("conversation", "conv_1"),
    ("background", True),
    ("include", ["reasoning.encrypted_content"]),
    ("reasoning", {"effort": "low"}),
    ("truncation", "auto"),
    ("top_logprobs", 2),
    ("max_tool_calls", 1),
    ("prompt", {"id": "p"}),
    ("service_tier", "flex"),
    ("stream_options", {"include_obfuscation": False}),
    ("text", {"verbosity": "low"}),
    ("tools", [{"type": "web_search"}]),
    ("input", [{"type": "reasoning", "id": "r", "summary": []}]),
]:
    refused(
        f"responses.create, {field}={json.dumps(value)[:40]}",
        UNSUPPORTED,
        lambda t, field=field, value=value: respond(t, **{field: value}),
    )
refused("responses.create, moderation", UNKNOWN, lambda t: respond(t, moderation={"model": "m"}))
for name, expected, function in [
    ("responses.retrieve", NO_ENDPOINT, lambda t: t.client.responses.retrieve("resp_1")),
    ("responses.cancel", NO_ENDPOINT, lambda t: t.client.responses.cancel("resp_1")),
    ("responses.delete", NO_ENDPOINT, lambda t: t.client.responses.delete("resp_1")),
    ("responses.compact", NO_ENDPOINT, lambda t: t.client.responses.compact(model=t.model, input="x")),
    ("responses.input_items.list", NO_ENDPOINT, lambda t: t.client.responses.input_items.list("resp_1")),
    (
        "responses.input_tokens.count",
        NO_ENDPOINT,
        lambda t: t.client.responses.input_tokens.count(model=t.model, input="x"),
    ),
]:
    refused(name, expected, function)

# --- tokens, provenance ---


@works("post /tokenize and /detokenize")
def tokenize(target):
    text = "def add(a, b):\n    return a + b  # \u4e16\u754c\n"
    tokens = target.client.post("/tokenize", cast_to=object, body={"content": text})
    back = target.client.post("/detokenize", cast_to=object, body={"tokens": tokens["tokens"]})
    assert back["content"] == text and tokens["count"] == len(tokens["tokens"]), (tokens, back)
    told = target.client.post("/tokenize", cast_to=object, body={"messages": CHAT})["count"]
    assert told == chat(target).usage.prompt_tokens


@works("get /provenance/{id}")
def provenance(target):
    reply = chat(target)
    record = target.client.get(f"/provenance/{reply.id}", cast_to=object)
    assert reply.provenance[0]["seed"] == 7 and "7" in json.dumps(record), record


# --- how the client is used ---


@works("with_raw_response, with_streaming_response")
def raw(target):
    fields = {"model": target.model, "prompt": "x", "max_tokens": 4}
    reply = target.client.completions.with_raw_response.create(**fields)
    assert reply.headers["x-request-id"] and reply.parse().choices, reply.headers
    with target.client.completions.with_streaming_response.create(**fields) as reply:
        assert json.loads(reply.read())["choices"]


@works("AsyncOpenAI: 8 chats at once, one stream")
def asynchronous(target):
    async def ask():
        async with openai.AsyncOpenAI(
            base_url=f"{target.url}/v1", api_key=target.keys["main"], max_retries=0
        ) as client:
            fields = {"model": target.model, "messages": CHAT, "max_tokens": 24}
            made = [client.chat.completions.create(seed=seed, **fields) for seed in range(8)]
            texts = [reply.choices[0].message.content for reply in await asyncio.gather(*made)]
            chunks = [chunk async for chunk in await client.chat.completions.create(seed=3, stream=True, **fields)]
            return texts, text_of(chunks)

    texts, streamed = asyncio.run(ask())
    assert streamed == texts[3]
    assert texts == [chat(target, seed=seed, max_tokens=24).choices[0].message.content for seed in range(8)]


LONG = {"max_tokens": 400, "extra_body": {"structured_outputs": {"regex": "[a-z ]{1500,}"}}}


@works("a stream that is closed in its middle")
def cancelled(target):
    stream = chat(target, stream=True, **LONG)
    for _, _ in zip(range(4), stream, strict=False):
        pass
    stream.close()
    target.settle()


@works("a timeout of the client")
def timeout(target):
    try:
        chat(target, timeout=0.05, **LONG)
    except openai.APITimeoutError:
        target.settle()
    else:
        raise AssertionError("answered within 50 ms")


def other(target: Target, key: str) -> openai.OpenAI:
    return target.client.with_options(api_key=key)


for name, expected, function in [
    ("wrong key", "401 invalid_api_key", lambda t: other(t, "sk-wrong").models.list()),
    (
        "wrong key, chat",
        "401 invalid_api_key",
        lambda t: other(t, "sk-wrong").chat.completions.create(model=t.model, messages=CHAT),
    ),
    (
        "key without the scope `generate`",
        "403 insufficient_scope",
        lambda t: other(t, t.keys["metrics"]).completions.create(model=t.model, prompt="x"),
    ),
]:
    refused(name, expected, function)
refused("wrong model, chat", "404 model_not_found", lambda t: chat(t, model="gpt-4o"))
refused("wrong model, completion", "404 model_not_found", lambda t: complete(t, model="gpt-4o"))
refused("wrong model, response", "404 model_not_found", lambda t: respond(t, model="gpt-4o"))


def flood(target: Target) -> None:
    client = other(target, target.keys["slow"])
    for _ in range(5):
        client.completions.create(model=target.model, prompt="x", max_tokens=1)


refused("over the limit of the key, no retries", "429 rate_limit_exceeded", flood)


@works("over the limit of the key, two retries of the client")
def retried(target):
    client = other(target, target.keys["slow"]).with_options(max_retries=2)
    for _ in range(3):
        client.completions.create(model=target.model, prompt="x", max_tokens=1)


# --- what is not offered ---

file = ("a.jsonl", b"{}")
for name, function in [
    ("embeddings.create", lambda c, m: c.embeddings.create(model=m, input="x")),
    ("images.generate", lambda c, m: c.images.generate(model=m, prompt="x")),
    ("images.edit", lambda c, m: c.images.edit(model=m, prompt="x", image=file)),
    ("audio.speech.create", lambda c, m: c.audio.speech.create(model=m, input="x", voice="alloy")),
    ("audio.transcriptions.create", lambda c, m: c.audio.transcriptions.create(model=m, file=file)),
    ("audio.translations.create", lambda c, m: c.audio.translations.create(model=m, file=file)),
    ("files.create", lambda c, m: c.files.create(file=file, purpose="batch")),
    ("files.list", lambda c, m: c.files.list()),
    ("uploads.create", lambda c, m: c.uploads.create(bytes=1, filename="a", mime_type="text/plain", purpose="batch")),
    (
        "batches.create",
        lambda c, m: c.batches.create(completion_window="24h", endpoint="/v1/responses", input_file_id="f"),
    ),
    ("batches.list", lambda c, m: c.batches.list()),
    ("fine_tuning.jobs.create", lambda c, m: c.fine_tuning.jobs.create(model=m, training_file="f")),
    ("moderations.create", lambda c, m: c.moderations.create(input="x")),
    ("vector_stores.create", lambda c, m: c.vector_stores.create()),
    ("evals.list", lambda c, m: c.evals.list()),
    ("containers.create", lambda c, m: c.containers.create(name="x")),
    ("conversations.create", lambda c, m: c.conversations.create()),
    ("videos.create", lambda c, m: c.videos.create(prompt="x")),
    ("realtime.client_secrets.create", lambda c, m: c.realtime.client_secrets.create()),
    ("beta.assistants.create", lambda c, m: c.beta.assistants.create(model=m)),
    ("beta.threads.create", lambda c, m: c.beta.threads.create()),
    ("skills.list", lambda c, m: c.skills.list()),
]:
    refused(name, NO_ENDPOINT, lambda t, function=function: function(t.client, t.model))
