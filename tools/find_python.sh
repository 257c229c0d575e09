#!/usr/bin/env bash
# ./find_python.sh [PYTHON]
# Prints PYTHON, or else a Python 3.12 or 3.13 (ESPnet's) of PATH, pyenv or uv.
set -u

fits() {
    # A name on PATH may be a shim that cannot run; Debian has a package of its own for ensurepip.
    "$1" -c 'import ensurepip, sys; sys.exit(sys.version_info[:2] not in ((3, 12), (3, 13)))' \
        2>/dev/null
}

if [ -n "${1:-}" ]; then
    fits "$1" && echo "$1" && exit
    echo "$1 is not Python 3.12 or 3.13 with ensurepip, which espnet needs; name another one:" \
        "make -C tools PYTHON=/path/to/python3.12" >&2
    exit 1
fi
pyenv=${PYENV_ROOT:-$(pyenv root 2>/dev/null || echo ~/.pyenv)}
for python in python3.12 python3.13 "${pyenv}"/versions/3.1[23]*/bin/python3.1[23] \
    "$(uv python find --system '>=3.12,<3.14' 2>/dev/null)"; do
    fits "${python}" && command -v "${python}" && exit
done
echo "No Python 3.12 or 3.13 with ensurepip on PATH, of pyenv or of uv. Install one, e.g. the" \
    "packages python3.12 and python3.12-venv, or by \`pyenv install 3.12\` or" \
    "\`uv python install 3.12\`, or name it: make -C tools PYTHON=/path/to/python3.12" >&2
exit 1
