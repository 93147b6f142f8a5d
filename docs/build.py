"""Writes the pages that are made from code, or (`--check`) says which are out of date.

python -m docs.build            # write
python -m docs.build --check    # exit 1 and name the stale pages
"""

from __future__ import annotations

import sys
from pathlib import Path

from docs.settings_page import settings_page
from edge_runtime.catalog.derived import derived_markdown
from edge_runtime.catalog.operators import operators_markdown
from edge_runtime.serving.status import Status
from edge_runtime.sync import gate
from edge_runtime.wire.conversation import TABLE
from edge_runtime.wire.refusal import CODES

HERE = Path(__file__).parent
MADE = "<!-- Made from the code by `make docs`; edit the code instead. -->\n\n"


def operators_page() -> str:
    """The tables of session operators and of derived features."""
    about = (
        "What `op` may be in a session view, and what it takes. How to use it: [features.md](features.md)."
    )
    below = "Made of other features of the same view, at the read; anything made of NULL is NULL."
    tables = f"{operators_markdown()}\n## Derived features\n\n{below}\n\n{derived_markdown()}"
    return f"# Operators\n\n{MADE}{about}\n\n{tables}"


def wire_page() -> str:
    """Refusal codes, the conversation table, and the gate's."""
    lines = ["# The device session\n", f"{MADE}## Refusals\n", "| code | whose fault | try again | meaning |"]
    lines.append("|---|---|---|---|")
    for code, meaning in CODES.items():
        retry = "yes" if meaning.retry else "no"
        lines.append(f"| `{code}` | {meaning.fault} | {retry} | {meaning.text} |")
    lines += ["\n## Who may say what, and when\n", "| state | side | message | next state |"]
    lines.append("|---|---|---|---|")
    for (side, state, message), after in TABLE.items():
        lines.append(f"| {state} | {side} | `{message.__name__}` | {after} |")
    return "\n".join(lines + _gate_lines()) + "\n"


def _gate_lines() -> list[str]:
    """What a device asks of each message before it takes it."""
    about = (
        "In any other state than those of the table above a message is refused as `out_of_turn`: the "
        "server's fault, and the session ends. A refusal changes nothing on the device."
    )
    lines = ["\n## What a device asks of a message\n", f"{about}\n"]
    lines += ["| message | refused as | when | whose fault | again | ends |", "|---|---|---|---|---|---|"]
    for kind, checks in gate.CHECKS.items():
        for c in checks:
            lines.append(
                f"| `{kind.__name__}` | `{c.code}` | {c.why} | {c.fault} | {c.again} | {c.ends.value} |"
            )
    lines += ["\n### And of a row\n", "| reason | what becomes of it |", "|---|---|"]
    return lines + [f"| {reason} | {what} |" for reason, what in gate.ROWS.items()]


def statuses_page() -> str:
    """The eight statuses."""
    lines = [f"# Statuses\n\n{MADE}Every number comes with one.\n", "| number | status |", "|---|---|"]
    lines += [f"| {status.value} | `{status.name}` |" for status in Status]
    return "\n".join(lines) + "\n"


PAGES = {
    "operators.md": operators_page,
    "settings.md": lambda: settings_page(MADE),
    "statuses.md": statuses_page,
    "wire.md": wire_page,
}


def stale() -> list[str]:
    """Names of pages whose file is not what the code says."""
    return [
        name
        for name, page in PAGES.items()
        if not (HERE / name).exists() or (HERE / name).read_text() != page()
    ]


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    if "--check" in arguments:
        for name in stale():
            print(f"docs/{name} is out of date: run `make docs`")
        return 1 if stale() else 0
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
