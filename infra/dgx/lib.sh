# What the scripts share: the target's row as shell variables, and srun with the flags that training steps get.
# SLIPWAY_TARGET: the row of conf/targets/ (default dgx-h100). SLIPWAY_SET: further overrides, e.g. "target.runner.partition=batch target.nodes=2".
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
row=${SLIPWAY_TARGET:-dgx-h100}
set_more=${SLIPWAY_SET:-}

# shellcheck disable=SC2086 # overrides are words
eval "$(cd "$root" && slipway config layers.target=targets/"$row" $set_more --json | python3 -c '
import json, shlex, sys
config = json.load(sys.stdin)
target = config["target"]
runner = target["runner"]
if runner["kind"] != "slurm":
    sys.exit("target %s is reached by %s, not by Slurm. Next: set SLIPWAY_TARGET to a row with runner.kind slurm" % (target["name"], runner["kind"]))
image = config["images"][runner["image"]]
digest = image["digests"].get(target["arch"], "")
registry, slash, path = image["repository"].partition("/")
uri = registry + "#" + path if slash and set(registry) & set(".:") else image["repository"]
found = {"nodes": target["nodes"], "gpus": target["gpus"], "arch": target["arch"], "container": int(runner["container"]), "signal_s": runner["signal_s"],
         "lease_s": int(runner["lease_s"]), "time_limit": runner["time_limit"], "image": uri + ":" + digest if digest else "", "tag": image["tag"],
         "store": config["store"]["root"], "partition": runner["partition"] or "", "sm": target["compute_capability"] or ""}
found["place"] = " ".join("--%s=%s" % (k, runner[k]) for k in ("partition", "account", "qos") if runner[k])
print("\n".join("%s=%s" % (k, shlex.quote(str(v))) for k, v in found.items()))')" || exit 2
[ -n "$nodes" ] || exit 2

need_image() { [ -n "$image" ] || { echo "conf/images.yaml has no $arch digest of $tag. Next: slipway pin, and commit it" >&2; exit 1; }; }

# in_container NODES GPUS COMMAND...: one task a node, in the pinned image
in_container() {
    local n=$1 g=$2; shift 2
    # shellcheck disable=SC2086 # options are words
    srun --nodes="$n" --ntasks-per-node=1 --gpus-per-node="$g" --time=00:15:00 --job-name=slipway-validate $place \
        --container-image="$image" --container-workdir=/tmp --no-container-mount-home --no-container-entrypoint "$@"
}

# engine_image ROW: prints "CONTRACT REGISTRY#REPOSITORY:sha256:..." of an engine's row, as enroot names it, or says what is missing.
engine_image() {
    (cd "$root" && slipway config layers.serving=targets/"$row" --json) | python3 -c '
import json, sys
config, row = json.load(sys.stdin), sys.argv[1]
image = config["images"][row]
digest = image["digests"].get(config["serving"]["arch"])
if not digest:
    sys.exit("conf/images.yaml has no %s digest of %s:%s. Next: slipway pin, and commit it" % (config["serving"]["arch"], image["repository"], image["tag"]))
registry, slash, path = image["repository"].partition("/")
uri = registry + "#" + path if slash and set(registry) & set(".:") else image["repository"]
print(image["contract"], uri + ":" + digest)' "$1"
}
