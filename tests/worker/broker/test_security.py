"""What every Kafka client is made with."""

import pytest

from worker.refusal import Refusal
from worker.settings.kafka import Kafka

SECRET = "hunter2"


@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")
def test_a_client_option_that_no_client_knows_is_refused_by_name_and_its_value_not_shown() -> None:
    from worker.broker.security import client_options

    kafka = Kafka(client_options={"nonsense": SECRET, "send_buffer_bytes": 1})
    with pytest.raises(Refusal) as caught:
        client_options(kafka)
    assert str(caught.value) == (
        "kafka.client_options cannot be used: kafka-python has no such client options: nonsense; correct them, or "
        "leave them out"
    )


@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")
def test_a_client_gets_the_settings_and_of_the_options_what_its_class_knows() -> None:
    from kafka import KafkaAdminClient, KafkaConsumer

    from worker.broker.security import client_options

    kafka = Kafka(
        bootstrap_servers="a:1,b:2",
        instance_id="one",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="u",
        sasl_password=SECRET,
        client_options={"check_crcs": False},
    )
    consumer, admin = client_options(kafka, KafkaConsumer), client_options(kafka, KafkaAdminClient)
    assert consumer["bootstrap_servers"] == ["a:1", "b:2"]
    assert consumer["client_id"] == admin["client_id"] == "foldcast-one"
    assert consumer["sasl_plain_password"] == SECRET
    assert consumer["check_crcs"] is False
    assert "check_crcs" not in admin
