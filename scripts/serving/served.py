"""A server that a show starts, asks and watches: what the scripts in this folder share. Not a program by itself.

`Server` runs ananke-serve on a free port of loopback. `ask` is one request with its whole reply. `Wire` is one request
whose reply is read without waiting, so that one thread can read hundreds of streams; `read_stream` makes tokens of what
came. Only the standard library is needed.
"""

import dataclasses
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
from typing import Any, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SECONDS_TO_START = 300
SECONDS_TO_STOP = 120
SECONDS_PER_REQUEST = 900


def default_server() -> str:
    return os.environ.get("ANANKE_SERVE", str(ROOT / "target/release/ananke-serve"))


class Server:
    """A running ananke-serve; use as a context. Its log is kept in a file until the end.

    `prefix` is a command that becomes the server, such as `strace -D`, so that the process is the server's.
    """

    def __init__(
        self,
        binary: str,
        flags: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
    ):
        self.command = [*prefix, binary, "--port", "0", "--offline", *flags]
        self.environment = {**os.environ, **(environment or {})}

    def __enter__(self) -> "Server":
        self.log_file = tempfile.NamedTemporaryFile("w+", suffix=".log")
        self.out_file = tempfile.NamedTemporaryFile("w+", suffix=".out")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.out_file, stderr=self.log_file, env=self.environment
        )
        deadline = time.monotonic() + SECONDS_TO_START
        listening = re.compile(r"listening on http://([\d.]+):(\d+)")
        while not (found := listening.search(pathlib.Path(self.out_file.name).read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                sys.exit(f"the server did not start: {' '.join(self.command)}\n{self.log()[-4000:]}")
            time.sleep(0.05)
        self.host, self.port = found[1], int(found[2])
        return self

    def __exit__(self, *_) -> None:
        self.kill()
        self.log_file.close()
        self.out_file.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Asks it to stop; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=SECONDS_TO_STOP)

    def log(self) -> str:
        return pathlib.Path(self.log_file.name).read_text(errors="replace")

    def ask(self, method: str, path: str, value: Any = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
        return ask((self.host, self.port), method, path, value, headers)

    def metrics(self, headers: dict[str, str] | None = None) -> dict[str, float]:
        """Every sample of /metrics by its name with labels."""
        status, text = self.ask("GET", "/metrics", headers=headers)
        assert status == 200, (status, text[:300])
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def health(self) -> dict[str, Any]:
        return json.loads(self.ask("GET", "/health")[1])

    def settle(self, seconds: float = 120) -> dict[str, Any]:
        """Waits until no sequence runs and every block is free; what /health said last, which the caller judges."""
        deadline = time.monotonic() + seconds
        while True:
            health = self.health()
            is_free = health["blocks_free"] == health["blocks_total"]
            is_idle = is_free and not health["running"] and not health["waiting"]
            if is_idle or time.monotonic() > deadline:
                return {**health, "settled": is_idle}
            time.sleep(0.1)

    def resident_bytes(self) -> int:
        return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{self.pid}/status").read_text())[1]) << 10

    def cpu_seconds(self) -> float:
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(
    address: tuple[str, int], method: str, path: str, value: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    """Status and whole body of a request; `value` is sent as JSON."""
    connection = http.client.HTTPConnection(*address, timeout=SECONDS_PER_REQUEST)
    try:
        body = None if value is None else json.dumps(value).encode()
        connection.request(method, path, body=body, headers={"content-type": "application/json", **(headers or {})})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def post_bytes(path: str, body: bytes, key: str | None = None, more: str = "") -> bytes:
    """A POST request as it goes over the wire; the connection stays open after it."""
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{authorization}{more}content-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def get_bytes(path: str, key: str | None = None) -> bytes:
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n{authorization}\r\n".encode()


class Wire:
    """One connection, and the reply on it, read without waiting."""

    def __init__(self, address: tuple[str, int], receive_bytes: int | None = None):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(SECONDS_PER_REQUEST)
        self.socket.connect(address)
        self.socket.setblocking(False)
        self.received = bytearray()
        self.has_ended = False

    def send(self, data: bytes) -> None:
        """Sends a request; requests here are smaller than the system's buffers, so this does not wait."""
        self.received = bytearray()
        self.socket.sendall(data)

    def receive(self, most: int = 1 << 18) -> int:
        """Takes what is there; the number of bytes, 0 at the end of the connection."""
        try:
            data = self.socket.recv(most)
        except BlockingIOError:
            return -1
        except OSError:
            data = b""
        self.received += data
        self.has_ended |= not data
        return len(data)

    def is_whole(self) -> bool:
        """Whether the reply is there to its end. JSON has no bare line breaks, so nothing else ends so."""
        head_end = self.received.find(b"\r\n\r\n")
        if head_end < 0:
            return False
        length = re.search(rb"\r\ncontent-length: (\d+)\r\n", self.received[: head_end + 2])
        if length:
            return len(self.received) >= head_end + 4 + int(length[1])
        return self.received.endswith(b"\r\n0\r\n\r\n")

    def status(self) -> int:
        found = re.match(rb"HTTP/1\.1 (\d{3})", self.received)
        return int(found[1]) if found else 0

    def body(self) -> bytes:
        """The reply's body without its chunks' sizes."""
        head, _, rest = bytes(self.received).partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head:
            return rest
        pieces, place = [], 0
        while (end := rest.find(b"\r\n", place)) >= 0:
            size = int(rest[place:end], 16)
            pieces.append(rest[end + 2 : end + 2 + size])
            place = end + 4 + size
        return b"".join(pieces)

    def close(self, abruptly: bool = False) -> None:
        if abruptly:  # an RST, as of a process that died
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


@dataclasses.dataclass
class Answer:
    """What a stream came to: of each choice the tokens with their log-probabilities, the text, and why it ended."""

    id: str = ""
    tokens: dict[int, list[tuple[str, float]]] = dataclasses.field(default_factory=dict)
    texts: dict[int, str] = dataclasses.field(default_factory=dict)
    reasons: dict[int, str] = dataclasses.field(default_factory=dict)
    is_done: bool = False
    error: str = ""
    other_id: str = ""  # of another reply, whose chunk came in this stream

    def is_same(self, other: "Answer") -> bool:
        """Token for token with each log-probability, and the same text and end; the id is each one's own."""
        return (self.tokens, self.texts, self.reasons) == (other.tokens, other.texts, other.reasons)

    def begins(self, other: "Answer") -> bool:
        """Whether this is what a client has of `other` that leaves before its end."""
        return all(
            other.texts[index].startswith(text) and other.tokens[index][: len(self.tokens[index])] == self.tokens[index]
            for index, text in self.texts.items()
        )

    def num_tokens(self) -> int:
        return sum(map(len, self.tokens.values()))


def read_stream(body: bytes) -> Answer:
    """The answer in the events of a stream of completions or of chat completions."""
    answer = Answer()
    for event in body.split(b"\n\n"):
        if event.startswith(b"event: error"):
            answer.error = event.decode(errors="replace")[:300]
        elif event == b"data: [DONE]":
            answer.is_done = True
        elif event.startswith(b"data: "):
            _take(answer, json.loads(event[6:]))
    return answer


def _take(answer: Answer, chunk: dict[str, Any]) -> None:
    if answer.id not in ("", chunk["id"]):
        answer.other_id = answer.id
    answer.id = chunk["id"]
    for choice in chunk["choices"]:
        index, logprobs = choice["index"], choice.get("logprobs") or {}
        text = _text(choice)
        answer.texts[index] = answer.texts.get(index, "") + text
        pairs = list(zip(logprobs.get("tokens") or [], logprobs.get("token_logprobs") or []))
        pairs += [(str(token["bytes"]), token["logprob"]) for token in logprobs.get("content") or []]
        answer.tokens.setdefault(index, []).extend(pairs)
        if choice["finish_reason"]:
            answer.reasons[index] = choice["finish_reason"]


def _text(choice: dict[str, Any]) -> str:
    """The text of a piece; of a call of a tool its name and arguments, since its id is each reply's own."""
    if "text" in choice:
        return choice["text"]
    calls = [call["function"] for call in choice["delta"].get("tool_calls") or []]
    return (choice["delta"].get("content") or "") + "".join(
        call.get("name", "") + call.get("arguments", "") for call in calls
    )


def new_key(ananke: pathlib.Path, name: str, scopes: str, **limits: int) -> tuple[str, str]:
    """A fresh API key, and its entry for the server's file of keys."""
    command = [ananke, "keys", "new", "--name", name, "--scopes", scopes]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    entry = made.stdout + "".join(f"{field} = {limit}\n" for field, limit in limits.items())
    return re.search(r"ananke_[0-9a-f]{64}", made.stderr)[0], entry


def machine_jiffies() -> tuple[int, int]:
    """Busy and all CPU time of the machine so far, in the clock's ticks."""
    ticks = [int(field) for field in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def table(rows: list[tuple[Any, ...]]) -> str:
    """Rows of one width, as Markdown; the first is the head."""
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


class Claims:
    """What a show claims, each with what was found; the last words of a script."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = [("claim", "found", "holds")]

    def add(self, claim: str, found: Any, holds: bool) -> None:
        self.rows.append((claim, str(found), "yes" if holds else "**NO**"))
        if not holds:
            print(f"does not hold: {claim}: {found}", file=sys.stderr, flush=True)

    def finish(self) -> int:
        """Prints all; the exit status."""
        print(table(self.rows))
        return int(any(row[2] == "**NO**" for row in self.rows))
