"""Fail unless a type checker knows the complete type of every public name of the installed package."""

import json
import os
import subprocess
import sys
from pathlib import Path

PACKAGE = "aiohttp_session_store"


def main() -> int:
    """Run the checker over the package, and print what it finds incomplete."""
    binaries = Path(sys.executable).parent
    command = [str(binaries / "basedpyright"), "--outputjson", "--ignoreexternal", "--verifytypes", PACKAGE]
    # the checker ignores --pythonpath in this mode: it looks for packages next to the first python on the PATH
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}"}
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    completeness = json.loads(finished.stdout)["typeCompleteness"]
    score = completeness["completenessScore"]
    known = completeness["exportedSymbolCounts"]["withKnownType"]
    for symbol in completeness["symbols"]:
        if symbol["isExported"] and not symbol["isTypeKnown"]:
            print(symbol["name"], *(found["message"] for found in symbol["diagnostics"]), sep="\n    ")
    print(f"public types: {known} known, completeness {score:.0%}")
    return 0 if score == 1 and known > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
