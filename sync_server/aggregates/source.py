"""What a metric counts, in words. Pure."""

from __future__ import annotations

from edge_runtime.catalog.hidden import hidden_table, is_hidden
from edge_runtime.catalog.model import CatalogModel, Metric


def source_text(model: CatalogModel, metric: Metric) -> str:
    """`view@1:feature`, or for a metric that counts events itself what it makes of them.

    Like `sum of price over buy, 7d`, `status of view@1:feature`; of an experiment its name.
    """
    if metric.experiment is not None:
        return f"experiment {metric.experiment}"
    read = "" if metric.read == "value" else f"{metric.read} of "
    view = model.views[metric.of.view]
    if not is_hidden(view):
        return f"{read}{metric.of}"
    body = hidden_table(view)
    event = body["event"]
    events = " ".join(event) if isinstance(event, list) else event
    value = f" of {body['value']}" if "value" in body else ""
    window = f", {body['window']}" if "window" in body else ""
    return f"{read}{body['op']}{value} over {events}{window}"
