"""The Helm chart, rendered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = str(Path(__file__).parents[2] / "deploy" / "helm" / "lm-search")


def rendered(values: Mapping[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    """The manifests of the chart, installed under a name."""
    with helm_python.Chart.load(CHART) as chart:
        files = chart.render(values=dict(values), name=name, namespace="ns")
    manifests = [text for path, text in files.items() if path.endswith(".yaml")]
    return [each for text in manifests for each in yaml.safe_load_all(text) if each]
