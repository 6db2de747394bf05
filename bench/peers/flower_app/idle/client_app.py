"""A site: it sends the model back as its own; Flower starts a process for each message."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer at once."""
    content = RecordDict(
        {
            "arrays": message.content["arrays"],
            "metrics": MetricRecord({"num-examples": 100, "loss": 1.0}),
        }
    )
    return Message(content=content, reply_to=message)
