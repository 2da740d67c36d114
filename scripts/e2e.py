#!/usr/bin/env python3
"""Runs ananke-serve and talks to it as clients do: the real openai client, plain HTTP, bare sockets, and bash.

usage: e2e.py [--server PATH] [--model PATH] [--only WORD]

The server is target/release/ananke-serve (or $ANANKE_SERVE); without --model it runs the embedded model.
Needs the packages `openai` and `prometheus-client`; scripts/check.sh makes an environment that has them.
Every check is a claim; the last line counts how many passed and failed.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.parse
import urllib.request

import openai
from prometheus_client.parser import text_string_to_metric_families

ROOT = pathlib.Path(__file__).resolve().parent.parent
SECONDS_TO_START = 120
SECONDS_TO_SETTLE = 60
SECONDS_PER_REQUEST = 300
NUM_STREAMS = 32
MAX_BODY_BYTES = 1 << 20

ORDER_SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 9999},
        "status": {"enum": ["open", "paid", "sent"]},
        "items": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3},
    },
    "required": ["id", "status", "items"],
    "additionalProperties": False,
}

CHECKS = []


def check(function):
    """Registers a claim about the server."""
    CHECKS.append(function)
    return function


class Server:
    """A running ananke-serve; use as a context."""

    def __init__(self, binary, model, flags=(), api_key="none"):
        self.api_key = api_key
        self.command = [binary, "--port", "0", "--max-body", str(MAX_BODY_BYTES), "--offline"]
        if model:
            self.command += ["--model", model]
        self.command += flags

    def __enter__(self):
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        watchdog = time.monotonic() + SECONDS_TO_START
        self.printed = []
        for line in self.process.stdout:
            self.printed.append(line.rstrip("\n"))
            if line.startswith("curl ") or time.monotonic() > watchdog:
                break
        address = [line for line in self.printed if line.startswith("listening on ")]
        if not address:
            self.process.kill()
            self.log.seek(0)
            sys.exit(f"the server did not start: {self.printed}\n{self.log.read()}")
        self.url = address[0].removeprefix("listening on ")
        parts = urllib.parse.urlsplit(self.url)
        self.host, self.port = parts.hostname, parts.port
        self.client = openai.OpenAI(
            base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0, timeout=SECONDS_PER_REQUEST
        )
        self.model = self.client.models.list().data[0].id
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()

    def complete(self, prompt="def add(a, b):\n", **fields):
        fields.setdefault("max_tokens", 24)
        return self.client.completions.create(model=self.model, prompt=prompt, **fields)

    def stream(self, prompt="def add(a, b):\n", **fields):
        """The text of choice 0, collected from a stream."""
        chunks = self.complete(prompt, stream=True, **fields)
        return "".join(choice.text for chunk in chunks for choice in chunk.choices)

    def http(self, method, path, body=None, headers=None):
        """Status and parsed JSON of a plain request."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=SECONDS_PER_REQUEST)
        if headers is None:
            headers = {"content-type": "application/json"}
        connection.request(method, path, body=body, headers=headers)
        reply = connection.getresponse()
        text = reply.read().decode()
        connection.close()
        return reply.status, json.loads(text)

    def post(self, path, value):
        return self.http("POST", path, json.dumps(value).encode())

    def health(self):
        return self.http("GET", "/health")[1]

    def settle(self):
        """Waits until no sequence holds a block."""
        deadline = time.monotonic() + SECONDS_TO_SETTLE
        while time.monotonic() < deadline:
            health = self.health()
            if health["blocks_free"] == health["blocks_total"] and not health["running"] and not health["waiting"]:
                return health
            time.sleep(0.05)
        raise AssertionError(f"blocks did not come home in {SECONDS_TO_SETTLE} s: {health}")


@check
def the_server_says_what_runs_and_where(server):
    assert any(server.model in line for line in server.printed), server.printed
    assert server.health()["status"] == "ok"
    assert server.http("GET", "/models")[1]["data"][0]["id"] == server.model
    assert server.client.models.retrieve(server.model).id == server.model


@check
def the_printed_curl_line_works_when_pasted(server):
    line = next(line for line in server.printed if line.startswith("curl "))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=SECONDS_PER_REQUEST, check=True)
    choice = json.loads(done.stdout)["choices"][0]
    assert choice["finish_reason"] == "stop", choice
    user = json.loads(choice["text"])
    assert set(user) == {"name", "age"} and 0 <= user["age"] <= 120, user
    assert choice["validation"]["all_satisfied"] is True, choice


