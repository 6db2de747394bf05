#!/usr/bin/env bash
# Gathers everything that an installation without internet needs into one folder of wheels.
#
#   deploy/bundle.sh site|coordinator FOLDER [pip's options, such as --platform ... --python-version ...]
#
# Run it on a machine with internet; carry the folder over; docs/how-to/install.md says the rest.
# PYTHON names the Python to use, SOURCE the project (default: the one that this script is in).
set -euo pipefail

if [ $# -lt 2 ] || { [ "$1" != site ] && [ "$1" != coordinator ]; }; then
  echo "usage: deploy/bundle.sh site|coordinator FOLDER [options of pip download]" >&2
  exit 2
fi
extra=$1 folder=$2
shift 2
python=${PYTHON:-python3}
source=${SOURCE:-$(cd "$(dirname "$0")/.." && pwd)}

if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
  echo "bundle: $folder is not empty. Nothing was done. Name a new folder." >&2
  exit 1
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

echo "bundle: building hospitium from $source" >&2
copy=$(mktemp -d)  # so that nothing of an earlier build gets in, and none is left behind
trap 'rm -rf "$copy"' EXIT
find "$source" -maxdepth 1 -type f -exec cp {} "$copy" \;
cp -R "$source/src" "$copy/src"
rm -rf "$copy"/src/*.egg-info
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" "$copy"
wheel=$(cd "$folder" && ls hospitium-*.whl)

echo "bundle: fetching what hospitium[$extra] needs, in the versions of constraints.txt" >&2
cp "$source/constraints.txt" "$folder/constraints.txt"
"$python" -m pip download --quiet --only-binary :all: -c "$folder/constraints.txt" \
  --dest "$folder" "$@" "$folder/$wheel[$extra]"

cd "$folder"
sha256sum -- *.whl constraints.txt >SHA256SUMS
echo "bundle: $(ls -- *.whl | wc -l) wheels, $(du -sm . | cut -f1) MB in $folder" >&2
echo "bundle: sign SHA256SUMS, or read its own digest over the telephone:" >&2
sha256sum SHA256SUMS
