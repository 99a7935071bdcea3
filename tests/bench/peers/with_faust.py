"""faust-streaming, exactly once: the state of a stream as bytes in a table in memory (with a changelog)."""

import os
import signal
import tempfile

import faust
import gru

PARTITIONS = int(os.environ["PARTITIONS"])

app = faust.App(
    gru.GROUP,
    broker=f"kafka://{gru.BOOTSTRAP}",
    store="memory://",
    datadir=tempfile.mkdtemp(),
    processing_guarantee="exactly_once",
    topic_partitions=PARTITIONS,
    consumer_auto_offset_reset="earliest",
    broker_session_timeout=gru.SESSION_S,
    broker_commit_interval=gru.COMMIT_S,
    web_enabled=False,
)
events = app.topic(gru.INPUT, value_serializer="raw", key_serializer="raw")
forecasts = app.topic(gru.OUTPUT, value_serializer="raw", key_serializer="raw")
states = app.Table("hidden", key_type=bytes, value_type=bytes, partitions=PARTITIONS)


@app.agent(events)
async def forecast(stream):
    async for event in stream.events():
        at = event.message
        record_id = f"{at.topic}-{at.partition}-{at.offset}"
        body, hidden = gru.forecast(event.value, gru.unpacked(states.get(event.key)), record_id)
        states[event.key] = gru.packed(hidden)
        await forecasts.send(key=event.key, value=body, partition=at.partition)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    app.finalize()
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