@check
def a_completion_has_text_and_usage(server):
    reply = server.complete(seed=1)
    assert reply.choices[0].finish_reason in ("stop", "length")
    assert reply.usage.completion_tokens > 0 and reply.usage.prompt_tokens > 0
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.model == server.model and reply.id.startswith("cmpl-")


@check
def a_stream_has_the_text_of_the_whole_reply(server):
    for fields in [{}, {"temperature": 0}, {"stop": ["\n"]}, {"echo": True}]:
        whole = server.complete(seed=5, **fields).choices[0].text
        assert server.stream(seed=5, **fields) == whole, fields


@check
def a_stream_reports_usage_when_asked(server):
    chunks = list(server.complete(stream=True, stream_options={"include_usage": True}, seed=2))
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert chunks[-2].choices[0].finish_reason is not None


@check
def n_choices_differ_and_come_again_with_the_seed(server):
    first, second = (
        [choice.text for choice in server.complete(n=3, seed=9, temperature=1.0, max_tokens=32).choices]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 3, first


@check
def several_prompts_are_answered_as_if_each_were_alone(server):
    both = server.complete(["def a(", "class B"], seed=4).choices
    alone = [server.complete(prompt, seed=4).choices[0].text for prompt in ("def a(", "class B")]
    assert [choice.index for choice in both] == [0, 1]
    assert [choice.text for choice in both] == alone


@check
def a_hole_is_filled_between_prompt_and_suffix(server):
    reply = server.complete("def add(a, b):\n    ", suffix="\n\nprint(add(1, 2))\n", seed=3, temperature=0, max_tokens=48)
    fim = reply.provenance[0]["fim"]
    assert reply.usage.prompt_tokens == fim["prefix_tokens"] + fim["suffix_tokens"] + 4, (reply.usage, fim)
    assert reply.choices[0].finish_reason in ("stop", "length")
    document = {"forbidden_text": [{"text": "eval(", "scope": "document"}]}
    reply = server.complete("x = ev", suffix="al(1)", seed=3, max_tokens=16, extra_body={"constraint_ir": document})
    choice = reply.choices[0]
    assert choice.finish_reason != "stop" or "eval(" not in f"x = ev{choice.text}al(1)", choice
    streamed = server.stream("x = ev", suffix="al(1)", seed=3, max_tokens=16, extra_body={"constraint_ir": document})
    assert streamed == choice.text


WEATHER_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}},
                "required": ["city", "unit"],
                "additionalProperties": False,
            },
        },
    }
]


def chat(server, **fields):
    messages = [{"role": "user", "content": "What is the weather in Rome?"}]
    fields = {"model": server.model, "messages": messages, "max_tokens": 96, "seed": 7, **fields}
    return server.client.chat.completions.create(**fields)


