#!/usr/bin/env python3
"""mistral.rs behind HTTP, by its Python bindings: each path is one of their requests, each body its keyword arguments.

usage: mistralrs_bindings.py MODEL.gguf PORT

The wheel has no server. This is the thinnest cover that lets its engine be asked as a server is, be waited for, and die
alone: nothing is added or checked. What JSON cannot say is written so: the ids of a `logit_bias` as text, a
`tool_choice` as the name of a member of `ToolChoice`. What the bindings raise comes back as 400 with the exception's
name, and as 500 where it is a panic or comes from the engine's tensors.
"""

import enum
import http.server
import json
import pathlib
import sys

import mistralrs


def plain(value):
    """What the bindings return, as JSON has it."""
    if isinstance(value, enum.Enum) or type(value).__name__ == "ToolCallType":
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    names = [name for name in dir(value) if not name.startswith("_") and not callable(getattr(value, name))]
    return {name: plain(getattr(value, name)) for name in names}


def answer(runner, path: str, arguments: dict):
    """The reply to one request.

    # Raises
    Whatever the bindings raise.
    """
    if arguments.get("logit_bias"):
        arguments["logit_bias"] = {int(token): bias for token, bias in arguments["logit_bias"].items()}
    if path == "/completion":
        return plain(runner.send_completion_request(mistralrs.CompletionRequest(model="default", **arguments)))
    if path == "/chat":
        if "tool_choice" in arguments:
            arguments["tool_choice"] = getattr(mistralrs.ToolChoice, arguments["tool_choice"])
        return plain(runner.send_chat_completion_request(mistralrs.ChatCompletionRequest(model="default", **arguments)))
    if path == "/tokenize":
        return {"tokens": runner.tokenize_text(arguments["text"], False, None)}
    if path == "/detokenize":
        return {"text": runner.detokenize_text(arguments["tokens"], False)}
    raise LookupError(f"the bindings have no {path}")


class Handler(http.server.BaseHTTPRequestHandler):
    """One request to the bindings."""

    runner = None

    def do_GET(self):
        self.reply(200, {"status": "ok"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            self.reply(200, answer(self.runner, self.path, json.loads(body)))
        except Exception as error:
            status = 500 if "candle_core" in str(error) else 400  # a tensor's fault is none of the request's
            self.reply(status, {"raised": type(error).__name__, "message": str(error)})
        except BaseException as error:  # a Rust panic is no Exception
            self.reply(500, {"raised": type(error).__name__, "message": str(error)})

    def reply(self, status: int, value) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main() -> None:
    model, port = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    which = mistralrs.Which.GGUF(quantized_model_id=str(model.parent), quantized_filename=model.name)
    Handler.runner = mistralrs.Runner(which=which, token_source="none")  # on a CPU it refuses a seed
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
