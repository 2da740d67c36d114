#!/usr/bin/env python3
"""Runs llama.cpp's own HTTP server, as the wheel xllamacpp has it compiled in.

usage: llamacpp_server.py MODEL.gguf PORT API_KEY THREADS CONTEXT_TOKENS SLOTS
"""

import sys
import threading

import xllamacpp


def main() -> None:
    model, port, key, threads, context, slots = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], int(port), [key]
    params.n_ctx, params.n_parallel = int(context), int(slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.endpoint_metrics = params.endpoint_slots = params.offline = True
    server = xllamacpp.Server(params)
    print(f"listening on {server.listening_address}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