@check
def a_chat_is_answered_whole_and_as_a_stream(server):
    whole = chat(server)
    assert whole.choices[0].message.role == "assistant" and whole.usage.completion_tokens > 0, whole
    chunks = list(chat(server, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


@check
def a_chat_calls_tools_and_takes_their_results(server):
    fields = {"tools": WEATHER_TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    answer = chat(server, **fields).choices[0]
    assert answer.finish_reason == "tool_calls" and len(answer.message.tool_calls) == 1, answer
    call = answer.message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather" and arguments["unit"] in ("C", "F"), call
    pieces = [chunk.choices[0].delta.tool_calls for chunk in chat(server, stream=True, **fields) if chunk.choices]
    pieces = [piece for calls in pieces for piece in calls or []]
    assert pieces[0].id and pieces[0].function.name == "weather"
    assert "".join(piece.function.arguments for piece in pieces) == call.function.arguments
    messages = [
        {"role": "user", "content": "What is the weather in Rome?"},
        answer.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "17 degrees"},
    ]
    after = chat(server, messages=messages, tools=WEATHER_TOOLS, tool_choice="none", max_tokens=8).choices[0]
    assert after.message.tool_calls is None and after.message.content is not None, after


@check
def a_chat_answers_in_a_json_schema(server):
    wanted = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": ORDER_SCHEMA}}
    choice = chat(server, response_format=wanted, max_tokens=120).choices[0]
    assert choice.finish_reason == "stop" and set(json.loads(choice.message.content)) == {"id", "status", "items"}


def respond(server, **fields):
    fields = {"model": server.model, "input": "What is the weather in Rome?", "max_output_tokens": 96, **fields}
    return server.client.responses.create(**fields, extra_body={"seed": 7})


RESPONSE_TOOLS = [{"type": "function", "strict": True, **WEATHER_TOOLS[0]["function"]}]


@check
def a_response_is_answered_whole_and_as_events(server):
    whole = respond(server, instructions="Be brief.", metadata={"a": "b"}, max_output_tokens=24)
    assert whole.object == "response" and whole.status in ("completed", "incomplete"), whole
    assert whole.metadata == {"a": "b"} and whole.instructions == "Be brief.", whole
    assert whole.output[0].role == "assistant" and whole.usage.output_tokens > 0, whole
    events = list(respond(server, instructions="Be brief.", max_output_tokens=24, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [type(event).__name__ for event in events[:2]] == ["ResponseCreatedEvent", "ResponseInProgressEvent"]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    last = events[-1]
    assert last.type == f"response.{whole.status}" and last.response.output_text == text, last
    assert last.response.usage == whole.usage


@check
def the_client_builds_a_streamed_response_itself(server):
    fields = {"model": server.model, "input": "Hello", "max_output_tokens": 12, "extra_body": {"seed": 7}}
    with server.client.responses.stream(**fields) as stream:
        kinds = [event.type for event in stream]
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"), kinds
    if kinds[-1] == "response.completed":
        assert stream.get_final_response().output_text is not None


@check
def a_response_calls_functions_and_takes_their_results(server):
    fields = {"tools": RESPONSE_TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    answer = respond(server, **fields)
    call = answer.output[0]
    assert call.type == "function_call" and call.name == "weather" and call.status == "completed", answer
    assert json.loads(call.arguments)["unit"] in ("C", "F"), call
    events = list(respond(server, stream=True, **fields))
    deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(deltas) == call.arguments
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert done.arguments == call.arguments and done.name == "weather", done
    conversation = [
        {"role": "user", "content": "What is the weather in Rome?"},
        *[item.model_dump(exclude_none=True) for item in answer.output],
        {"type": "function_call_output", "call_id": call.call_id, "output": "17 degrees"},
    ]
    after = respond(server, input=conversation, tools=RESPONSE_TOOLS, tool_choice="none", max_output_tokens=8)
    assert after.output[0].type == "message", after


@check
def a_response_keeps_to_a_schema_and_names_what_it_cannot_do(server):
    wanted = {"format": {"type": "json_schema", "name": "order", "strict": True, "schema": ORDER_SCHEMA}}
    answer = respond(server, text=wanted, max_output_tokens=120)
    assert answer.status == "completed" and set(json.loads(answer.output_text)) == {"id", "status", "items"}, answer
    for fields, param in [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ]:
        try:
            respond(server, **fields)
        except openai.BadRequestError as error:
            assert error.code == "unsupported_parameter" and error.param == param, error
        else:
            raise AssertionError(f"{fields} was accepted")


@check
def text_becomes_tokens_and_text_again(server):
    text = "def add(a, b):\n    return a + b  # \u4e16\u754c\n"
    status, reply = server.post("/v1/tokenize", {"prompt": text, "return_token_bytes": True})
    assert status == 200 and reply["count"] == len(reply["tokens"]) == server.complete(text, max_tokens=1).usage.prompt_tokens
    assert bytes(byte for token in reply["token_bytes"] for byte in token).decode() == text, reply
    status, back = server.post("/detokenize", {"tokens": reply["tokens"]})
    assert status == 200 and text in back["prompt"], back


@check
def constraints_are_extracted_compiled_and_validated(server):
    source = {"source": "interface Point { x: number; label: 'a' | 'b' }", "file": "point.ts"}
    status, mined = server.post("/v1/constraints/extract", source)
    assert status == 200 and any(one["name"] == "Point" for one in mined["constraints"]), mined
    status, compiled = server.post("/v1/constraints/compile", {"constraints": mined, "type": "Point"})
    assert status == 200 and compiled["satisfiability"] == "satisfiable", compiled
    choice = server.complete("point = ", seed=1, max_tokens=120, extra_body={"constraint_ir": compiled["ir"]}).choices[0]
    texts = [choice.text, '{"x": 1, "label": "c"}']
    status, judged = server.post("/v1/constraints/validate", {"texts": texts, "ir": compiled["ir"]})
    assert status == 200 and judged["results"][1]["all_satisfied"] is False, judged
    if choice.finish_reason == "stop":
        assert judged["results"][0]["all_satisfied"] is True, (choice, judged)


@check
def a_record_is_kept_and_run_again(server):
    ananke = pathlib.Path(server.command[0]).with_name("ananke")
    schema = {"response_format": {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER_SCHEMA}}}
    reply = server.complete("order = ", max_tokens=64, temperature=0.9, extra_body=schema)
    status, record = server.http("GET", f"/v1/provenance/{reply.id}")
    assert status == 200 and record["requests"][0]["weights_digest"], record
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "prompt").write_text("order = ")
        command = [ananke, "replay", folder / "record", "--prompt", folder / "prompt"]
        if "--model" in server.command:
            command += ["--model", server.command[server.command.index("--model") + 1]]
        for seed, code in [(record["requests"][0]["seed"], 0), (12345, 3)]:
            record["requests"][0]["seed"] = seed
            (folder / "record").write_text(json.dumps(record))
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_PER_REQUEST)
            assert done.returncode == code and (code or done.stdout == "identical\n"), done
    assert server.http("GET", "/v1/provenance/cmpl-0000000000000000")[0] == 404


@check
def a_stop_string_ends_the_text_before_itself(server):
    free = server.complete(seed=3, temperature=0, max_tokens=48).choices[0].text
    assert len(free) > 8, free
    stop = free[5:8]
    cut = server.complete(seed=3, temperature=0, max_tokens=48, stop=stop).choices[0]
    assert cut.finish_reason == "stop" and cut.text == free[: free.index(stop)], (free, stop, cut.text)


@check
def echo_puts_the_prompt_first(server):
    reply = server.complete("import os\n", echo=True, seed=1)
    assert reply.choices[0].text.startswith("import os\n")


@check
def logprobs_come_with_each_token(server):
    choice = server.complete(seed=1, max_tokens=8, logprobs=3).choices[0]
    logprobs = choice.logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs)
    assert len(logprobs.tokens) == len(logprobs.text_offset) > 0
    assert all(value <= 0 for value in logprobs.token_logprobs)
    assert all(3 <= len(top) <= 4 for top in logprobs.top_logprobs) or "\ufffd" in choice.text


@check
def an_echoed_prompt_has_logprobs(server):
    prompt = "def add(a, b):\n    return a +"
    scored = server.complete(prompt, echo=True, max_tokens=0, logprobs=2).choices[0]
    assert scored.text == prompt and scored.finish_reason == "length", scored
    first, *rest = scored.logprobs.token_logprobs
    assert first is None and len(rest) > 3 and all(value <= 0 for value in rest), scored.logprobs
    answered = server.complete(prompt, echo=True, seed=1, max_tokens=8, logprobs=2).choices[0].logprobs
    assert answered.token_logprobs[: len(rest) + 1] == [None, *rest]


@check
def a_json_schema_holds_for_every_seed(server):
    schema = {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER_SCHEMA, "strict": True}}
    for seed in range(8):
        reply = server.complete("order = ", seed=seed, max_tokens=256, extra_body={"response_format": schema})
        choice = reply.choices[0]
        if choice.finish_reason == "length":
            assert choice.validation["all_satisfied"] is False, choice
            continue
        order = json.loads(choice.text)
        assert list(order) == ["id", "status", "items"] and 1 <= order["id"] <= 9999, order
        assert order["status"] in ("open", "paid", "sent") and len(order["items"]) <= 3, order
        assert all(isinstance(item, str) and len(item) <= 8 for item in order["items"]), order
        assert choice.validation["all_satisfied"] is True, choice
        assert reply.provenance[0]["seed"] == seed and reply.provenance[0]["constraints"], reply


