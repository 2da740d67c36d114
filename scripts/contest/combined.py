"""Rows about several constraints at once, forbidden text and soft constraints."""

from rows import (
    COLOUR,
    NUMBER,
    WORD,
    A,
    L,
    M,
    avoiding,
    bias,
    bound,
    chat,
    completion,
    grammar,
    part,
    row,
    schema,
)
from servers import Exchange, Server
from verdicts import (
    BROKEN,
    CANNOT,
    WORKS,
    Verdict,
    both,
    first_text,
    judged,
    matches,
    never,
    quoted,
    unanswered,
    valid,
    without,
)

part("Several constraints at once")

ONE_GRAMMAR = "the bindings have one `grammar` and one `grammar_type`"
FORBIDDEN = {"constraint_ir": {"forbidden_text": [{"text": "password"}]}}


def forbidding(server: Server) -> dict:
    """`password` forbidden, or the nearest that is documented: no token of it, with and without a blank before it."""
    return FORBIDDEN if server.dialect == A else {"logit_bias": bias(server, ["password", " password"], -100.0)}


@row("schema + forbidden text")
def schema_and_forbidden(server: Server) -> Verdict:
    fields = {**schema(WORD)[server.dialect], **forbidding(server)}
    exchange = completion(server, '{"word": "password"}\n' * 6, 40, **fields)
    return judged(exchange, both(valid(WORD), without("password")))


@row("schema + grammar")
def schema_and_grammar(server: Server) -> Verdict:
    if server.dialect == M:
        return Verdict(CANNOT, ONE_GRAMMAR)
    fields = {"json_schema": NUMBER, "grammar": r'root ::= "{\"a\":" [0-9]+ "}"'}
    judge = both(valid(NUMBER), matches(r'\{"a":[0-9]+\}'))
    verdict = judged(completion(server, '{"a": 7}\n' * 6, 16, **fields), judge)
    in_chat = judged(chat(server, 'Write only: {"a": 7}', 16, **fields), judge)
    return Verdict(verdict.kind, f"{verdict.note}; in a chat {in_chat.kind}: {in_chat.note}")


LETTERS = {"any_of": [{"pattern": "[a-z ]{20,40}"}], "match": "full"}
ZEBRA = {"any_of": [{"pattern": "zebra"}], "match": "contains"}
bound(
    "two patterns, both for the whole text",
    "the cat sat on the mat. the cat sat on the mat. ",
    {
        A: {"constraint_ir": {"regex_patterns": [LETTERS, ZEBRA]}},
        # Lark as llguidance reads it can intersect terminals.
        M: {"grammar_type": "lark", "grammar": "start: BOTH\nBOTH: /[a-z ]{20,40}/ & /[a-z ]*zebra[a-z ]*/"},
    },
    both(matches("[a-z ]{20,40}"), matches(".*zebra.*")),
    cannot={L: "GBNF has no intersection, and a request has one `grammar`"},
)
bound(
    "schema + grammar + pattern + forbidden text",
    '{"word": "password"}\n' * 6,
    {
        A: {
            "json_schema": WORD,
            "grammar": r'root ::= "{\"word\": \"" [a-z]+ "\"}"',
            "structured_outputs": {"regex": ".{15,30}"},
            **FORBIDDEN,
        }
    },
    both(valid(WORD), matches(r'\{"word": "[a-z]+"\}'), matches(".{15,30}"), without("password")),
    cannot={L: "see schema + grammar", M: ONE_GRAMMAR},
)


@row("a schema and a grammar that contradict each other (it has to be refused)")
def contradicting_parts(server: Server) -> Verdict:
    if server.dialect == M:
        return Verdict(CANNOT, ONE_GRAMMAR)
    fields = {"json_schema": {"type": "integer"}, "grammar": 'root ::= "x" [a-z]*'}
    return judged(completion(server, "1\n2\n3\n", 8, **fields), never)


part("Forbidden text")


def forbidden(server: Server, temperature: float, seed: int) -> Exchange:
    seeded = {} if server.dialect == M else {"seed": seed}  # the bindings have no seed in a request
    fields = {**forbidding(server), **seeded, "temperature": temperature}
    return completion(server, ("password " * 30).strip(), 40, **fields)


@row("a word that the model wants to write, temperature 0")
def forbidden_greedy(server: Server) -> Verdict:
    return judged(forbidden(server, 0.0, 1), without("password"))


@row("the same, 10 times at temperature 1")
def forbidden_sampled(server: Server) -> Verdict:
    texts = []
    for seed in range(10):
        exchange = forbidden(server, 1.0, seed)
        if verdict := unanswered(exchange):
            return verdict
        texts.append(first_text(exchange))
    leaks = [text for text in texts if "password" in text]
    if leaks:
        return Verdict(BROKEN, f"in {len(leaks)} of {len(texts)} texts: {quoted(leaks[0])}")
    return Verdict(WORKS, f"in none of {len(texts)}: {quoted(texts[0])}")


bound(
    "written out by the client as a grammar of all other texts",
    ("password " * 30).strip(),
    grammar(avoiding("password"), "start: OTHER\nOTHER: /(?s:.*)/ & ~/(?s:.*password.*)/"),
    without("password"),
    40,
)

part("Soft inside hard")


@row("`logit_bias` on one of three choices, and on what is none of them")
def bias_inside_choice(server: Server) -> Verdict:
    fields = {**COLOUR[server.dialect], "logit_bias": bias(server, ["blue", "purple"], 50.0)}
    return judged(completion(server, "red red red red red ", 8, **fields), matches("blue"))


@row("a bias on a text, however it is split")
def soft_text(server: Server) -> Verdict:
    if server.dialect == M:
        return Verdict(CANNOT, "`logit_bias` takes ids")
    soft = {"constraint_ir": {"soft": [{"text": "blue", "bias": 50}]}} if server.dialect == A else {}
    fields = soft or {"logit_bias": [["blue", 50]]}
    exchange = completion(server, "red red red red red ", 8, **COLOUR[server.dialect], **fields)
    return judged(exchange, matches("blue"))
