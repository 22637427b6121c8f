# What the scripts share: the pinned image of the row `spark`, and the flags that training containers get.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
folder=${SLIPWAY_ROOT:-$HOME/slipway}

# Prints repository@sha256:... or says that it is not pinned yet.
image() {
  (cd "$root" && slipway config layers.target=targets/spark --json) | python3 -c '
import json, sys
config = json.load(sys.stdin)
image = config["images"][config["target"]["runner"]["image"]]
digest = image["digests"].get(config["target"]["arch"])
sys.exit("conf/images.yaml has no arm64 digest of %s:%s. Next: slipway pin, and commit it" % (image["repository"], image["tag"])) if not digest else print(image["repository"] + "@" + digest)'
}

in_container() { docker run --rm --init --gpus all --ipc=host --ulimit memlock=-1 --ulimit stack=67108864 -e HF_HUB_OFFLINE=1 --label slipway.stage=validate "$@"; }

# engine_image ROW: prints "CONTRACT REPOSITORY@sha256:..." of an engine's row, or says what is missing.
engine_image() {
  (cd "$root" && slipway config layers.serving=targets/spark --json) | python3 -c '
import json, sys
config, row = json.load(sys.stdin), sys.argv[1]
image = config["images"][row]
digest = image["digests"].get("arm64")
if not digest:
    sys.exit("conf/images.yaml has no arm64 digest of %s:%s. Next: slipway pin, and commit it" % (image["repository"], image["tag"]))
print(image["contract"], image["repository"] + "@" + digest)' "$1"
}