@check
def four_parts_at_once_all_hold(server):
    characters = r'[A-Za-z0-9_"{}\[\]:, \n]*'
    body = {
        "response_format": {"type": "json_schema", "json_schema": {"name": "order", "schema": ORDER_SCHEMA}},
        "structured_outputs": {"regex": characters},
        "constraint_ir": {
            "forbidden_text": [{"text": "pa"}, {"text": "an"}, {"text": "er", "ignore_case": True}],
            "token_masks": {"forbidden_tokens": list(range(300, 400))},
        },
    }
    num_finished = 0
    for seed in range(8):
        choice = server.complete("order = ", seed=seed, max_tokens=256, extra_body=body).choices[0]
        assert re.fullmatch(characters, choice.text), choice.text
        assert not re.search("pa|an|(?i:er)", choice.text), choice.text
        assert not choice.validation["violated"], choice
        if choice.finish_reason == "stop":
            num_finished += 1
            order = json.loads(choice.text)
            assert order["status"] in ("open", "sent") and 1 <= order["id"] <= 9999, order
            assert choice.validation["all_satisfied"] is True, choice
    assert num_finished >= 4, num_finished


@check
def choices_and_grammars_hold(server):
    for fields, accepts in [
        ({"choice": ["yes", "no", "a.b*"]}, r"yes|no|a\.b\*"),
        ({"grammar": 'root ::= "a" [0-9] "b"'}, r"a[0-9]b"),
        ({"grammar": 'start: "x" /[0-9]{2}/'}, r"x[0-9]{2}"),
        ({"json_object": True}, r"(?s)\{.*"),
    ]:
        text = server.complete(seed=1, max_tokens=200, extra_body={"structured_outputs": fields}).choices[0].text
        assert re.fullmatch(accepts, text), (fields, text)


