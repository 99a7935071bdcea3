"""One file a command: its arguments, its main, its example. A command's module is imported when it is chosen."""

COMMANDS = {  # a module of this folder, with _ for -, and what the command does
    "check": "see whether a worker could start, before it joins its group",
    "run": "the worker, until SIGTERM or Ctrl-C",
    "topics": "make, verify, or start the changelog anew",
    "inspect": "what the changelog holds, or one stream's state, while workers run",
    "dead-letters": "records that were no events: list, show, or send them again",
    "replay": "a stretch of the input again, beside what was published; why one forecast is what it is",
    "backtest": "the same engine over a file, no Kafka",
    "pretrain": "weights to begin with, learnt from history",
    "demo": "local Kafka, real data, two workers, a summary",
    "schemas": "what records and answers look like, as JSON Schemas, AsyncAPI and OpenAPI",
    "warm": "compile the kernels, so that no worker has to",
}
