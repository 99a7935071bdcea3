"""The group member and its producer by librdkafka (confluent-kafka); what costs no event stays with kafka-python."""