@check
def a_type_of_the_context_binds_the_answer(server):
    context = {
        "source": "interface Point { x: number; y: number; label?: 'a' | 'b' }",
        "language": "typescript",
        "type": "Point",
    }
    choice = server.complete("point = ", seed=1, max_tokens=200, extra_body={"context": context}).choices[0]
    if choice.finish_reason == "stop":
        point = json.loads(choice.text)
        assert {"x", "y"} <= set(point) <= {"x", "y", "label"}, point


@check
def generate_answers_in_its_own_shape(server):
    constraints = {"regex_patterns": [{"any_of": [{"pattern": "[a-z ]{1,40}"}], "match": "full"}]}
    request = {"prompt": "def f", "constraints": constraints, "max_tokens": 16, "temperature": 0.7, "seed": 1}
    status, reply = server.post("/generate", request)
    assert status == 200, reply
    assert re.fullmatch("[a-z ]{1,40}", reply["generated_text"]) and reply["tokens_generated"] <= 16, reply
    assert set(reply["stats"]) >= {
        "total_time_ms",
        "time_per_token_us",
        "constraint_checks",
        "avg_constraint_check_us",
    }, reply
    assert reply["provenance"]["seed"] == 1 and reply["model"] == server.model


@check
def concurrent_streams_each_equal_their_solo_run(server):
    def fields(index):
        body = {}
        if index % 2:
            body = {"response_format": {"type": "json_schema", "json_schema": {"name": "o", "schema": ORDER_SCHEMA}}}
        return {"prompt": f"# number {index}\nvalue = ", "seed": index, "max_tokens": 48, "extra_body": body}

    solo = [server.stream(**fields(index)) for index in range(NUM_STREAMS)]
    with concurrent.futures.ThreadPoolExecutor(NUM_STREAMS) as pool:
        together = list(pool.map(lambda index: server.stream(**fields(index)), range(NUM_STREAMS)))
    differing = [index for index in range(NUM_STREAMS) if solo[index] != together[index]]
    assert not differing, [(solo[index], together[index]) for index in differing[:2]]
    server.settle()


@check
def a_client_killed_mid_stream_returns_its_blocks(server):
    server.settle()
    body = {
        "prompt": "x",
        "max_tokens": 1500,
        "n": 4,
        "stream": True,
        "constraint_ir": {"regex_patterns": [{"any_of": [{"pattern": "[a-z ]{3000,}"}], "match": "full"}]},
    }
    text = json.dumps(body)
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
    connection = socket.create_connection((server.host, server.port), timeout=SECONDS_PER_REQUEST)
    connection.sendall((head + text).encode())
    received = b""
    while received.count(b"data: ") < 8:
        piece = connection.recv(4096)
        assert piece, received
        received += piece
    busy = server.health()
    assert busy["running"] > 0 and busy["blocks_free"] < busy["blocks_total"], busy
    # An RST instead of a FIN, as of a killed process with unread data.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    server.settle()


