"""quixstreams, exactly once: the state of a stream as bytes in its store (RocksDB, with a changelog)."""

import tempfile

import gru
from quixstreams import Application, State, message_context


def forecast(event: bytes, state: State) -> bytes:
    at = message_context()
    record_id = f"{at.topic}-{at.partition}-{at.offset}"
    body, hidden = gru.forecast(event, gru.unpacked(state.get_bytes("hidden")), record_id)
    state.set_bytes("hidden", gru.packed(hidden))
    return body


with tempfile.TemporaryDirectory() as folder:
    app = Application(
        broker_address=gru.BOOTSTRAP,
        consumer_group=gru.GROUP,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=gru.COMMIT_S,
        state_dir=folder,
        consumer_extra_config={"session.timeout.ms": gru.SESSION_S * 1000},
        loglevel="WARNING",
    )
    events = app.topic(gru.INPUT, value_deserializer="bytes", key_deserializer="bytes")
    forecasts = app.topic(gru.OUTPUT, value_serializer="bytes", key_serializer="bytes")
    app.dataframe(events).apply(forecast, stateful=True).to_topic(forecasts)
    app.run()
