"""`autopeft schema`: the JSON Schema of study.yaml, for editors."""

from __future__ import annotations

import json

from autopeft.cli.console import Output, verb


@verb
def schema(out: Output) -> None:
    """Print the JSON Schema of study.yaml.

    Editors complete and check a spec by it.
    """
    from autopeft.spec import json_schema

    content = json_schema()
    out.result(content, json.dumps(content, indent=2, ensure_ascii=False))
