"""Rows about what comes back: ends, stops, choices, seeds, log-probabilities, streams."""

import json
import re
from typing import Any

from rows import (
    COLOUR,
    NUMBER,
    WORD,
    M,
    bias,
    chat,
    completion,
    listed,
    part,
    record,
    row,
    schema,
)
from servers import Exchange, Server
from verdicts import (
    BROKEN,
    CANNOT,
    CUT_OFF,
    WORKS,
    Verdict,
    choices,
    finish,
    first_text,
    is_valid,
    judged,
    matches,
    quoted,
    text_of,
    unanswered,
    valid,
)

part("What comes back")

LIST = listed({"type": "string", "minLength": 1, "maxLength": 30}, minItems=1)


def ended(server: Server, exchange: Exchange, value: Any) -> Verdict:
    """Whether a document is whole, and if not whether the reply says so."""
    if verdict := unanswered(exchange):
        return verdict
    holds, note = is_valid(value, first_text(exchange))
    says = f"finish_reason `{finish(exchange)}`"
    if checks := re.findall(r'"(?:status|all_satisfied|verdict)":\s*("?\w+"?)', exchange.reply):
        says += f", validation {checks[0]}"
    if holds:
        return Verdict(WORKS, f"whole within max_tokens, {says}: {note}")
    return Verdict(CUT_OFF if holds is None and finish(exchange) == "length" else BROKEN, f"{says}: {note}")


@row("a list that would go on, `max_tokens` 24: is it closed?")
def closes_in_budget(server):
    prompt = json.dumps([f"the number {number}" for number in range(40)])[:-1] + ", "
    return ended(
        server,
        completion(
            server, "Here is a list:\n" + prompt + "\nHere is the list again:\n", 24, **schema(LIST)[server.dialect]
        ),
        LIST,
    )


@row("a document that cannot fit, `max_tokens` 4: is it said?")
def says_truncated(server):
    return ended(server, completion(server, '{"word": "abc"}\n' * 4, 4, **schema(WORD)[server.dialect]), WORD)


@row("whitespace that the model is pushed to (`logit_bias` +50 on blanks and line breaks)")
def whitespace(server):
    fields = {**schema(NUMBER)[server.dialect], "logit_bias": bias(server, [" ", "\n", "  ", "\n\n", "\t"], 50.0)}
    exchange = completion(server, '{"a": 100}\n' * 4, 100, **fields)
    verdict = judged(exchange, valid(NUMBER))
    blanks = sum(char.isspace() for char in first_text(exchange))
    verdict.note = f"{blanks} blanks in {len(first_text(exchange))} characters; {verdict.note}"
    return verdict


@row("`stop` that begins and ends inside tokens")
def stop_across_tokens(server):
    field = "stop_seqs" if server.dialect == M else "stop"
    exchange = completion(server, "one two three four five\n" * 8 + "one two", 16, **{field: ["ee fo"]})
    return judged(exchange, matches(" thr"))


@row("`n: 3` under a schema, temperature 1")
def three_choices(server):
    value = record(word={"type": "string", "pattern": "^[a-z]{4,8}$"})
    field = "n_choices" if server.dialect == M else "n"
    exchange = completion(
        server, "A word as JSON: ", 32, **schema(value)[server.dialect], **{field: 3, "temperature": 1.0}
    )
    if verdict := unanswered(exchange):
        return verdict
    texts = [text_of(choice) for choice in choices(exchange)]
    kept = [text for text in texts if is_valid(value, text)[0]]
    note = f"{len(kept)} of {len(texts)} choices valid: {quoted(', '.join(texts), 100)}"
    return Verdict(WORKS if len(kept) == len(texts) == 3 else BROKEN, note)


@row("`seed`: the same again, another otherwise, temperature 1")
def seeds(server):
    if server.dialect == M:
        return Verdict(CANNOT, "the bindings' requests have no `seed`, and on a CPU their Runner refuses one")
    texts = []
    for seed in (7, 7, 8):
        exchange = completion(server, "Once upon a time", 24, temperature=1.0, seed=seed)
        if verdict := unanswered(exchange):
            return verdict
        texts.append(first_text(exchange))
    same, differs = texts[0] == texts[1], texts[0] != texts[2]
    return Verdict(
        WORKS if same and differs else BROKEN, f"again {'the same' if same else 'another'}: {quoted(texts[0], 40)}"
    )


@row("`logprobs` under a constraint: numbers that JSON has, none of them minus infinity")
def log_probabilities(server):
    if server.dialect == M:
        exchange = chat(server, "Say red.", 8, **COLOUR[M], logprobs=True, top_logprobs=5)
    else:
        exchange = completion(server, "red red red ", 8, **COLOUR[server.dialect], logprobs=5)
    if verdict := unanswered(exchange):
        return verdict

    def refuse(name: str):
        raise ValueError(f"{name} is among them")

    try:
        value = json.loads(exchange.reply, parse_constant=refuse)
    except ValueError as error:
        return Verdict(BROKEN, str(error))
    found = value["choices"][0].get("logprobs")
    numbers = [float(number) for number in re.findall(r":\s*(-\d[\d.e+-]*)", json.dumps(found))]
    if not found or not numbers:
        return Verdict(BROKEN, f"no log-probabilities: {json.dumps(found)[:80]}")
    lowest = min(numbers)
    return Verdict(BROKEN if lowest < -1e30 else WORKS, f"{len(numbers)} numbers, the lowest {lowest:.4g}")


@row("a stream with its usage (`stream_options`)", http=True)
def stream_usage(server):
    body = {"prompt": "The sea is", "max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    exchange = server.ask("/v1/completions", body)
    if verdict := unanswered(exchange):
        return verdict
    events = [line[6:] for line in exchange.reply.splitlines() if line.startswith("data: ")]
    usages = [json.loads(event).get("usage") for event in events if event != "[DONE]"]
    usages = [usage for usage in usages if usage]
    done = events[-1:] == ["[DONE]"]
    return Verdict(WORKS if usages and done else BROKEN, f"{len(events)} events, usage {json.dumps(usages[-1:])[:90]}")