@check
def malformed_requests_each_have_their_own_error(server):
    def completion(**fields):
        return json.dumps({"prompt": "x", "max_tokens": 4, **fields}).encode()

    def schema(value):
        return {"type": "json_schema", "json_schema": {"name": "s", "schema": value}}

    at = "response_format.json_schema.schema"
    for body, status, code, param, words in [
        (b'{"prompt": "x",\n "n": oops}', 400, "invalid_json", None, "line 2"),
        (b"", 400, "invalid_json", None, "line 1"),
        (b"\xff\xfe", 400, "invalid_json", None, ""),
        (b"[" * 5000, 400, "invalid_json", None, ""),
        (b'{"prompt": "x", "temperature": NaN}', 400, "invalid_json", None, "line 1"),
        (completion(foo=1), 400, "unknown_parameter", "foo", "foo"),
        (completion(guided_json=5), 422, "invalid_schema", "guided_json", "object"),
        (completion(guided_regex="("), 422, "invalid_regex", "guided_regex", "byte "),
        (completion(prompt=[1, 2], suffix="x"), 400, "unsupported_parameter", "prompt", "suffix"),
        (completion(on_unparsable_context="refuse"), 400, "invalid_value", "on_unparsable_context", "suffix"),
        (completion(max_tokens=-1), 400, "invalid_value", "max_tokens", "-1"),
        (completion(max_tokens="x"), 400, "invalid_type", "max_tokens", ""),
        (completion(stop=""), 400, "invalid_text", "stop", ""),
        (completion(stop=["a"] * 17), 400, "invalid_text", "stop", "17"),
        (completion(temperature=-1), 400, "out_of_range", "temperature", ""),
        (completion(temperature=1e300), 400, "out_of_range", "temperature", ""),
        (completion(n=10**9), 400, "out_of_range", "n", ""),
        (completion(model="other"), 404, "model_not_found", "model", "other"),
        (completion(prompt="word " * 20000), 400, "context_length_exceeded", "prompt", ""),
        (completion(prompt=[10**9]), 400, "invalid_prompt_token", "prompt", ""),
        (b'{"prompt": "' + b"x" * MAX_BODY_BYTES + b'"}', 413, "body_too_large", None, ""),
        (completion(response_format=schema(5)), 422, "invalid_schema", at, ""),
        (completion(response_format=schema({"type": "array", "uniqueItems": True})), 422, "unsupported_schema", at, ""),
        (completion(response_format=schema(False)), 422, "unsatisfiable", at, ""),
        (
            completion(structured_outputs={"grammar": 'start: "a"\nb: (('}),
            422,
            "invalid_grammar",
            "structured_outputs.grammar",
            "line ",
        ),
        (completion(structured_outputs={"regex": "a(b"}), 422, "invalid_regex", "structured_outputs.regex", "byte "),
        (
            completion(response_format={"type": "json_object"}, structured_outputs={"regex": "[a-z]+"}),
            422,
            "unsatisfiable",
            None,
            "response_format",
        ),
        (completion(context={"source": "x = 1", "language": "python"}), 422, "nothing_mined", "context", ""),
        (completion(constraint_ir={"json_shcema": {}}), 400, "unknown_parameter", "constraint_ir.json_shcema", ""),
    ]:
        got, reply = server.http("POST", "/v1/completions", body)
        error = reply["error"]
        assert (got, error["code"]) == (status, code), (body[:200], got, reply)
        assert param is None or error["param"] == param, (body[:200], reply)
        assert error["type"] == "invalid_request_error", (body[:200], reply)
        assert words in error["message"], (body[:200], reply)
        assert server.health()["status"] == "ok"
    assert server.http("GET", "/v1/completions")[0] == 405
    for path in ("/v1/embeddings", "/v1/audio/speech", "/v1/files", "/v1/no-such-thing"):
        status, reply = server.http("POST", path, b"{}")
        assert (status, reply["error"]["code"]) == (404, "unsupported_endpoint"), reply
    assert server.http("POST", "/generate", b"{}", {"content-type": "text/plain"})[0] == 415
    server.complete(seed=1)


