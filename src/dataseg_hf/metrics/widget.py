"""The page of a metric's Space: inputs as JSON, computed by its `evaluate` module."""

import json
from typing import Any

import evaluate
import gradio as gr

from .report import as_json


def metric_page(metric: evaluate.Metric, example: dict[str, Any]) -> gr.Blocks:
    """A page that calls `metric.compute` with one JSON object of its arguments; `example` is there
    to begin with.
    """

    def score(arguments: str) -> Any:
        try:
            result = metric.compute(**json.loads(arguments))
        except (ValueError, TypeError, KeyError) as error:
            raise gr.Error(f"{type(error).__name__}: {error}", print_exception=False) from error
        return json.loads(as_json(result))

    with gr.Blocks(title=metric.name) as page:
        gr.Markdown(f"# {metric.name}\n{metric.description}\n```{metric.inputs_description}```")
        with gr.Row():
            arguments = gr.Code(
                json.dumps(example, indent=1), language="json", label="Arguments of compute"
            )
            result = gr.JSON(label="Result")
        gr.Button("Compute", variant="primary").click(score, arguments, result, api_name="score")
    return page
