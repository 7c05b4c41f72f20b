# Makes $VENV with the locked requirements of $LOCK and the project, then writes $STAMP. Called by the Makefile.
set -eu

fail() {
    echo "error: $*" >&2
    exit 1
}

command -v "$PYTHON" >/dev/null || fail "there is no '$PYTHON'; name your Python 3.11 or newer: make PYTHON=/path/to/python3"
version=$("$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || fail "'$PYTHON' does not run"
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$PYTHON' is Python $version, needed is 3.11 or newer: make PYTHON=/path/to/python3"
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "'$PYTHON' lacks the modules venv and ensurepip (on Debian and Ubuntu: the package python3-venv)"

began=$(date +%s)
echo "Setting up $VENV with Python $version, once ..."
# An environment made by another Python, moved or left half done is made anew.
if [ ! -e "$STAMP" ] || ! "$VENV/bin/python" -c '' 2>/dev/null; then
    "$PYTHON" -m venv --clear "$VENV"
fi
pip="$VENV/bin/python -m pip --quiet --disable-pip-version-check --no-input"
uv=$(grep -o '^uv==[^ ]*' "$LOCK")

# uv takes seconds where pip takes a minute; where it cannot work (no wheel, a mirror known to pip only), pip can.
if ! { $pip install "$uv" &&
    "$VENV/bin/uv" --quiet pip sync --system-certs --python "$VENV/bin/python" --compile-bytecode --require-hashes "$LOCK"; }; then
    echo "uv could not install the requirements; trying pip, which takes longer ..."
    $pip install --require-hashes --requirement "$LOCK" || fail "the requirements cannot be installed, see above"
fi
$pip install --no-deps --no-build-isolation --editable . || fail "the project cannot be installed, see above"
touch "$STAMP"
echo "Ready after $(($(date +%s) - began)) s."