@check
def the_openai_client_reads_our_errors(server):
    for fields, expected in [
        ({"extra_body": {"no_such_field": 1}}, openai.BadRequestError),
        ({"extra_body": {"structured_outputs": {"regex": "("}}}, openai.UnprocessableEntityError),
    ]:
        try:
            server.complete(**fields)
        except expected as error:
            assert error.code and error.param, error
        else:
            raise AssertionError(f"{fields} was accepted")


@check
def prometheus_reads_the_metrics(server):
    before = generated_tokens(server)
    usage = server.complete(max_tokens=12, seed=1).usage
    assert generated_tokens(server) - before == usage.completion_tokens
    names = {family.name for family in metric_families(server)}
    for name in ("time_to_first_token_seconds", "mask_seconds", "kv_cache_usage_ratio", "http_requests", "dead_ends"):
        assert f"ananke_{name}" in names, names
    assert server.http("GET", "/ready")[0] == 200


def metric_families(server):
    with urllib.request.urlopen(f"{server.url}/metrics") as reply:
        return list(text_string_to_metric_families(reply.read().decode()))


def generated_tokens(server):
    samples = [sample for family in metric_families(server) for sample in family.samples]
    return next(sample.value for sample in samples if sample.name == "ananke_generation_tokens_total")


@check
def keys_open_a_server_and_sighup_reads_them_again(server):
    ananke = pathlib.Path(server.command[0]).with_name("ananke")

    def new_key(name, file):
        made = subprocess.run(
            [ananke, "keys", "new", "--name", name, "--scopes", "generate"], capture_output=True, text=True, check=True
        )
        file.write(made.stdout)
        file.flush()
        return re.search(r"ananke_[0-9a-f]{64}", made.stderr)[0]

    refused = subprocess.run([*server.command, "--host", "0.0.0.0"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "--allow-open" in refused.stderr, refused
    with tempfile.NamedTemporaryFile("a") as file:
        first = new_key("first", file)
        with Server(server.command[0], None, ["--api-keys", file.name], first) as guarded:
            assert guarded.complete(max_tokens=2).usage.completion_tokens <= 2
            second = guarded.client.with_options(api_key=new_key("second", file))
            try:
                second.models.list()
                raise AssertionError("the second key was let in before the file was read again")
            except openai.AuthenticationError:
                pass
            guarded.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + SECONDS_TO_SETTLE
            while guarded.http("GET", "/models", headers={"x-api-key": second.api_key})[0] != 200:
                assert time.monotonic() < deadline, "the second key was not let in"
                time.sleep(0.05)
            assert second.models.list().data
            guarded.log.seek(0)
            log = guarded.log.read()
            assert "key=" in log and first not in log and second.api_key not in log, log


@check
def blocks_are_all_home_at_the_end(server):
    health = server.settle()
    assert health["restarts"] == 0, health


@check
def sigterm_lets_an_open_stream_finish(server):
    chunks = server.complete(stream=True, seed=1, max_tokens=64)
    next(iter(chunks))
    server.process.send_signal(signal.SIGTERM)
    finished = [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1]
    assert finished in ("stop", "length"), finished
    chunks.close()
    server.client.close()
    assert server.process.wait(timeout=SECONDS_TO_SETTLE) == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default=os.environ.get("ANANKE_SERVE", str(ROOT / "target/release/ananke-serve")))
    parser.add_argument("--model", help="a model folder or .gguf file instead of the embedded model")
    parser.add_argument("--only", default="", help="only checks with this in their name")
    args = parser.parse_args()
    num_failed = 0
    checks = [function for function in CHECKS if args.only in function.__name__]
    with Server(args.server, args.model) as server:
        for function in checks:
            start = time.monotonic()
            try:
                function(server)
                outcome = "ok  "
            except Exception:
                num_failed += 1
                outcome = "FAIL"
                traceback.print_exc()
            print(f"{outcome} {function.__name__.replace('_', ' ')} ({time.monotonic() - start:.1f} s)", flush=True)
        if num_failed:
            server.log.seek(0)
            print(server.log.read()[-4000:], file=sys.stderr)
    print(f"{len(checks) - num_failed} passed, {num_failed} failed")
    return num_failed != 0


if __name__ == "__main__":
    sys.exit(main())
